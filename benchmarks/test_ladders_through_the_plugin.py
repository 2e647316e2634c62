"""Whether a collapse at a known step is found through all of it: pytest, agent, client, server.

The search alone is judged by test_bench_ceiling.py; here its trials are real tasks over HTTP, and
workers must change nothing.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from budgets import Ledger, Row
from pytest_agentlimit.example_suites.limits.oracles import solve
from pytest_agentlimit.example_suites.limits.oracles.conversation import heading, prompt

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, raw, say

LEVELS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
RUNGS = (0, *LEVELS)
STEPS = RUNGS[:-1]
MODELS = [f"falls-after-{step}" for step in STEPS]
LISTED = {"data": [{"id": name, "owned_by": "scripted"} for name in MODELS]}
CLIMBS_OF_EACH = 10
BELOW, ABOVE = 0.97, 0.05
CLIMBS = f"""
import pytest
from pytest_agentlimit.ladders.toolbox import Toolbox

@pytest.mark.parametrize("number", range({CLIMBS_OF_EACH}))
def test_climb(climb, number):
    climb(Toolbox(levels={LEVELS}))
"""

Trial = tuple[int, int, str, str | None]
"""The number, level, outcome and failure mode of one trial."""


class Session(NamedTuple):
    """What one session of pytest left: the trials of each climb, and where it saw the ceiling."""

    trials: dict[str, list[Trial]]
    ceilings: list[tuple[str, str, int]]
    """The model, the climb and its ceiling."""


def wavering(request: ChatRequest) -> Scripted:
    """Solve .97 of the tasks up to the step in the model's name, and .05 of those above it.

    It depends on the task and the model alone, so that a run can be repeated.
    """
    task = heading(request)
    assert task is not None
    step = int(request.model.rpartition("-")[2])
    draw = hashlib.sha256(f"{request.model} {prompt(request)}".encode()).digest()
    chance = BELOW if task.level <= step else ABOVE
    right = int.from_bytes(draw[:4], "big") < chance * 2**32
    return solve(request) if right else say("The answer is 0.")


def run_session(
    server: ScriptedEndpoint, folder: Path, environment: dict[str, str], workers: Sequence[str]
) -> Session:
    """Climb with a model for each step, several times each, in one session of pytest."""
    folder.mkdir()
    (folder / "test_climbs.py").write_text(CLIMBS)
    address = server.spec.partition("#")[0]
    models = ",".join(f"{address}#{name}" for name in MODELS)
    argv = [sys.executable, "-m", "pytest", "-p", "pytest_agentlimit.plugin", *workers, "-q"]
    argv += [f"--agent-model={models}", "--agent-seed=5", "--agent-preflight=off"]
    subprocess.run(
        [*argv, "--agent-report=json:out.json"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return Session(trials_in(folder), ceilings_in(json.loads((folder / "out.json").read_text())))


def trials_in(folder: Path) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = defaultdict(list)
    (journal,) = folder.glob(".agentlimit/runs/*/journal.jsonl")
    for line in map(json.loads, journal.read_text().splitlines()):
        if line["kind"] == "rung":
            rung = line["rung"]
            trial = rung["number"], rung["level"], rung["outcome"], rung["mode"]
            found[line["nodeid"]].append(trial)
    return {nodeid: sorted(trials) for nodeid, trials in found.items()}


def ceilings_in(report: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [
        (model["name"], ladder["id"], ladder["ceiling"])
        for model in report["models"]
        for ladder in model["ladders"]
    ]


def test_a_collapse_is_found_through_the_whole_plugin(
    benchmark: Any, ledger: Ledger, tmp_path: Path, only_our_plugin: dict[str, str]
) -> None:
    def both() -> tuple[Session, Session]:
        listing = {"/v1/models": raw(json.dumps(LISTED).encode())}
        with ScriptedEndpoint(wavering, routes=listing) as server:
            alone = run_session(server, tmp_path / "alone", only_our_plugin, ())
            spread = run_session(server, tmp_path / "two", only_our_plugin, ("-p", "xdist", "-n2"))
            assert not server.problems
        return alone, spread

    alone, spread = benchmark.pedantic(both, rounds=1)
    climbs = len(alone.ceilings)
    assert climbs == len(STEPS) * CLIMBS_OF_EACH
    off = [
        abs(RUNGS.index(ceiling) - RUNGS.index(int(model.rpartition("-")[2])))
        for model, _, ceiling in alone.ceilings
    ]
    what = f"ladder over HTTP, {len(STEPS)} steps × {CLIMBS_OF_EACH} climbs"
    near = sum(rungs <= 1 for rungs in off)
    ledger.share(f"{what}: within one rung", near, climbs, 88, at_least=True)
    ledger.mean(f"{what}: error", off, "rungs")
    ledger.mean(f"{what}: trials", [len(trials) for trials in alone.trials.values()], "trials")
    same = sum(spread.trials.get(nodeid) == trials for nodeid, trials in alone.trials.items())
    if sorted(alone.ceilings) != sorted(spread.ceilings):
        same = 0
    ledger.share(f"{what}: the same trials with -n 2", same, climbs, 100, at_least=True)
    took = sum(benchmark.stats.stats.data)
    ledger.rows.append(Row(f"{what}: time of both sessions", took, "s", 90, 1))

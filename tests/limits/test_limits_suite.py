from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_agentlimit.example_suites.limits import scripted, test_limits, test_load
from pytest_agentlimit.example_suites.limits.oracles import collapsing, solve

from pytest_agentlimit.plugin.markers import read_markers
from pytest_agentlimit.testing import ScriptedEndpoint, raw

PACKAGE = "pytest_agentlimit.example_suites.limits"
README = Path(__file__).parents[2] / "example_suites" / "limits" / "README.md"
LADDERS = ["dag", "ledger", "chain", "recovery", "toolbox", "fanout", "schema", "haystack"]
FOURTH_LEVELS = {
    "Dag": 4,
    "Ledger": 4,
    "Chain": 4,
    "Recovery": 4,
    "Toolbox": 8,
    "Fanout": 4,
    "Schema": 4,
    "Haystack": 8,
}
Run = Callable[..., tuple[pytest.RunResult, dict[str, Any]]]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs checks in a project of its own; gives the result and the report."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly -p no:cacheprovider -p no:asyncio")

    def start(*arguments: str) -> tuple[pytest.RunResult, dict[str, Any]]:
        more = ("--agent-preflight=off", "--agent-seed=5", "--agent-report=json:out.json")
        result = pytester.runpytest(*arguments, *more)
        return result, json.loads((pytester.path / "out.json").read_text())

    return start


def name_of(ladder: dict[str, Any]) -> str:
    return str(ladder["id"]).rpartition("test_")[2]


def ceilings(report: dict[str, Any]) -> dict[str, int]:
    (model,) = report["models"]
    return {name_of(ladder): ladder["ceiling"] for ladder in model["ladders"]}


def test_a_perfect_model_reaches_the_top_of_every_ladder(
    pytester: pytest.Pytester, run: Run
) -> None:
    lines = []
    for kind in FOURTH_LEVELS:
        name = kind.lower()
        lines += [
            f"from pytest_agentlimit.ladders.{name} import {kind}",
            f"def test_{name}(climb): climb({kind}(), levels={kind}().levels[:4])",
        ]
    pytester.makepyfile("\n".join(lines))
    with ScriptedEndpoint(solve) as server:
        result, report = run(f"--agent-model={server.spec}", "--agent-shape=agent")
    result.assert_outcomes(passed=len(LADDERS))
    assert server.problems == []
    assert ceilings(report) == {kind.lower(): top for kind, top in FOURTH_LEVELS.items()}


def test_a_collapse_after_four_is_the_ceiling_of_every_ladder(run: Run) -> None:
    with ScriptedEndpoint(collapsing(4)) as server:
        suite = ("--pyargs", f"{PACKAGE}.test_limits")
        result, report = run(*suite, f"--agent-model={server.spec}", "--agent-gate=off")
    result.assert_outcomes(passed=len(LADDERS))
    assert ceilings(report) == dict.fromkeys(LADDERS, 4)
    for ladder in report["models"][0]["ladders"]:
        assert ladder["shape"] == "cliff", ladder["id"]
        assert ladder["first_failure_mode"] == "no_tool_call", ladder["id"]
        assert set(ladder["blame"]) == {"model"}, ladder["id"]


def test_no_ladder_is_vacuous(run: Run) -> None:
    result, report = run("--pyargs", PACKAGE, "--agent-audit", "-rs")
    assert result.ret == 0
    result.assert_outcomes(xfailed=9 * len(LADDERS), skipped=9)
    result.stdout.fnmatch_lines(
        ["audit *8 checks against 9 null models*", "vacuous *none*", "SKIPPED*has no server*"]
    )
    for model in report["models"]:
        assert {ladder["ceiling"] for ladder in model["ladders"]} == {0}


STEPS = (0, 1, 2, 3, 6, 12, 16, 24)
CLIMBS = """
from pytest_agentlimit.ladders.toolbox import Toolbox

def test_climb(climb):
    climb(Toolbox(levels=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32)))
"""


def trials_in(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the trials of each climb of the last run, in the order of their numbers."""
    *_, journal = sorted(folder.glob(".agentlimit/runs/*/journal.jsonl"))
    found: dict[str, list[tuple[Any, ...]]] = {}
    for line in map(json.loads, journal.read_text().splitlines()):
        if line["kind"] == "rung":
            rung = line["rung"]
            trial = rung["number"], rung["level"], rung["outcome"], rung["mode"]
            found.setdefault(line["nodeid"], []).append(trial)
    return {nodeid: sorted(trials) for nodeid, trials in found.items()}


def test_the_step_of_a_collapse_is_found_and_workers_change_nothing(
    pytester: pytest.Pytester, run: Run
) -> None:
    names = [f"falls-after-{step}" for step in STEPS]
    listing = json.dumps({"data": [{"id": name, "owned_by": "scripted"} for name in names]})
    pytester.makepyfile(CLIMBS)
    with ScriptedEndpoint(
        lambda request: collapsing(int(request.model.rpartition("-")[2]))(request),
        routes={"/v1/models": raw(listing.encode())},
    ) as server:
        address = server.spec.partition("#")[0]
        models = ",".join(f"{address}#{name}" for name in names)
        seen = []
        for workers in ("-n0", "-n2"):
            result, report = run(workers, f"--agent-model={models}")
            result.assert_outcomes(passed=len(STEPS))
            found = {model["name"]: model["ladders"][0]["ceiling"] for model in report["models"]}
            assert found == dict(zip(names, STEPS, strict=True))
            seen.append(trials_in(pytester.path))
    assert len(seen[0]) == len(STEPS)
    assert seen[0] == seen[1]


def test_the_scripted_model_can_be_tried_from_a_shell(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:cacheprovider -p no:asyncio")
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    result = pytester.run(sys.executable, "-m", f"{PACKAGE}.scripted", "2", "8", "-k", "toolbox")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["collapses-after-2 ·*", "toolbox * 2 *", "collapses-after-8 ·*", "toolbox * 8 *"]
    )


@pytest.mark.parametrize("arguments", [[], ["six"], ["-1"]])
def test_a_step_that_is_none_is_an_error_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert scripted.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "such as 6" in line


def test_the_readme_has_the_ladders_as_they_are() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in README.read_text().splitlines()
        if line.startswith("| ")
    ]
    shown = [row[:3] for row in rows if len(row) == 7 and row[0] in (*LADDERS, "load")]
    expected = []
    for name in (*LADDERS, "load"):
        check = getattr(test_load if name == "load" else test_limits, f"test_{name}")
        found = read_markers(check.pytestmark, name)
        expected.append([name, found.capability, f"{found.weight:g}"])
    assert shown == expected

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent_run import AgentRun
from filelock import FileLock
from steady_model import CHECKS, steady, timeless

from pytest_agentlimit.testing import ScriptedEndpoint, http_error, say

KILLS = 20
TRIALS = 6
COLLECTED = 4 * TRIALS + 2 * 3
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(scope="module")
def slow_server() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(steady(0.01)) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def uninterrupted(slow_server: ScriptedEndpoint, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The summary of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "test_checks.py").write_text(CHECKS)
    process = start_in(folder, slow_server)("-n0")
    assert process.wait() == 1
    return timeless(folder / "out.json")


@pytest.fixture
def start(pytester: pytest.Pytester, slow_server: ScriptedEndpoint) -> Start:
    """Start pytest as a process of its own on the checks of the steady model."""
    (pytester.path / "test_checks.py").write_text(CHECKS)
    return start_in(pytester.path, slow_server)


def start_in(folder: Path, server: ScriptedEndpoint) -> Start:
    plugins = [
        word for name in ("randomly", "cacheprovider", "asyncio") for word in ("-p", f"no:{name}")
    ]

    def start(*args: str) -> subprocess.Popen[bytes]:
        model = [] if any("resume" in arg for arg in args) else [f"--agent-model={server.spec}"]
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *plugins, "--agent-seed=7", f"--agent-trials={TRIALS}",
             "--agent-report=json:out.json", "--tb=no", "-q", *model, *args],
            cwd=folder,
            env=os.environ | {"HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    return start


def journal_of(folder: Path) -> Path | None:
    (found,) = list(folder.glob(".agentlimit/runs/*/journal.jsonl")) or [None]
    return found


def kill_at(process: subprocess.Popen[bytes], folder: Path, lines: int, after_s: float) -> int:
    """Kill pytest when its journal has so many lines, and a moment later than that."""
    while process.poll() is None:
        journal = journal_of(folder)
        if journal is not None and journal.read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.002)
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    return process.wait()


@pytest.mark.parametrize("point", range(KILLS))
def test_a_run_killed_anywhere_and_resumed_ends_as_if_nothing_had_happened(
    pytester: pytest.Pytester, start: Start, uninterrupted: str, point: int
) -> None:
    rng = random.Random(point)
    before, after = ("-n2" if point % 5 == 2 else "-n0"), ("-n2" if point % 5 == 4 else "-n0")
    lines = rng.randrange(1, COLLECTED - 8)
    assert kill_at(start(before), pytester.path, lines, rng.uniform(0, 0.02)) == -signal.SIGKILL
    journal = journal_of(pytester.path)
    assert journal is not None
    if point % 3 == 0:  # power loss: the last line reached the disk in part
        with journal.open("r+b") as file:
            file.truncate(max(1, journal.stat().st_size - rng.randrange(1, 200)))
    if point % 4 == 1:  # and killed again
        kill_at(start(after, "--agent-resume"), pytester.path, rng.randrange(20, 60), 0)
    assert start(after, "--agent-resume").wait() == 1
    assert timeless(pytester.path / "out.json") == uninterrupted
    assert len(list(pytester.path.glob(".agentlimit/runs/*"))) == 1


@pytest.mark.parametrize("workers", ["-n2", "-n4"])
def test_the_summary_is_the_same_with_any_number_of_workers(
    pytester: pytest.Pytester, start: Start, uninterrupted: str, workers: str
) -> None:
    assert start(workers).wait() == 1
    assert timeless(pytester.path / "out.json") == uninterrupted


ONE = """
    def test_one(agent, agent_rng):
        agent.ask(str(agent_rng.random()))

    def test_two(agent, agent_rng):
        agent.ask(str(agent_rng.random()))
"""


def test_only_what_is_missing_runs_again(
    agent_run: AgentRun, scripted: Callable[..., ScriptedEndpoint]
) -> None:
    asked: list[str] = []
    down = True

    def reply(request):  # type: ignore[no-untyped-def]
        asked.append(request.messages[-1].text)
        return http_error(503, "loading") if down and len(asked) > 3 else say(str(len(asked)))

    agent_run.checks(ONE)
    agent_run(f"--agent-model={scripted(reply).spec}", "--agent-trials=3", "--agent-seed=1")
    assert agent_run.report["models"][0]["completion"]["infra"] == 3
    first, down = list(asked), False
    asked.clear()
    result = agent_run("--agent-resume")
    result.assert_outcomes(passed=3, deselected=3)
    assert asked == first[3:]
    assert agent_run.report["models"][0]["completion"] == {
        "expected": 6,
        "reported": 6,
        "scored": 6,
        "infra": 0,
        "unsupported": 0,
    }


def test_nothing_missing_shows_the_run_again_and_asks_nothing(
    agent_run: AgentRun, scripted: Callable[..., ScriptedEndpoint]
) -> None:
    server = scripted()
    agent_run.checks(ONE)
    agent_run(f"--agent-model={server.spec}")
    before, asked = agent_run.report, len(server.chat_requests)
    result = agent_run("--agent-resume=latest")
    assert result.ret == 0
    assert agent_run.report["models"] == before["models"]
    assert len(server.chat_requests) == asked


def test_a_failure_of_the_first_part_keeps_the_run_red(agent_run: AgentRun) -> None:
    agent_run.checks("def test_one(agent):\n    assert agent.ask('hi').text == 'no'")
    assert agent_run("--agent-model=null:parrot").ret == 1
    assert agent_run("--agent-resume").ret == 1


def test_the_gate_of_the_run_holds_again_unless_another_is_typed(agent_run: AgentRun) -> None:
    agent_run.checks("def test_one(agent):\n    assert agent.ask('hi').text == 'no'")
    assert agent_run("--agent-model=null:parrot", "--agent-min-score=80").ret == 1
    assert agent_run("--agent-resume").ret == 1
    assert agent_run.report["gate"]["rules"][0]["limit"] == 0.8
    assert agent_run("--agent-resume", "--agent-gate=off").ret == 0


def run_ids(agent_run: AgentRun) -> list[str]:
    return sorted(path.name for path in agent_run.folder.glob(".agentlimit/runs/*"))


def test_a_run_is_named_by_its_id(agent_run: AgentRun) -> None:
    agent_run.checks(ONE)
    agent_run("--agent-model=null:parrot", "--agent-seed=1")
    agent_run("--agent-model=null:echo", "--agent-seed=2")
    ids = {
        json.loads((agent_run.folder / ".agentlimit/runs" / one / "manifest.json").read_text())[
            "seed"
        ]: one
        for one in run_ids(agent_run)
    }
    agent_run(f"--agent-resume={ids[1]}")
    assert agent_run.report["run"]["id"] == ids[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--agent-resume=20200101T000000Z-00000000"], "no run is called*"),
        (["--agent-resume", "--agent-seed=9"], "--agent-seed contradicts *: the run * with 5*"),
        (["--agent-resume", "--agent-trials=9"], "--agent-trials contradicts --agent-resume*"),
        (["--agent-resume", "--agent-model=null:echo"], "--agent-model contradicts*null:parrot*"),
        (["--agent-resume", "--agent-shape=agent"], "--agent-shape contradicts --agent-resume*"),
        (["--agent-resume", "--agent-audit"], "--agent-audit contradicts --agent-resume*"),
        (["--agent-resume", "test_checks.py"], "--agent-resume took 'test_checks.py'*latest*"),
    ],
)  # fmt: skip
def test_what_cannot_be_resumed_is_one_line(
    agent_run: AgentRun, given: list[str], said: str
) -> None:
    agent_run.checks(ONE)
    agent_run("--agent-model=null:parrot", "--agent-seed=5")
    before = agent_run.journal
    result = agent_run(*given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}"])
    assert agent_run.journal == before


def test_without_any_run_there_is_nothing_to_resume(agent_run: AgentRun) -> None:
    agent_run.checks(ONE)
    result = agent_run("--agent-resume")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *no run*"])
    assert not (agent_run.folder / ".agentlimit").exists()


def test_a_second_writer_is_refused(agent_run: AgentRun) -> None:
    agent_run.checks(ONE)
    agent_run("--agent-model=null:parrot")
    (run,) = run_ids(agent_run)
    with FileLock(agent_run.folder / ".agentlimit" / "runs" / run / "writer.lock"):
        result = agent_run("--agent-resume")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: the run {run} is being written by another process*"])


def test_an_endpoint_that_has_changed_is_refused(agent_run: AgentRun) -> None:
    agent_run.checks(ONE)
    agent_run("--agent-model=null:parrot")
    (run,) = run_ids(agent_run)
    path = agent_run.folder / ".agentlimit" / "runs" / run / "manifest.json"
    path.write_text(path.read_text().replace('"temperature": 0.7', '"temperature": 0.1'))
    result = agent_run("--agent-resume")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: the run * cannot be resumed: null-parrot is not what*"])


def test_a_damaged_manifest_is_one_line(agent_run: AgentRun) -> None:
    agent_run.checks(ONE)
    agent_run("--agent-model=null:parrot")
    (run,) = run_ids(agent_run)
    (agent_run.folder / ".agentlimit" / "runs" / run / "manifest.json").write_text("{")
    result = agent_run(f"--agent-resume={run}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: the manifest of the run in * cannot be understood*"])

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_run import AgentRun

from pytest_agentlimit.testing import ScriptedEndpoint, http_error, say

Scripts = Callable[..., ScriptedEndpoint]


def records_in(folder: Path) -> list[dict[str, object]]:
    found = []
    for path in folder.glob(".agentlimit/runs/*/journal.jsonl"):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if "record" in entry:
                found.append(entry["record"])
    return found


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *args],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_records(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(records_in(folder)) < count:
        assert time.monotonic() < deadline, "no record appeared"
        time.sleep(0.02)


SLOW_THIRD = """
    import time

    def test_hi(agent, agentlimit_trial):
        assert agent.ask("hi").text == "yes"
        if agentlimit_trial.number > 2:
            time.sleep(60)
"""


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_ctrl_c_keeps_finished_trials(agent_run: AgentRun, scripted: Scripts, workers: str) -> None:
    agent_run.checks(SLOW_THIRD)
    process = start(
        agent_run.folder, workers, f"--agent-model={scripted().spec}", "--agent-trials=4"
    )
    wait_for_records(agent_run.folder, 2)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert [record["outcome"] for record in records_in(agent_run.folder)] == ["passed", "passed"]
    assert "interrupted" in output


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_keeps_finished_trials(
    agent_run: AgentRun, scripted: Scripts, number: int
) -> None:
    agent_run.checks(SLOW_THIRD)
    process = start(agent_run.folder, f"--agent-model={scripted().spec}", "--agent-trials=4")
    wait_for_records(agent_run.folder, 2)
    os.killpg(process.pid, number)
    process.communicate(timeout=30)
    assert len(records_in(agent_run.folder)) == 2


def test_a_killed_worker_is_a_crashed_trial_and_the_rest_goes_on(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(
        """
        import os

        @pytest.mark.weight(3)
        def test_dies(agent):
            agent.ask("hi")
            os.kill(os.getpid(), 9)

        def test_lives(agent):
            assert agent.ask("hi").text == "yes"
        """
    )
    result = agent_run("-n2", f"--agent-model={scripted().spec}", "--agent-trials=2")
    assert result.ret == 1
    assert agent_run.outcomes == ["crashed", "crashed", "passed", "passed"]
    checks = {c["id"].split("::")[1]: c for c in agent_run.report["models"][0]["checks"]}
    assert checks["test_dies"]["weight"] == 3
    assert checks["test_dies"]["passes"] == 0
    assert checks["test_dies"]["blame"] == {"test": 2}


def test_a_full_disk_does_not_stop_the_run(
    agent_run: AgentRun, scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_agentlimit.runs.journal import RunFolder

    agent_run.checks("def test_hi(agent):\n    assert agent.ask('hi').text == 'yes'\n")
    real = RunFolder.create

    def on_a_full_disk(*args: object, **kwargs: object) -> RunFolder:
        folder = real(*args, **kwargs)  # type: ignore[arg-type]
        journal = folder.path / "journal.jsonl"
        journal.unlink(missing_ok=True)
        journal.symlink_to("/dev/full")
        return folder

    monkeypatch.setattr(RunFolder, "create", on_a_full_disk)
    result = agent_run(f"--agent-model={scripted().spec}", "--agent-trials=3")
    result.assert_outcomes(passed=3)
    assert agent_run.report["models"][0]["completion"]["scored"] == 3
    shown = " ".join(result.stdout.str().split())
    assert "could not be written (No space left on device)" in shown


def test_a_report_that_cannot_be_written_is_said_and_loses_nothing(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks("def test_hi(agent):\n    assert agent.ask('hi').text == 'yes'\n")
    (agent_run.folder / "folder.md").mkdir()
    result = agent_run(f"--agent-model={scripted().spec}", "--agent-report=markdown:folder.md")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*folder.md*"])
    assert agent_run.outcomes == ["passed"]


def test_a_rerun_counts_once(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks("def test_hi(agent):\n    assert agent.ask('hi').text == 'yes'\n")
    server = scripted([say("no"), say("yes")])
    result = agent_run(f"--agent-model={server.spec}", "--reruns=2")
    assert result.ret == 0
    check = agent_run.report["models"][0]["checks"][0]
    assert (check["trials"], check["passes"]) == (1, 1)


def test_a_server_that_goes_away_is_infra_from_then_on(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks("def test_hi(agent):\n    assert agent.ask('hi').text == 'yes'\n")
    replies = iter([say("yes"), say("yes")])
    server = scripted(lambda request: next(replies, http_error(503, "gone")))
    agent_run(f"--agent-model={server.spec}", "--agent-trials=4")
    assert agent_run.outcomes == ["infra", "infra", "passed", "passed"]

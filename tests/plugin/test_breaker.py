from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from agent_run import AgentRun

from pytest_agentlimit.plugin import startup
from pytest_agentlimit.plugin.board import Board
from pytest_agentlimit.plugin.breaker import Breaker
from pytest_agentlimit.runs.records import CallRecord, CheckPlan, TrialRecord
from pytest_agentlimit.testing import ScriptedEndpoint, hang, http_error, say

Scripts = Callable[..., ScriptedEndpoint]
CHECK = """
    def test_it(agent, agent_rng):
        agent.ask(str(agent_rng.random()))
"""


def record(kind: str | None, number: int = 1) -> TrialRecord:
    return TrialRecord(
        plan=CheckPlan(check="c", model="m", trial=number, seed=1),
        nodeid=f"c[m-t{number}]",
        outcome="infra" if kind else "passed",
        calls=(CallRecord(start_ms=0, end_ms=1, error_kind=kind),),
    )


class Looks:
    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.models: list[str] = []

    def __call__(self, model: str) -> str | None:
        self.models.append(model)
        return self.answers.pop(0)


def test_three_lost_trials_in_a_row_are_looked_into() -> None:
    board, looks = Board(), Looks("it is gone")
    breaker = Breaker(board, looks)
    for kind in ("refused", "refused", None, "refused", "hung"):
        breaker.take(record(kind))
    assert looks.models == []
    breaker.take(record("cut_stream"))
    assert looks.models == ["m"]
    assert board.gone == {"m": "it is gone"}


def test_an_endpoint_that_answers_is_tried_on() -> None:
    board, looks = Board(), Looks(None, None)
    breaker = Breaker(board, looks)
    for _ in range(6):
        breaker.take(record("refused"))
    assert board.gone == {}
    assert len(looks.models) == 2


@pytest.mark.parametrize("kind", ["rate_limit", "server_error", "auth", "not_json"])
def test_an_answer_that_is_an_error_is_no_absence(kind: str) -> None:
    breaker = Breaker(Board(), Looks())
    for _ in range(9):
        breaker.take(record(kind))


def dying(scripted: Scripts, after: int, **options: Any) -> ScriptedEndpoint:
    """Start an endpoint that closes its door after so many replies."""
    answered = []

    def reply(request):  # type: ignore[no-untyped-def]
        answered.append(request)
        if len(answered) == after:
            threading.Thread(target=server.close).start()
        return say(str(len(answered)))

    server = scripted(reply, **options)
    return server


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_an_endpoint_that_is_gone_ends_the_run_early_and_clearly(
    agent_run: AgentRun, scripted: Scripts, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setattr(startup, "_BETWEEN_LOOKS_S", 0.01)
    agent_run.checks(CHECK)
    result = agent_run(
        workers, f"--agent-model={dying(scripted, 5).spec}", "--agent-trials=60",
        "--agent-min-score=50",
    )  # fmt: skip
    assert result.ret == 1
    completion = agent_run.report["models"][0]["completion"]
    assert completion["reported"] == 60
    assert completion["infra"] == 60 - completion["scored"] >= 54
    tried = [line for line in agent_run.journal if line.get("record", {}).get("calls")]
    assert len(tried) < 20
    assert any("not tried: " in str(line) for line in agent_run.journal)
    result.stdout.fnmatch_lines(
        ["*completion *fail: * of 60 trials scored*", "note *the endpoint was gone*"]
    )
    assert "--agent-resume runs" in " ".join(result.stdout.str().split())


def test_a_hung_endpoint_is_looked_at_and_given_up(
    agent_run: AgentRun, scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It hangs on chats and lists its models: somebody is there, so every trial is tried.
    monkeypatch.setattr(startup, "_BETWEEN_LOOKS_S", 0.01)
    agent_run.checks(CHECK)
    server = scripted(lambda request: hang())
    agent_run(f"--agent-model={server.spec}", "--agent-trials=5", "--agent-timeout=60ms")
    check = agent_run.report["models"][0]["checks"][0]
    assert check["outcomes"] == {"failed": 5}
    assert check["blame"] == {"engine": 5}


def test_errors_of_a_live_server_do_not_open_the_circuit(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    server = scripted(lambda request: http_error(500))
    agent_run(f"--agent-model={server.spec}", "--agent-trials=8")
    assert len(server.chat_requests) == 8


def test_another_model_of_the_run_goes_on(
    agent_run: AgentRun, scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "_BETWEEN_LOOKS_S", 0.01)
    agent_run.checks(CHECK)
    gone = dying(scripted, 2, model="gone")
    agent_run(f"--agent-model={gone.spec}", "--agent-model=null:echo", "--agent-trials=12")
    scored = {model["name"]: model["completion"]["scored"] for model in agent_run.report["models"]}
    assert scored["null-echo"] == 12
    assert scored["gone"] < 5

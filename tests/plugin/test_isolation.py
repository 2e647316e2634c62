from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from agent_run import AgentRun

from pytest_agentlimit.endpoints.inflight import Turnstile
from pytest_agentlimit.plugin.recorder import Recorder
from pytest_agentlimit.runs.records import CheckPlan
from pytest_agentlimit.testing import ScriptedEndpoint, say

Scripts = Callable[..., ScriptedEndpoint]
CHECK = """
    @pytest.mark.latency_budget("10s")
    def test_it(agent, agent_rng):
        agent.ask(str(agent_rng.random()))
"""


class Crowd:
    """Replies after a moment, and counts how many requests are being answered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self._moment = threading.Event()
        self.most = 0

    def __call__(self, request):  # type: ignore[no-untyped-def]
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self._moment.wait(0.03)
        with self._lock:
            self._now -= 1
        return say(str(request.seed))


def test_workers_take_turns_at_an_endpoint(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECK)
    crowd = Crowd()
    agent_run("-n4", f"--agent-model={scripted(crowd).spec}", "--agent-trials=24")
    assert crowd.most == 1
    calls = [call for line in agent_run.journal if "record" in line
             for call in line["record"]["calls"]]  # fmt: skip
    assert {(call["inflight_start"], call["inflight_end"]) for call in calls} == {(1, 1)}
    assert any(call["waited_ms"] > 5 for call in calls)
    # Standing in line is no latency: a reply takes 30 ms, and four of them would take 120.
    times = sorted(call["end_ms"] - call["start_ms"] for call in calls)
    assert times[len(times) // 2] < 100
    assert agent_run.report["models"][0]["latency"]["n"] == 24


def test_a_declared_concurrency_is_used_and_only_such_samples_count(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    crowd = Crowd()
    result = agent_run(
        "-n4", f"--agent-model={scripted(crowd).spec}", "--agent-trials=24",
        "--agent-max-inflight=2", "--agent-p95=within-budget", "--agent-gate=proven",
    )  # fmt: skip
    assert crowd.most == 2
    records = [line["record"] for line in agent_run.journal if "record" in line]
    counts = [
        {call[key] for call in record["calls"] for key in ("inflight_start", "inflight_end")}
        for record in records
    ]
    samples = sum(seen == {2} for seen in counts)
    assert agent_run.report["models"][0]["latency"]["n"] == samples
    assert 0 < samples < 24  # the first call finds nobody there
    result.stdout.fnmatch_lines([f"in flight *{24 - samples} trial* left out of latency*"])
    (rule,) = (r for r in agent_run.report["gate"]["rules"] if r["rule"] == "p95")
    assert f"{24 - samples} trial" in rule["message"]
    assert "left out: not exactly the declared 2 calls at a time" in rule["message"]


def test_one_worker_alone_has_no_sample_at_a_declared_concurrency(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    agent_run(
        f"--agent-model={scripted().spec}", "--agent-max-inflight=3", "--agent-p95=within-budget"
    )
    assert agent_run.report["models"][0]["latency"]["n"] == 0
    (rule,) = (r for r in agent_run.report["gate"]["rules"] if r["rule"] == "p95")
    assert rule["verdict"] == "fail"
    assert "1 trial left out" in rule["message"]


def test_the_table_of_a_model_declares_its_concurrency(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    numbers, meeting = count(1), threading.Barrier(2)

    def meets(request):  # type: ignore[no-untyped-def]
        if next(numbers) <= 2:
            meeting.wait(30)  # one worker is not done before the other has begun
        return say(str(request.seed))

    server = scripted(meets)
    agent_run.pytester.makepyprojecttoml(
        f"""
        [tool.agentlimit.models.here]
        base_url = "{server.url}"
        model = "scripted"
        max_inflight = 2
        """
    )
    agent_run.checks(CHECK)
    agent_run("-n2", "--agent-model=here", "--agent-trials=8")
    calls = [call for line in agent_run.journal if "record" in line
             for call in line["record"]["calls"]]  # fmt: skip
    assert 2 in {call["inflight_end"] for call in calls}


def test_a_client_made_by_a_hook_takes_turns_too(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.pytester.makeconftest(
        """
        from pytest_agentlimit import Endpoint

        def pytest_agentlimit_make_client(spec, on_exchange):
            return Endpoint(spec, on_exchange=on_exchange)
        """
    )
    agent_run.checks(CHECK)
    crowd = Crowd()
    agent_run("-n3", f"--agent-model={scripted(crowd).spec}", "--agent-trials=12")
    assert crowd.most == 1


@pytest.mark.parametrize(
    ("in_line_s", "outcome", "blame"), [(30.0, "infra", "config"), (0.0, "failed", "engine")]
)
def test_a_time_out_in_line_is_no_failure_of_anybody(
    pytestconfig: pytest.Config, tmp_path: Path, in_line_s: float, outcome: str, blame: str
) -> None:
    turnstile = Turnstile("http://127.0.0.1:1", 1, tmp_path)
    plan = CheckPlan(check="c", model="m", trial=1, seed=1)
    recorder = Recorder(plan, "c[m-t1]", engine_has_tools=None)
    recorder.watch_line(turnstile)
    turnstile.waited_s += in_line_s
    recorder.phase("call", pytest.fail.Exception("Timeout (>60.0s) from pytest-timeout."))
    record = recorder.record(worker=None, attempt=1, hook=pytestconfig.hook)
    assert (record.outcome, record.blame) == (outcome, blame)
    assert record.timed_out == (outcome == "failed")
    said = "30.0 s were spent in line behind calls of other workers" in str(record.message)
    assert said == (outcome == "infra")


@pytest.mark.parametrize("bad", ["0", "-1", "two"])
def test_a_concurrency_that_makes_no_sense_is_refused(agent_run: AgentRun, bad: str) -> None:
    agent_run.checks(CHECK)
    result = agent_run("--agent-model=null:echo", f"--agent-max-inflight={bad}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --agent-max-inflight takes a whole number from 1*"])

"""What a trial costs beside the model: recorded, reported by a worker, journalled, summarised."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import execnet
import pytest
from budgets import Ledger
from conftest import Sample

from pytest_agentlimit.chat.messages import (
    ChatReply,
    ChatRequest,
    Message,
    TextBlock,
    Timing,
    ToolCall,
    Usage,
)
from pytest_agentlimit.endpoints.timing import Exchange
from pytest_agentlimit.errors import ExpectationFailed
from pytest_agentlimit.plugin.breaker import Breaker
from pytest_agentlimit.plugin.context import ModelUnderTest, RunContext
from pytest_agentlimit.plugin.controller import Controller
from pytest_agentlimit.plugin.live import LiveLine
from pytest_agentlimit.plugin.recorder import Recorder
from pytest_agentlimit.plugin.settings import Settings
from pytest_agentlimit.plugin.startup import Endpoints
from pytest_agentlimit.plugin.steering import Steering
from pytest_agentlimit.plugin.untrusted import neutralise
from pytest_agentlimit.plugin.worker import PLAN_KEY, RECORD_KEY
from pytest_agentlimit.runs.journal import RunFolder
from pytest_agentlimit.runs.records import (
    CallRecord,
    CheckPlan,
    GateSettings,
    Manifest,
    ModelEntry,
    TrialRecord,
)

HERE = Path(__file__).parent
MANIFEST = Manifest(
    run_id="",
    started="2026-01-01T00:00:00+00:00",
    seed=1,
    plugin_version="0",
    host="a machine",
    models=(ModelEntry(name="m"),),
)
ASKED = ChatRequest(
    model="m", messages=(Message(role="user", blocks=(TextBlock(text="Weather in Oslo?"),)),)
)
FAILURE = ExpectationFailed("expected exactly one call of the tool 'get_weather'" + " …" * 400)
PHASES = ("setup", "call", "teardown")


def exchange(number: int) -> Exchange:
    started = time.perf_counter()
    call = ToolCall(id="call_0", name="get_weather", raw_arguments=f'{{"city": "Oslo {number}"}}')
    reply = ChatReply(
        blocks=(TextBlock(text="I will look that up. " * 10), call),
        stop_reason="tool_use",
        usage=Usage(input_tokens=300, output_tokens=60),
        timing=Timing(first_byte_s=0.4, ttft_s=0.5, total_s=2.0),
    )
    return Exchange(
        request=ASKED, reply=reply, timing=reply.timing, started=started, ended=started + 2
    )


def plan(number: int, checks: int) -> CheckPlan:
    check = f"test_suite.py::test_{number % checks}"
    trial = 1 + number // checks
    return CheckPlan(
        check=check, model="m", trial=trial, seed=number, weight=1 + number % 3, budget_ms=8000
    )


def nodeid(planned: CheckPlan) -> str:
    return f"{planned.check}[m-t{planned.trial}]"


def reports(config: pytest.Config, number: int) -> Iterator[pytest.TestReport]:
    """Yield the three reports of a trial as a worker makes them; every tenth trial fails."""
    planned = plan(number, 10)
    recorder = Recorder(planned, nodeid(planned), engine_has_tools=True)
    for sent in range(3):
        recorder.observe(exchange(sent))
    for when in PHASES:
        error = FAILURE if when == "call" and number % 10 == 0 else None
        report = pytest.TestReport(
            nodeid=nodeid(planned),
            location=("test_suite.py", 1, "test"),
            keywords={},
            outcome="failed" if error else "passed",
            longrepr=str(error) if error else None,
            when=when,  # type: ignore[arg-type]
        )
        neutralise(report)
        recorder.phase(when, error)
        if when == "setup":
            report.__dict__[PLAN_KEY] = planned.model_dump(mode="json")
        elif when == "teardown":
            record = recorder.record(worker="gw0", attempt=1, hook=config.hook)
            report.__dict__[RECORD_KEY] = record.model_dump(mode="json")
        yield report


def over_the_wire(config: pytest.Config, report: pytest.TestReport) -> pytest.TestReport:
    """Return what the controller receives of a worker's report."""
    data = config.hook.pytest_report_to_serializable(config=config, report=report)
    received = execnet.loads(execnet.dumps(data))
    back = config.hook.pytest_report_from_serializable(config=config, data=received)
    assert isinstance(back, pytest.TestReport)
    return back


def watching(config: pytest.Config, root: Path) -> Controller:
    """Return a controller that journals, looks for an early end, and follows the run."""
    model = ModelUnderTest("m", {})
    context = RunContext(1, 1, "bare", models=(model,))
    controller = Controller(config, Settings(), context, LiveLine(config, context))
    controller.endpoints = Endpoints([model])
    controller.folder = RunFolder.create(root, MANIFEST)
    # A bar that nine passes of ten neither reach nor miss: every round is looked at, to the end.
    gate = GateSettings(min_score=0.85, early_stop=True)
    controller.steering = Steering(context.board, ["m"], gate, classify=False)
    controller.breaker = Breaker(context.board, lambda name: None)
    return controller


@pytest.mark.parametrize(("trials", "rounds"), [(100, 10), (1000, 3), (10_000, 1)])
def test_per_trial(
    sample: Sample[Any],
    ledger: Ledger,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    trials: int,
    rounds: int,
) -> None:
    def per_trial_ms() -> float:
        controller = watching(pytestconfig, tmp_path)
        start = time.perf_counter()
        ids = [nodeid(plan(number, 10)) for number in range(trials)]
        controller._expect(ids)
        controller.live._expect(ids)
        controller.live.way = "rounds"
        for number in range(trials):
            for report in reports(pytestconfig, number):
                received = over_the_wire(pytestconfig, report)
                controller.pytest_runtest_logreport(received)
                controller.live.pytest_runtest_logreport(received)
        controller.folder.close()
        took = time.perf_counter() - start
        assert controller.folder.problem is None
        return 1000 * took / trials

    what = f"bookkeeping per trial of 3 calls, {trials:,} trials"
    ledger.median(what, sample(per_trial_ms, rounds), "ms", 2)


@pytest.mark.parametrize("checks", [10, 10_000])
def test_summary(sample: Sample[Any], ledger: Ledger, tmp_path: Path, checks: int) -> None:
    folder = RunFolder.create(tmp_path, MANIFEST)
    folder.expect(nodeid(plan(number, checks)) for number in range(10_000))
    for number in range(10_000):
        folder.append(finished_trial(number, checks))

    def measure() -> dict[str, float]:
        argv = [sys.executable, str(HERE / "summarise_run.py"), str(folder.path), str(tmp_path)]
        done = subprocess.run(argv, capture_output=True, check=True, text=True)
        loaded = json.loads(done.stdout)
        assert isinstance(loaded, dict)
        return loaded

    found = sample(measure, 3)
    what = f"summary, JSON, Markdown of {checks:,} × {10_000 // checks:,} trials"
    ledger.median(what, [one["seconds"] for one in found], "s", 5)
    ledger.median(f"{what}, memory", [one["peak_mb"] for one in found], "MB", 300)


def finished_trial(number: int, checks: int) -> TrialRecord:
    planned = plan(number, checks)
    failed = number % 10 == 0
    return TrialRecord(
        plan=planned,
        nodeid=nodeid(planned),
        outcome="failed" if failed else "passed",
        blame="model" if failed else None,
        message=str(FAILURE) if failed else None,
        calls=tuple(finished_call(3 * number + sent) for sent in range(3)),
        latency_ms=2000 + number % 977,
    )


def finished_call(number: int) -> CallRecord:
    return CallRecord(
        start_ms=0,
        end_ms=700,
        ttft_ms=100,
        verdict="call",
        stop_reason="tool_use",
        usage=Usage(input_tokens=300, output_tokens=60),
        output_digest=f"{number:064x}",
    )

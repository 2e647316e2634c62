from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pytest_agentlimit.runs.expected import expected_trial
from pytest_agentlimit.runs.records import (
    CallRecord,
    CheckPlan,
    GateSettings,
    Manifest,
    ModelEntry,
    RunData,
    TrialRecord,
)

STUDY_WEIGHTS = [1, 3, 2, 2, 3, 2, 1, 2, 2, 1]
GEMMA4 = [2516, 7922, 5047, 36203, 6656, 3641, 23406, 5437, 10391, 2417]
OPEN_CLAW = [2359, 6735, 2890, 6860, 6718, 3204, 4671, 2641, 7906, 2260]


def nodeid(check: str, model: str = "m", trial: int = 1) -> str:
    return f"{check}[{model}-t{trial}]"


def trial(
    check: str = "test_a.py::test_a",
    outcome: str = "passed",
    *,
    model: str = "m",
    number: int = 1,
    latency_ms: float | None = 100.0,
    calls: Iterable[CallRecord] = (),
    message: str | None = None,
    blame: str | None = None,
    timed_out: bool = False,
    attempt: int = 1,
    **plan: Any,
) -> TrialRecord:
    if outcome != "passed":
        blame = blame or "model"
        message = message or f"{outcome} in trial {number}"
    return TrialRecord.model_validate(
        {
            "plan": CheckPlan(check=check, model=model, trial=number, seed=number, **plan),
            "nodeid": nodeid(check, model, number),
            "outcome": outcome,
            "blame": blame,
            "message": message,
            "calls": tuple(calls),
            "latency_ms": None if timed_out else latency_ms,
            "timed_out": timed_out,
            "attempt": attempt,
        }
    )


def trials(outcomes: Sequence[str], check: str = "test_a.py::test_a", **rest: Any) -> list:
    return [trial(check, outcome, number=i, **rest) for i, outcome in enumerate(outcomes, start=1)]


def manifest(*models: str, **gate: Any) -> Manifest:
    return Manifest(
        run_id="20260401T000000Z-00000000",
        started="2026-04-01T00:00:00+00:00",
        seed=1,
        plugin_version="0",
        host="a machine",
        models=tuple(ModelEntry(name=name) for name in models or ("m",)),
        gate=GateSettings(**gate),
    )


def run(
    records: Iterable[TrialRecord],
    *models: str,
    expected: Iterable[str] | None = None,
    **gate: Any,
) -> RunData:
    records = tuple(records)
    asked = manifest(*models, **gate)
    names = [entry.name for entry in asked.models]
    ids = [record.nodeid for record in records] if expected is None else expected
    return RunData(
        manifest=asked,
        records=records,
        expected=tuple(expected_trial(one, names) for one in dict.fromkeys(ids)),
    )


def study(model: str, latencies: Sequence[float], failed: int) -> list[TrialRecord]:
    return [
        trial(
            f"study.py::test_{i}",
            "failed" if i == failed else "passed",
            model=model,
            latency_ms=latency,
            weight=weight,
        )
        for i, (latency, weight) in enumerate(zip(latencies, STUDY_WEIGHTS, strict=True))
    ]


def call(digest: str | None = None, **rest: Any) -> CallRecord:
    return CallRecord(start_ms=0, end_ms=1, output_digest=digest, **rest)

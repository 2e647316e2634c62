"""Runs as they come out of the run folder, for every report to show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_agentlimit.chat.messages import Finding, Usage
from pytest_agentlimit.errors import Blame
from pytest_agentlimit.runs.expected import expected_trial
from pytest_agentlimit.runs.records import (
    CallRecord,
    CheckPlan,
    GateSettings,
    Manifest,
    ModelEntry,
    Outcome,
    RunData,
    TrialRecord,
)

FILE = "example_suites/edge_study/test_edge_study.py"
CHECKS = {
    "basic_response": (1, 8000),
    "tool_call_emission": (3, 8000),
    "strict_json_output": (2, 8000),
    "multi_step_planning": (2, 45000),
    "tool_input_valid_json": (3, 8000),
    "context_retention": (2, 8000),
    "graceful_ambiguity_handling": (1, 20000),
    "code_generation": (2, 20000),
    "multiple_tool_calls": (2, 12000),
    "latency_burst": (1, 3000),
}
GEMMA = (2516, 7922, 5047, 36203, 6656, 3641, 23406, 5437, 10391, 2417)
OPEN_CLAW = (2359, 6735, 2890, 6860, 6718, 3204, 4671, 2641, 7906, 2260)
FINGERPRINT = {
    "dialect": "ollama",
    "model": "open-claw:latest",
    "engine": "Ollama",
    "engine_version": "0.21.4",
    "context": 32768,
    "quantisation": "Q4_K_M",
    "template_hash": "0a1b2c3d4e5f",
    "digest": None,
    "sampling": {"temperature": None},
    "tools": True,
}
HOSTILE = (
    "expected a call of get_weather, got: \x1b[2J\x1b]0;owned\x07<img src=x onerror=alert(1)> "
    "| [click](http://evil.example) @octocat #1\n\n# heading\n```\n\ud800 \u202egnp.exe"
)


def trial(
    check: str,
    model: str = "open-claw",
    number: int = 1,
    outcome: Outcome = "passed",
    latency_ms: float | None = 1000.0,
    *,
    blame: Blame | None = None,
    message: str | None = None,
    timed_out: bool = False,
    findings: tuple[str, ...] = (),
    weight: float = 1,
    budget_ms: float | None = None,
    blocker: bool = False,
) -> TrialRecord:
    """One record; a check without a file is one of the study."""
    name = check if "::" in check else f"{FILE}::test_{check}"
    if outcome not in ("passed", "skipped"):
        blame = blame or "model"
        message = message or "expected one call of get_weather, the reply has none"
    call = CallRecord(
        start_ms=0,
        end_ms=latency_ms or 0,
        usage=Usage(input_tokens=120, output_tokens=40),
        findings=tuple(Finding(code=code) for code in findings),
        timed_out=timed_out,
    )
    return TrialRecord(
        plan=CheckPlan(
            check=name,
            model=model,
            trial=number,
            seed=number,
            weight=weight,
            budget_ms=budget_ms,
            blocker=blocker,
        ),
        nodeid=f"{name}[{model}-t{number}]",
        outcome=outcome,
        blame=blame,
        message=message,
        calls=(call,) if latency_ms is not None or timed_out else (),
        latency_ms=None if timed_out else latency_ms,
        timed_out=timed_out,
    )


def run(
    *records: TrialRecord,
    gate: GateSettings | None = None,
    lost: tuple[str, ...] = (),
    fingerprint: dict[str, Any] | None = None,
    **fields: Any,
) -> RunData:
    """A run of these records, every one of them expected, the lost ones as well."""
    models = dict.fromkeys(record.plan.model for record in records) or {"open-claw": None}
    known = FINGERPRINT if fingerprint is None else fingerprint
    expected = [expected_trial(nodeid, models) for nodeid in (*(r.nodeid for r in records), *lost)]
    return RunData(
        manifest=Manifest(
            run_id="20261121T114200-3f9a",
            started="2026-11-21T11:42:00+00:00",
            seed=123,
            plugin_version="0.1.0",
            host="Linux x86_64, 2 cores, Python 3.11.7",
            models=tuple(ModelEntry(name=name, fingerprint=known) for name in models),
            gate=gate or GateSettings(),
            shape=fields.pop("shape", "bare"),
        ),
        records=records,
        expected=tuple(expected),
        duration_s=fields.pop("duration_s", 48.2),
        **fields,
    )


def study(
    model: str, latencies: tuple[int, ...], failed: tuple[str, ...] = (), number: int = 1
) -> list[TrialRecord]:
    """One round of the ten checks of the study, with their weights."""
    return [
        trial(
            check,
            model,
            number,
            "failed" if check in failed else "passed",
            latency,
            weight=weight,
            budget_ms=budget,
        )
        for (check, (weight, budget)), latency in zip(CHECKS.items(), latencies, strict=True)
    ]


def april() -> RunData:
    """The study of April 2026: two models, ten checks, one trial each."""
    return run(
        *study("gemma4", GEMMA, ("multi_step_planning",)),
        *study("open-claw", OPEN_CLAW, ("tool_call_emission",)),
        gate=GateSettings(min_score=0.8, p95="within-budget"),
    )


def one_round() -> RunData:
    """One round without a gate, with a timeout, an outage and deviations of the server."""
    records = study("open-claw", OPEN_CLAW, ("tool_call_emission", "strict_json_output"))
    records[4] = trial(
        "tool_input_valid_json", latency_ms=6718, weight=3, budget_ms=8000,
        findings=("missing_call_id", "missing_call_id", "arguments_as_object"),
    )  # fmt: skip
    records[3] = trial(
        "multi_step_planning", outcome="failed", latency_ms=None, timed_out=True, weight=2,
        budget_ms=45000, blame="engine", message="the server fell silent for 60 s",
    )  # fmt: skip
    records[8] = trial(
        "multiple_tool_calls", outcome="infra", latency_ms=None, weight=2, budget_ms=12000,
        blame="network", message="HTTP 503 from the server: overloaded",
    )  # fmt: skip
    return run(*records)


def six_rounds() -> RunData:
    """Six rounds with a gate that passes; two checks are flaky, one is a blocker."""
    records = []
    for number in range(1, 7):
        failed = ("code_generation",) if number == 4 else ()
        latencies = tuple(round(ms * (0.6 + number / 20)) for ms in OPEN_CLAW)
        records += study("open-claw", latencies, failed, number)
        records.append(trial("no_leak", number=number, weight=3, budget_ms=8000, blocker=True))
    return run(
        *records,
        gate=GateSettings(min_score=0.8, p95="within-budget", mode="strict"),
        duration_s=1265.4,
    )


def long_run() -> RunData:
    """Sixty trials of two checks: outcomes are counted, and a P95 has an upper bound."""
    records = []
    for number in range(1, 61):
        bad = number % 8 == 0
        records.append(
            trial("a", number=number, outcome="failed" if bad else "passed", budget_ms=2000)
        )
        records.append(trial("b", number=number, latency_ms=400 + 7 * number, budget_ms=2000))
    return run(*records, gate=GateSettings(min_score=0.9))


def hostile() -> RunData:
    """Everything that can be odd: hostile texts, every outcome, lost trials, several files."""
    other = "tests/deep/test_других_проверок.py"
    records = [
        trial("tool_call_emission", outcome="failed", message=HOSTILE, weight=2.5, blocker=True),
        trial("code_generation", outcome="crashed", blame="test", latency_ms=None,
              message="the worker process died"),
        trial(f"{other}::TestTools::test_x[a|b-<b>-名前]", outcome="unsupported", blame="engine",
              message="the engine has no tool support", latency_ms=None),
        trial(f"{other}::test_setup", outcome="inconclusive", blame="test", latency_ms=None,
              message="KeyError: 'tmp'"),
        trial(f"{other}::test_skipped", outcome="skipped", latency_ms=None),
        trial(f"{other}::test_{'very_' * 20}long_name", latency_ms=0.42),
        trial(f"{other}::test_slow", latency_ms=123_456.0, budget_ms=1500),
    ]  # fmt: skip
    fingerprint = {
        **FINGERPRINT,
        "engine": "<script>alert(1)</script>",
        "engine_version": "\x1b[31m9|9\x1b[0m",
        "context": None,
        "tools": False,
    }
    return run(
        *records,
        lost=(f"{FILE}::test_lost[open-claw-t1]",),
        gate=GateSettings(min_score=0.8, p95=2000.0, mode="proven"),
        fingerprint=fingerprint,
        shape="agent",
        notes=("interrupted: the trials below are those that had finished",),
    )


def nothing() -> RunData:
    """A run in which no trial could be scored."""
    down = "connection refused: is the server running? Start it and run again"
    return run(
        *[
            trial(name, outcome="infra", blame="network", message=down, latency_ms=None)
            for name in ("basic_response", "code_generation")
        ],
        gate=GateSettings(min_score=0.8),
        fingerprint={},
    )


def no_trials() -> RunData:
    """A run that ended before its first trial."""
    return run()


SAMPLES: dict[str, Callable[[], RunData]] = {
    maker.__name__: maker
    for maker in (april, one_round, six_rounds, long_run, hostile, nothing, no_trials)
}

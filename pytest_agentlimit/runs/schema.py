"""The report, schema version 1: a contract others read (docs/reference/report-schema.json).

`null` means not measured, never 0. Scores are 0..1, latencies milliseconds; a latency that never
ended is the string "Infinity", because JSON has no such number.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["pass", "fail", "inconclusive"]


class Part(BaseModel):
    """A part of the report: frozen, exact keys, infinities as strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class RunInfo(Part):
    """Which run this is."""

    id: str
    started: str
    duration_s: float
    seed: int
    plugin_version: str
    host: str


class ScorePart(Part):
    """The weighted score with its interval; None when nothing was scored."""

    value: float | None
    low: float | None
    high: float | None
    level: float = 0.95
    rounds: int
    effective_trials: float | None


class LatencyPart(Part):
    """Trial latencies; `p95_is_max` below 20 samples; `verdict` None without any budget."""

    n: int
    p50_ms: float | None
    p95_ms: float | None
    p95_is_max: bool
    p95_upper_ms: float | None
    over_budget: int | None
    verdict: Verdict | None


class CompletionPart(Part):
    """How much of what was collected became evidence."""

    expected: int
    reported: int
    scored: int
    infra: int
    unsupported: int


class CheckPart(Part):
    """One check on one model."""

    id: str
    capability: str | None
    weight: float
    blocker: bool
    trials: int
    passes: int
    rate_low: float | None
    rate_high: float | None
    stability: str
    outcomes: dict[str, int]
    p50_ms: float | None
    blame: dict[str, int]
    first_failure: str | None


class UsagePart(Part):
    """Tokens and calls; None when no reply carried usage."""

    input_tokens: int | None
    output_tokens: int | None
    calls: int


class ModelPart(Part):
    """One model under test."""

    name: str
    fingerprint: dict[str, Any]
    score: ScorePart
    latency: LatencyPart
    completion: CompletionPart
    checks: tuple[CheckPart, ...]
    ladders: tuple[dict[str, Any], ...] = ()
    usage: UsagePart
    energy: dict[str, Any] | None = None


class RulePart(Part):
    """One gate rule: what it saw, what it holds, and why in one sentence."""

    rule: str
    verdict: Verdict
    observed: float | int | str | None
    limit: float | int | str | None
    message: str


class GatePart(Part):
    """The verdict of the run."""

    verdict: Verdict
    rules: tuple[RulePart, ...]


class RunSummary(Part):
    """Everything a report shows, rebuilt from the run folder alone."""

    schema_version: Literal[1] = 1
    run: RunInfo
    models: tuple[ModelPart, ...]
    comparisons: tuple[dict[str, Any], ...] = Field(default=())
    gate: GatePart

"""The report, schema version 1: a contract others read (docs/reference/report-schema.json).

`null` means not measured, never 0. Scores are 0..1, latencies milliseconds; a latency that never
ended is the string "Infinity", because JSON has no such number. Write a report with
`model_dump_json()`: a plain `model_dump()` keeps the float.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema

from pytest_agentlimit.measure.ceiling import AtLeastVerdict, Ended, Shape
from pytest_agentlimit.measure.stability import StabilityLabel

Verdict = Literal["pass", "fail", "inconclusive"]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
_MILLISECONDS = {"anyOf": [{"type": "number", "minimum": 0}, {"const": "Infinity"}]}
Milliseconds = Annotated[float, WithJsonSchema(_MILLISECONDS)]


class Part(BaseModel):
    """A part of the report: frozen, exact keys, infinities as strings."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        ser_json_inf_nan="strings",
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


class RunInfo(Part):
    """Which run this is."""

    id: str
    """The name of the run folder."""
    started: str
    """ISO 8601, UTC."""
    duration_s: float
    """Wall-clock time of the run, seconds."""
    seed: int
    """Every generated instance follows from it."""
    plugin_version: str
    """Of pytest-agentlimit."""
    host: str
    """The machine the tests ran on."""


class ScorePart(Part):
    """The weighted score with its interval; null when nothing was scored."""

    value: Share | None
    """Weighted pass rate, 0..1."""
    low: Share | None
    """Lower end of the interval."""
    high: Share | None
    """Upper end of the interval."""
    level: float = 0.95
    """Confidence level of the interval."""
    rounds: Count
    """Rounds in which every check was scored."""
    effective_trials: float | None
    """How many equal trials of one check the interval is worth."""


class LatencyPart(Part):
    """Latencies of scored trials: the time each spent waiting on the model."""

    n: Count
    """Trials that were measured, timeouts included."""
    p50_ms: Milliseconds | None
    """Median; the mean of the middle two for an even n."""
    p95_ms: Milliseconds | None
    """Nearest-rank 95th percentile."""
    p95_is_max: bool
    """True below 20 trials, where the 95th percentile is simply the slowest trial."""
    p95_upper_ms: Milliseconds | None
    """One-sided 95 % upper bound of the 95th percentile; null below 59 trials."""
    over_budget: Count | None
    """Trials slower than their latency budget; null when no trial has one."""
    verdict: Verdict | None
    """What the trials prove about their budgets; null when no trial has one."""


class CompletionPart(Part):
    """How much of what was collected became evidence; all are counts of trials."""

    expected: Count
    """Collected."""
    reported: Count
    """With a record; fewer than expected means that reports were lost."""
    scored: Count
    """Passed, failed or crashed."""
    infra: Count
    """Stopped by something that is not the model's fault; left out of the score."""
    unsupported: Count
    """Asked for what the engine was proven not to do; left out of the score."""


class CheckPart(Part):
    """One check on one model."""

    id: str
    """Node id without model and trial."""
    capability: str | None
    """What the check is about."""
    weight: float
    """Its share of the score, relative to the other checks."""
    blocker: bool
    """True when a failure fails the gate whatever the score."""
    trials: Count
    """Scored trials."""
    passes: Count
    """Trials that passed."""
    rate_low: Share | None
    """Lower end of the 95 % interval of the pass rate."""
    rate_high: Share | None
    """Upper end of the 95 % interval of the pass rate."""
    stability: StabilityLabel
    """Whether the outcome is always the same, as far as the trials can tell."""
    outcomes: dict[str, int]
    """How many trials ended in each outcome; outcomes that did not occur are left out."""
    p50_ms: Milliseconds | None
    """Median latency of its scored trials."""
    blame: dict[str, int]
    """How many trials that did not pass are whose to act on."""
    first_failure: str | None
    """The message of the first failed trial; quotes model output, so treat it as untrusted."""


class LevelPart(Part):
    """The trials of one level of a ladder."""

    level: int
    """The level itself, not its place on the ladder."""
    trials: Count
    """Trials that are evidence."""
    passes: Count
    """Trials that passed."""
    p50_ms: Milliseconds | None
    """Median time its trials, passed or failed, waited on the model; till the end if timed out."""


class LadderPart(Part):
    """One climb of a ladder: how far up a model gets (METHOD 5).

    The ceiling is the highest level that is passed with the reliability, there and on all lower
    levels.
    """

    id: str
    """The check that climbed: node id without model and trial."""
    reliability: Share
    """The chance to pass that the ceiling is about."""
    ceiling: Count | None
    """Posterior median, a level; 0 is "not even the first"; null without any evidence."""
    low: Count | None
    """Lower end of its interval, a level."""
    high: Count | None
    """Upper end of its interval, a level."""
    shape: Shape
    """How it falls; unclear too when no fall was seen, or none was looked for."""
    trials: Count
    """Trials that are evidence."""
    steps: Count
    """Sum of the levels of these trials: what the climb cost."""
    first_failure_mode: str | None
    """The most frequent way to fail on the first level above the ceiling with a failure."""
    audit: str
    """The levels below: holds; not monotone at N, which fails; not finished; or not needed."""
    trial: Count
    """Which trial of the check this climb is."""
    name: str
    """The ladder."""
    unit: str
    """What a level counts, in the plural; may be empty."""
    interval: float = 0.9
    """Probability that the ceiling lies between low and high."""
    at_least: Count | None
    """The level that was asked for; null: the ceiling was to be found."""
    verdict: AtLeastVerdict | None
    """Whether the ceiling is at least that; null if not asked, or not finished."""
    ended: Ended
    """Certain; cap: not certain within its most trials; open: cut short, known only so far."""
    p_cliff: Share | None
    """Probability that the fall is a cliff; null when no fall was seen."""
    doubtful: tuple[int, ...] = ()
    """Levels below the ceiling with failures that prove neither that they hold nor that not."""
    infra: Count
    """Trials that infrastructure ended; others took their place."""
    levels: tuple[LevelPart, ...]
    """All levels of the ladder, from the lowest."""
    posterior: tuple[Share, ...]
    """Probability that the ceiling is 0, 1, 2 … levels high; one more entry than levels."""
    modes: dict[str, int]
    """How the trials of the first failing level failed, the most frequent first."""
    blame: dict[str, int]
    """How many failed trials of the whole climb are whose to act on."""
    first_failure: str | None
    """The first failure of that level in one line; untrusted: it may quote model output."""
    example: str | None
    """What was said and called in it, bounded; untrusted model output."""


class UsagePart(Part):
    """Tokens and calls of the trials that count."""

    input_tokens: Count | None
    """Null when no reply carried it."""
    output_tokens: Count | None
    """Null when no reply carried it."""
    calls: Count
    """Calls to the endpoint."""


class ModelPart(Part):
    """One model under test."""

    name: str
    """As the user named it."""
    fingerprint: dict[str, Any]
    """What is known of what serves it: model id, digest, engine, context and so on."""
    score: ScorePart
    latency: LatencyPart
    completion: CompletionPart
    checks: tuple[CheckPart, ...]
    """In collection order."""
    ladders: tuple[LadderPart, ...] = ()
    """Climbs, in the order of the checks; empty when no ladder was climbed."""
    usage: UsagePart
    energy: dict[str, Any] | None = None
    """Joules; null when not measured."""


class LadderPairPart(Part):
    """Two climbs of the same levels at the same reliability, both to their end."""

    id: str
    """The check that climbed."""
    trial: Count
    """Which trial of the check."""
    p_higher: Share
    """Probability that the ceiling of a is higher than that of b."""
    p_tied: Share
    """Probability that both ceilings are the same level."""


class ComparisonPart(Part):
    """Two models on the checks that both were scored on; a positive difference favours `a`."""

    a: str
    b: str
    difference: float | None
    """Score of a minus score of b, -1..1; null when they share no scored check."""
    low: float | None
    """Lower end of its 95 % interval."""
    high: float | None
    """Upper end of its 95 % interval."""
    p_value: Share | None
    """Exact label swap, two-sided."""
    smallest_detectable: float | None
    """The gap that trials of this number show four times in five."""
    speed_ratio: float | None
    """Geometric mean of latency a / latency b over checks; above 1, b is faster."""
    speed_low: float | None
    """Lower end of its 95 % interval."""
    speed_high: float | None
    """Upper end of its 95 % interval."""
    speed_p: Share | None
    """Exact sign flip, two-sided."""
    ladders: tuple[LadderPairPart, ...] = ()
    """Ladders that both climbed in the same way."""
    verdict: str
    """One sentence that starts with better, worse, not worse or cannot tell."""


class RulePart(Part):
    """One gate rule: what it saw, what it holds, and why in one sentence."""

    rule: str
    """Its name: score, p95, blockers, completion, scored, baseline, reported."""
    verdict: Verdict
    observed: Annotated[int | float | str | None, Field(union_mode="left_to_right")]
    """What the run showed, in the unit of the limit."""
    limit: Annotated[int | float | str | None, Field(union_mode="left_to_right")]
    """The bar."""
    message: str
    """One sentence for people; names the model when the run has several."""


class GatePart(Part):
    """The verdict of the run: fail if any rule fails, else inconclusive if any is."""

    verdict: Verdict
    rules: tuple[RulePart, ...]


class RunSummary(Part):
    """Everything a report shows, rebuilt from the run folder alone."""

    schema_version: Literal[1] = 1
    """Rises when a reader of this version could be misled."""
    run: RunInfo
    models: tuple[ModelPart, ...]
    """In the order they were named."""
    comparisons: tuple[ComparisonPart, ...] = ()
    """Pairs of models; empty when there is one."""
    gate: GatePart


class _Untitled(GenerateJsonSchema):
    """Leaves out titles that only repeat a key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: no field needs one."""
        return False


def report_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a report as `model_dump_json()` writes it.

    `docs/reference/report-schema.json` is this, written down; a test holds the two together.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RunSummary.model_json_schema(mode="serialization", schema_generator=_Untitled),
        "title": "pytest-agentlimit report, schema version 1",
    }

"""What one run leaves behind: the manifest, one record per trial, and the ids that were expected.

These are the only inputs of every summary, gate and report, today or years later. Plain JSON
types only: a record crosses from an xdist worker on a test report.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from pytest_agentlimit.chat.messages import COLD_LOAD_S, Finding, Frozen, StopReason, Usage
from pytest_agentlimit.errors import Blame
from pytest_agentlimit.runs.energy import EnergyUse
from pytest_agentlimit.runs.lock import Lock

Outcome = Literal["passed", "failed", "infra", "unsupported", "inconclusive", "skipped", "crashed"]
SCORED: frozenset[str] = frozenset({"passed", "failed", "crashed"})
"""Outcomes that are evidence about the model on this endpoint; the others only lower completion.

A worker that died while a trial ran (`crashed`) is scored as a failure until it is run again:
leaving it out would reward a model for replies that kill the test process.
"""


class CheckPlan(Frozen):
    """What a check is, known before its trial runs: identity and markers."""

    check: str
    """The node id without model and trial, the same on every machine."""
    model: str
    trial: int = Field(ge=1)
    """Also the round."""
    seed: int
    instance_seed: int | None = None
    """Seed of the instance where it is not `seed`: one instance, sampled anew each trial."""
    capability: str | None = None
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    blocker: bool = False
    budget_ms: float | None = Field(default=None, ge=0)
    budget_quantile: float = Field(default=0.95, gt=0, lt=1)
    line: int | None = None
    """Where the check starts in its file, 1-based; it orders reports the same in every run."""
    version: str | None = None
    """What tells one text of the check, or one version of its generator, from the next."""

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes a trial the same trial: check, model, trial number."""
        return (self.check, self.model, self.trial)


class CallRecord(Frozen):
    """One call to the endpoint; times are milliseconds, offsets count from the trial's start."""

    start_ms: float
    end_ms: float
    """Back-off between retries is taken out; the retries themselves are in."""
    connect_ms: float | None = None
    first_byte_ms: float | None = None
    ttft_ms: float | None = None
    first_tool_ms: float | None = None
    server_load_ms: float | None = None
    server_prompt_ms: float | None = None
    server_predicted_ms: float | None = None
    attempts: int = 1
    verdict: Literal["call", "leaked", "truncated", "no_call"] | None = None
    stop_reason: StopReason | None = None
    usage: Usage = Usage()
    findings: tuple[Finding, ...] = ()
    waited_ms: float = 0.0
    """Time the call stood in line for the endpoint before it started; never latency."""
    inflight_start: int | None = None
    """Callers (processes with a call under way) at its start, itself included; None: not known."""
    inflight_end: int | None = None
    """The same at its end."""
    error_kind: str | None = None
    """`kind` of the EndpointError that ended the call, or None."""
    timed_out: bool = False
    output_digest: str | None = None
    """SHA-256 over the blocks of the reply, so that identical trials can be told."""

    @property
    def cold(self) -> bool:
        """Whether the server, by its own account, loaded the model during this call."""
        return self.server_load_ms is not None and self.server_load_ms >= 1000 * COLD_LOAD_S


class RungRecord(Frozen):
    """One trial at one level of a ladder."""

    number: int = Field(ge=1)
    """Counts the trials of the climb, those that infrastructure ended included."""
    level: int
    outcome: Literal["passed", "failed", "infra"]
    mode: str | None = None
    """How it failed (METHOD 5), or `transport_error`; None when it passed."""
    blame: Blame | None = None
    """Set for everything that did not pass, None otherwise."""
    detail: str = ""
    """The failure in one printable line; untrusted model output may be quoted in it."""
    latency_ms: float | None = None
    """Time spent waiting on the model; None when no call was made."""
    transcript: str = ""
    """What was said and called, bounded and printable; untrusted."""
    measures: dict[str, float] = Field(default_factory=dict)
    """Numbers of the ladder's own, such as wasted calls."""
    calls: tuple[CallRecord, ...] = ()
    """Of a climb under way; when it has ended, they are among those of the check's trial."""


class LadderRecord(Frozen):
    """One climb: what was asked, and every trial in order. The ceiling follows from it."""

    name: str
    unit: str = ""
    """What a level counts, in the plural."""
    levels: tuple[int, ...]
    reliability: float
    at_least: int | None = None
    """The level that was asked for; None: the ceiling itself was looked for."""
    seed: int
    shape: Literal["bare", "agent"] = "bare"
    rungs: tuple[RungRecord, ...] = ()
    width: int = Field(default=1, ge=1)
    """Trials in flight at once."""
    alone: bool = False
    """Its trials load the endpoint on purpose, so how fast their calls are says nothing else."""


class HarnessUse(Frozen):
    """What an external agent program did in one trial, as seen from outside; sums over its runs."""

    runs: int
    requests: int
    """Everything it asked the model, refused requests included."""
    turns: int
    """Requests of the work itself."""
    background: int
    """Requests beside it: titles, summaries."""
    retries: int
    """Requests it sent again after a failure."""
    largest_request: int
    """Bytes of the largest request."""
    seconds: float
    """From its start to its end, the model's time included."""
    problems: tuple[str, ...] = ()
    """Where process, wire and workspace disagree; bounded and printable."""


class TrialRecord(Frozen):
    """One trial of one check on one model: the plan, what happened, what it cost."""

    plan: CheckPlan
    nodeid: str
    outcome: Outcome
    blame: Blame | None = None
    """Set for everything that did not pass, None otherwise."""
    message: str | None = None
    """The failure in one bounded, printable text; untrusted model output may be quoted in it."""
    duration_s: float = 0.0
    calls: tuple[CallRecord, ...] = ()
    latency_ms: float | None = None
    """Time spent waiting on the model; None when no call was made or when `timed_out`."""
    timed_out: bool = False
    ladder: LadderRecord | None = None
    """The climb, for a check that is one; its latencies are in it and not above."""
    harness: HarnessUse | None = None
    """What the agent program did that the trial went through, if it did."""
    rewarmed_ms: float | None = None
    """What a call took that warmed the endpoint up again before this trial; no part of it."""
    worker: str | None = None
    attempt: int = 1
    """Of reruns of the same trial (pytest-rerunfailures), the last counts."""

    @property
    def climbed(self) -> bool:
        """Whether this is a climb that came to its end; another one can be gone on with."""
        return self.ladder is not None and self.outcome in ("passed", "failed")

    @property
    def latency(self) -> float | None:
        """Milliseconds, +inf after a timeout, None when nothing was measured."""
        return math.inf if self.timed_out else self.latency_ms


class GateSettings(Frozen):
    """What the user asked the gate to hold; None means the rule is not in force."""

    mode: Literal["point", "strict", "proven", "off"] = "point"
    min_score: float | None = None
    """0..1."""
    p95: Literal["within-budget"] | float | None = None
    """`within-budget`, or one budget in milliseconds for every check."""
    min_completion: float = 0.95
    baseline: Lock | None = None
    """What an earlier run counted: the candidate must not be worse beyond noise."""
    early_stop: bool = False
    """The evidence gate (METHOD 3) may end the run after a complete round."""

    @property
    def asked(self) -> bool:
        """True when a gate option was given: failed checks are then evidence, not a red run."""
        return not (self.min_score is None and self.p95 is None and self.baseline is None)


class ModelEntry(Frozen):
    """One model of the run and what is known of what serves it."""

    name: str
    fingerprint: dict[str, Any] = Field(default_factory=dict)
    preflight: dict[str, Any] = Field(default_factory=dict)
    """What was found out before the first trial: `mode`, `faults`, `facts`; empty: nothing was."""
    asked: str = ""
    """What was typed after `--agent-model=`, so that the run can be resumed."""
    max_inflight: int = 1
    """The concurrency that was declared: only samples taken with exactly that many calls count."""


class AuditedCheck(Frozen):
    """What an audit found of one check (METHOD 7)."""

    version: str | None = None
    """Of the check then, as in CheckPlan: another text of it has not been audited."""
    passed_by: tuple[str, ...] = ()
    """The null models that passed it; with any, the check is vacuous."""


class Manifest(Frozen):
    """What was asked and of whom, written before the first trial."""

    schema_version: Literal[1] = 1
    run_id: str
    started: str
    """ISO 8601, UTC."""
    seed: int
    plugin_version: str
    host: str
    shape: Literal["bare", "agent"] = "bare"
    purpose: Literal["score", "classify", "audit"] = "score"
    """`classify` runs a check to its first flip (METHOD 2), `audit` runs null models (METHOD 7)."""
    classify_by: Literal["instance", "sampling"] = "instance"
    """Whether a run that classifies draws a new instance each trial or samples one again."""
    config: str | None = None
    """`--agent-config`, so that a resumed run finds its models again."""
    tools: tuple[Literal["native", "emulate"], ...] = ()
    """How tools were offered; empty: as each model's table says. Two: each model in both ways."""
    harness: str | None = None
    """The agent program that `agent.run` went through."""
    trials: int = 1
    """`--agent-trials`, for checks without a number of their own."""
    models: tuple[ModelEntry, ...] = ()
    gate: GateSettings = GateSettings()
    audited: dict[str, AuditedCheck] = Field(default_factory=dict)
    """By check id, what the last audit of the project found; empty: no audit is known."""


class ExpectedTrial(Frozen):
    """One collected trial; `model` and `trial` are None when its id does not name them.

    Made from a node id by `runs.expected.expected_trial`.
    """

    nodeid: str
    """Without the `@group` of xdist's load grouping."""
    model: str | None = None
    trial: int | None = None
    stem: str = ""
    """The node id without model and trial, which all trials of a check share."""


class RunData(Frozen):
    """A run, finished or not, as it can be read back from its folder."""

    manifest: Manifest
    records: tuple[TrialRecord, ...] = ()
    """In the order they came; of two with the same plan key the later counts."""
    expected: tuple[ExpectedTrial, ...] = ()
    """Every collected trial, in collection order; one without a record was lost."""
    duration_s: float = 0.0
    energy: dict[str, EnergyUse] = Field(default_factory=dict)
    """By model; empty when not measured, which a run in several parts never is."""
    rungs: dict[str, tuple[RungRecord, ...]] = Field(default_factory=dict)
    """By node id, what climbs that were cut short had found; a finished climb has a record."""
    notes: tuple[str, ...] = ()
    """Things a reader must know: interrupted, journal not written, worker lost …"""

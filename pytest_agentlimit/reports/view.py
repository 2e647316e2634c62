"""A run in words: every number formatted, every text printable, sorted as it is read.

Renderers lay these strings out and decide nothing. House rule: a number has its n and its
interval beside it, or the words "not enough runs (need N)" or "not measured".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_agentlimit.reports import facts, numbers, provenance
from pytest_agentlimit.reports.audit import audit_facts
from pytest_agentlimit.reports.facts import Fact, Tone
from pytest_agentlimit.reports.head_to_head import HeadToHead, baseline_facts, of_sides
from pytest_agentlimit.reports.ladders import LaddersView, of_ladders
from pytest_agentlimit.runs.gate import evaluate, is_red
from pytest_agentlimit.runs.names import check_name
from pytest_agentlimit.runs.records import SCORED, GateSettings, RunData, TrialRecord
from pytest_agentlimit.runs.schema import CheckPart, ModelPart, RunSummary
from pytest_agentlimit.runs.sides import sides_of_run
from pytest_agentlimit.runs.summary import notes
from pytest_agentlimit.runs.trials import CheckTrials, ModelTrials, model_trials
from pytest_agentlimit.text import one_line

LETTERS = {
    "passed": "P",
    "failed": "F",
    "infra": "I",
    "unsupported": "U",
    "inconclusive": "?",
    "skipped": "S",
    "crashed": "C",
}
NOT_RUN = "-"
MOST_LETTERS = 12
"""From here on the outcomes of a check are counted: "52P 8F"."""
MESSAGE_LIMIT = 300
NOTE_LIMIT = 600
_MEANINGS = {LETTERS[name]: name for name in LETTERS} | {NOT_RUN: "no report"}
_OBVIOUS = frozenset("PF")

GateWord = Literal["PASS", "FAIL", "INCONCLUSIVE", "not asked"]


@dataclass(frozen=True)
class CheckRow:
    """One line of the table."""

    name: str
    file: str
    weight: str
    trials: str
    """A letter a trial in trial order, or counts of them."""
    rate: str
    p50: str
    budget: str
    blame: str
    """Of the first trial that did not pass; empty when all passed."""
    tone: Tone


@dataclass(frozen=True)
class Failure:
    """The first trial of a check that did not pass, for reports without pytest's output."""

    check: str
    trial: str
    outcome: str
    blame: str
    message: str
    """Untrusted: a model may have written it. Printable, one line, bounded."""


@dataclass(frozen=True)
class ModelView:
    """One model: who served it, its table, and what follows from it."""

    name: str
    served: tuple[str, ...]
    rows: tuple[CheckRow, ...]
    legend: str
    """What the letters mean, where P and F do not say it all; else empty."""
    facts: tuple[Fact, ...]
    failures: tuple[Failure, ...]
    ladders: tuple[LaddersView, ...] = ()
    """One, or none when no ladder was climbed."""


@dataclass(frozen=True)
class RuleLine:
    """One rule of the gate."""

    name: str
    verdict: str
    message: str
    tone: Tone


@dataclass(frozen=True)
class GateView:
    """The verdict of the run and its reasons."""

    word: GateWord
    comment: str
    """What the verdict does to the exit code, or how to ask for one."""
    tone: Tone
    rules: tuple[RuleLine, ...]


@dataclass(frozen=True)
class RunView:
    """A whole run, ready to be laid out."""

    run: tuple[str, ...]
    """Run id, start, duration, host, plugin: what an archive needs."""
    models: tuple[ModelView, ...]
    gate: GateView
    notes: tuple[str, ...]
    head_to_head: tuple[HeadToHead, ...] = ()
    """One, or none when the run has a single model."""
    audit: tuple[Fact, ...] = ()
    """Of a run over null models: then this is all there is to say, and `models` is empty."""


def build_view(summary: RunSummary, data: RunData) -> RunView:
    """Return the run in words; `summary` must be that of `data`."""
    trials = {found.name: found for found in model_trials(data)}
    info = summary.run
    is_audit = data.manifest.purpose == "audit"
    return RunView(
        run=(
            f"run {one_line(info.id)}",
            one_line(info.started),
            f"took {numbers.seconds(info.duration_s)}",
            f"pytest-agentlimit {one_line(info.plugin_version)}",
            one_line(info.host),
        ),
        models=()
        if is_audit
        else tuple(_model(part, trials[part.name], data) for part in summary.models),
        head_to_head=_head_to_head(summary, data),
        audit=audit_facts(data) if is_audit else (),
        gate=_gate(summary, data),
        notes=tuple(one_line(note, NOTE_LIMIT) for note in notes(data)),
    )


def _head_to_head(summary: RunSummary, data: RunData) -> tuple[HeadToHead, ...]:
    if not summary.comparisons:
        return ()
    return (of_sides(sides_of_run(data), summary.comparisons),)


def _model(part: ModelPart, trials: ModelTrials, data: RunData) -> ModelView:
    parts = {check.id: check for check in part.checks}
    rows = tuple(
        _row(parts[check.plan.check], check, data.manifest.gate) for check in trials.checks
    )
    return ModelView(
        name=one_line(part.name),
        served=facts.served_by(part.fingerprint, data.manifest),
        rows=rows,
        legend=_legend(rows),
        facts=(
            *facts.of_model(part, trials, data.manifest.gate),
            *baseline_facts(trials, data.manifest),
            *provenance.of_model(part, trials, data),
        ),
        failures=tuple(
            _failure(check, first)
            for check in trials.checks
            if (first := first_failure(check)) is not None
        ),
        ladders=of_ladders(part.ladders),
    )


def _row(part: CheckPart, check: CheckTrials, gate: GateSettings) -> CheckRow:
    first = first_failure(check)
    name = check_name(part.id) + (" (blocker)" if part.blocker else "")
    asked = gate.p95 if isinstance(gate.p95, float) else check.plan.budget_ms
    return CheckRow(
        name=name,
        file=one_line(part.id.partition("::")[0]) if "::" in part.id else "",
        weight=f"{part.weight:g}",
        trials=_trials(check),
        rate=numbers.rate(part.passes, part.trials, part.rate_low, part.rate_high),
        p50=numbers.duration(part.p50_ms),
        budget=numbers.budget(asked),
        blame=(first.blame or "") if first else "",
        tone=_tone(check),
    )


def _tone(check: CheckTrials) -> Tone:
    outcomes = {record.outcome for record in check.records}
    if outcomes & {"failed", "crashed"}:
        return "bad"
    return "good" if outcomes == {"passed"} else "odd"


def _trials(check: CheckTrials) -> str:
    by_trial = {record.plan.trial: LETTERS[record.outcome] for record in check.records}
    by_trial |= dict.fromkeys(check.missing, NOT_RUN)
    letters = [by_trial[trial] for trial in sorted(by_trial)]
    if len(letters) <= MOST_LETTERS:
        return "".join(letters)
    return " ".join(f"{letters.count(letter)}{letter}" for letter in _MEANINGS if letter in letters)


def _legend(rows: tuple[CheckRow, ...]) -> str:
    used = {char for row in rows for char in row.trials if char in _MEANINGS}
    if used <= _OBVIOUS:
        return ""
    return " · ".join(f"{letter} {word}" for letter, word in _MEANINGS.items() if letter in used)


def first_failure(check: CheckTrials) -> TrialRecord | None:
    """Return the first trial that failed, else the first that is no evidence."""
    bad = [record for record in check.records if record.outcome not in ("passed", "skipped")]
    return min(bad, key=lambda record: record.outcome not in SCORED, default=None)


def _failure(check: CheckTrials, record: TrialRecord) -> Failure:
    return Failure(
        check=check_name(check.plan.check),
        trial=f"trial {record.plan.trial}",
        outcome="timeout" if record.timed_out else record.outcome,
        blame=record.blame or "not known",
        message=one_line(record.message or "no message", MESSAGE_LIMIT),
    )


_WORDS: dict[str, tuple[GateWord, Tone]] = {
    "pass": ("PASS", "good"),
    "fail": ("FAIL", "bad"),
    "inconclusive": ("INCONCLUSIVE", "odd"),
}


def _gate(summary: RunSummary, data: RunData) -> GateView:
    settings, gate = data.manifest.gate, summary.gate
    rules = tuple(
        RuleLine(rule.rule, rule.verdict, one_line(rule.message, 500), _WORDS[rule.verdict][1])
        for rule in sorted(gate.rules, key=lambda rule: _ORDER.index(rule.verdict))
    )
    if not settings.asked:
        asking = "add --agent-min-score=80 or --agent-p95=within-budget for a verdict"
        return GateView("not asked", asking, "plain", rules)
    word, tone = _WORDS[gate.verdict]
    comment = f"--agent-gate={settings.mode}"
    if settings.mode == "off":
        comment += ": report only"
    elif gate.verdict == "inconclusive":
        red = is_red(evaluate(data, summary.models), settings)
        comment += ": leaves the run red" if red else ": leaves the run green"
    return GateView(word, comment, tone, rules)


_ORDER = ("fail", "inconclusive", "pass")

"""The same trials under another bar: other weights, budgets and thresholds, and no model call."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.runs.expected import bare_nodeid, expected_trial
from pytest_agentlimit.runs.names import check_name
from pytest_agentlimit.runs.records import GateSettings, Manifest, RunData, TrialRecord
from pytest_agentlimit.runs.stopping import needed_trials
from pytest_agentlimit.text import one_line

Mode = Literal["point", "strict", "proven", "off"]
NAMED = 3
"""How many checks a message names."""


def regate(
    data: RunData,
    *,
    min_score: float | None = None,
    p95: Literal["within-budget"] | float | None = None,
    mode: Mode | None = None,
    weights: Mapping[str, float] | None = None,
    budgets: Mapping[str, float] | None = None,
    blockers: Collection[str] = (),
) -> RunData:
    """Return the run as if it had been started with these settings; what is not given stays.

    `min_score` is 0..1, `p95` and `budgets` are milliseconds. Weights and budgets are by pattern
    (see `matching`); of two patterns that match a check, the later one holds. A note says what was
    changed. Raises UsageProblem for a pattern without a check, for settings that contradict each
    other, and when there is no bar to hold the run against.
    """
    given = {"min_score": min_score, "p95": p95, "mode": mode}
    gate = data.manifest.gate.model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    _require_sense(data, gate, budgets or {})
    asked = [
        *(("weight", pattern, value) for pattern, value in (weights or {}).items()),
        *(("budget_ms", pattern, value) for pattern, value in (budgets or {}).items()),
        *(("blocker", pattern, True) for pattern in blockers),
    ]
    checks = sorted({record.plan.check for record in data.records})
    changes: dict[str, dict[str, Any]] = {}
    said = []
    for field, pattern, value in asked:
        found = matching(pattern, checks)
        for check in found:
            changes.setdefault(check, {})[field] = value
        said.append(f"{_WORDS[field]} {_shown(field, value)} for {_named(found)}")
    judged = _without_early_stop(data, gate, bool(weights))
    records = tuple(_with(record, changes) for record in judged.records)
    notes = (*judged.notes, *_told(data.manifest.gate, gate, said))
    return judged.model_copy(update={"records": records, "notes": notes})


def matching(pattern: str, checks: Iterable[str]) -> list[str]:
    """Return the checks that `pattern` means: as a glob of the whole id, or a part of it.

    The part may be of the short name as well, as reports show it. Raises UsageProblem naming near
    checks when there is none.
    """
    checks = list(checks)
    found = [
        check
        for check in checks
        if fnmatchcase(check, pattern) or pattern in check or pattern in check_name(check)
    ]
    if found and pattern:
        return found
    shown = one_line(pattern)
    if not checks:
        raise UsageProblem(f"no check fits {shown!r}: the run has no record of any check")
    near = difflib.get_close_matches(pattern, map(check_name, checks), n=NAMED, cutoff=0.4)
    names = near or [check_name(check) for check in checks[:NAMED]]
    word = "the nearest are" if near else f"of {len(checks)} the first are"
    raise UsageProblem(
        f"no check fits {shown!r}; {word} {', '.join(names)}. Give a "
        "part of a check's id or a glob of the whole id"
    )


def _require_sense(data: RunData, gate: GateSettings, budgets: Mapping[str, float]) -> None:
    purpose = data.manifest.purpose
    if purpose != "score":
        verb = {"classify": "classifies checks", "audit": "audits them with null models"}[purpose]
        raise UsageProblem(
            f"the run {one_line(data.manifest.run_id)} {verb}, so it has no score to gate; "
            "take a run without --agent-classify and --agent-audit"
        )
    if not gate.asked:
        raise UsageProblem(
            "the run had no threshold and none is given, so there is nothing to decide; give "
            "--min-score=80, --p95=within-budget or --p95=6s"
        )
    if budgets and isinstance(gate.p95, int | float):
        raise UsageProblem(
            f"--budget gives checks budgets of their own, and the P95 of {gate.p95 / 1000:g} s is "
            "one budget for all; add --p95=within-budget"
        )


def _without_early_stop(data: RunData, gate: GateSettings, reweighed: bool) -> RunData:
    """Return `data` with the new gate, every trial counted that was run under another one.

    What the old gate made needless and was never run is not expected either. Under the old bar
    and the old weights the old decision holds as it was.
    """
    old = data.manifest.gate
    if gate.min_score == old.min_score and not reweighed:
        return data.model_copy(update={"manifest": _manifest(data, gate)})
    names = [entry.name for entry in data.manifest.models]
    needed = needed_trials(data, lambda record: expected_trial(record.nodeid, names))
    seen = {bare_nodeid(record.nodeid) for record in data.records}
    expected = tuple(t for t in data.expected if needed(t) or t.nodeid in seen)
    notes = data.notes
    if needed.stops:
        last = max(stop.round for stop in needed.stops.values())
        notes += (
            f"the run was ended after round {last} because another bar was decided by then; a run "
            "of a fixed length would differ, so the interval of the score is not exact",
        )
    manifest = _manifest(data, gate.model_copy(update={"early_stop": False}))
    return data.model_copy(update={"manifest": manifest, "expected": expected, "notes": notes})


def _manifest(data: RunData, gate: GateSettings) -> Manifest:
    return data.manifest.model_copy(update={"gate": gate})


def _with(record: TrialRecord, changes: Mapping[str, Mapping[str, Any]]) -> TrialRecord:
    changed = changes.get(record.plan.check)
    if changed is None:
        return record
    return record.model_copy(update={"plan": record.plan.model_copy(update=changed)})


_WORDS = {
    "min_score": "minimum score",
    "p95": "P95",
    "mode": "gate",
    "weight": "weight",
    "budget_ms": "latency budget",
    "blocker": "blocker",
}


def _told(old: GateSettings, new: GateSettings, said: list[str]) -> list[str]:
    """Return the sentence on the settings that came after the trials, none when all were there."""
    gate = [
        f"{_WORDS[name]} {_shown(name, getattr(new, name))} (was {_shown(name, before)})"
        for name in ("min_score", "p95", "mode")
        if (before := getattr(old, name)) != getattr(new, name)
    ]
    found = [*gate, *said]
    return [f"judged again after the run, with {'; '.join(found)}"] if found else []


def _shown(field: str, value: Any) -> str:
    if value is None:
        return "not asked"
    if field == "min_score":
        return f"{100 * value:g} %"
    if field in ("p95", "budget_ms") and not isinstance(value, str):
        return f"{value / 1000:g} s"
    if field == "blocker":
        return "set"
    return f"{value:g}" if field == "weight" else str(value)


def _named(checks: list[str]) -> str:
    named = ", ".join(check_name(check) for check in checks[:NAMED])
    return named if len(checks) <= NAMED else f"{named} and {len(checks) - NAMED} more"

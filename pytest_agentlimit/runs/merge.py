"""Shards of one run, made on several machines, put together again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pytest_agentlimit.errors import AgentLimitError, UsageProblem
from pytest_agentlimit.runs.expected import bare_nodeid
from pytest_agentlimit.runs.journal import RunFolder
from pytest_agentlimit.runs.names import check_name
from pytest_agentlimit.runs.records import (
    SCORED,
    AuditedCheck,
    CheckPlan,
    Manifest,
    RunData,
    RungRecord,
    TrialRecord,
)
from pytest_agentlimit.runs.trials import needed_and_lost
from pytest_agentlimit.text import one_line

NAMED = 3
"""How many differences, trials or shards a sentence names."""
_PLAN = ("weight", "blocker", "budget_ms", "budget_quantile", "capability", "version")
"""What must be the same wherever a check ran."""


def merge(runs: Sequence[RunData]) -> RunData:
    """Return the run that `runs` are shards of; its id is empty until it has a folder.

    A trial that several shards ran counts once: a scored record wins over one that is not, else
    the first given. What any shard collected is expected, so a trial that none ran is lost. Of a
    climb that no shard finished, the longest part is kept.
    `started` is the earliest, `duration_s` the sum. Raises UsageProblem with one line on what
    differs, and between which, when these are not shards of one run.
    """
    if not runs:
        raise UsageProblem("there is nothing to merge; give the folders of at least one run")
    _require_alike(runs)
    records, doubled = _records(runs)
    merged = RunData(
        manifest=_manifest(runs),
        records=records,
        expected=tuple({trial.nodeid: trial for run in runs for trial in run.expected}.values()),
        duration_s=sum(run.duration_s for run in runs),
        rungs=_rungs(runs, records),
    )
    notes = (*_told(merged, _ids(runs), doubled), *_notes(runs))
    return merged.model_copy(update={"notes": notes})


def write_run(data: RunData, root: Path) -> RunFolder:
    """Return the new folder below `root` that `data` was written to; no other run is touched.

    Raises AgentLimitError when it cannot be written whole; nothing of it is left then.
    """
    folder = RunFolder.create(root, data.manifest)
    folder.expect(trial.nodeid for trial in data.expected)
    for record in data.records:
        folder.append(record)
    for nodeid, rungs in data.rungs.items():
        for rung in rungs:
            folder.climb(nodeid, rung)
    folder.finish(data.duration_s, data.notes)
    folder.close()
    if folder.problem is not None:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise AgentLimitError(f"the run was not kept: {folder.problem}")
    return folder


def _records(runs: Iterable[RunData]) -> tuple[tuple[TrialRecord, ...], int]:
    """Return one record a trial, and how many more there were."""
    kept: dict[tuple[str, str, int], TrialRecord] = {}
    doubled = 0
    for run in runs:
        for key, record in {record.plan.key: record for record in run.records}.items():
            before = kept.get(key)
            doubled += before is not None
            if before is None or (before.outcome not in SCORED and record.outcome in SCORED):
                kept[key] = record
    return tuple(kept.values()), doubled


def _rungs(
    runs: Iterable[RunData], records: Iterable[TrialRecord]
) -> dict[str, tuple[RungRecord, ...]]:
    """Return the climbs that no shard brought to a record.

    Parts of one climb never add up: each shard began it anew.
    """
    climbed = {bare_nodeid(record.nodeid) for record in records if record.climbed}
    kept: dict[str, tuple[RungRecord, ...]] = {}
    for run in runs:
        for nodeid, rungs in run.rungs.items():
            if nodeid not in climbed and len(rungs) > len(kept.get(nodeid, ())):
                kept[nodeid] = rungs
    return kept


def _manifest(runs: Sequence[RunData]) -> Manifest:
    manifests = [run.manifest for run in runs]
    audited: dict[str, AuditedCheck] = {}
    for manifest in reversed(manifests):
        audited |= manifest.audited
    return manifests[0].model_copy(
        update={
            "run_id": "",
            "started": min(manifest.started for manifest in manifests),
            "host": " + ".join(dict.fromkeys(manifest.host for manifest in manifests)),
            "audited": audited,
        }
    )


def _require_alike(runs: Sequence[RunData]) -> None:
    first = runs[0].manifest
    plans: dict[str, tuple[str, CheckPlan]] = {}
    for run in runs:
        other = run.manifest
        _refuse(first.run_id, other.run_id, _differences(_traits(first), _traits(other)))
        for record in run.records:
            plan = record.plan
            where, before = plans.setdefault(plan.check, (other.run_id, plan))
            if _suite(before) != _suite(plan):
                differ = _differences(_plan_traits(before), _plan_traits(plan))
                _refuse(where, other.run_id, differ)


def _refuse(one: str, other: str, differences: Iterable[str]) -> None:
    found = list(differences)
    if not found:
        return
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    raise UsageProblem(
        f"{one_line(one)} and {one_line(other)} are not shards of one run; they differ in "
        f"{', '.join(found[:NAMED])}{more}. Run every shard with the same suite, model, options "
        "and --agent-seed"
    )


def _differences(one: Mapping[str, object], other: Mapping[str, object]) -> Iterator[str]:
    for name in dict.fromkeys((*one, *other)):
        values = one.get(name), other.get(name)
        if values[0] != values[1]:
            # A baseline is a whole lock: the run it was made of says enough.
            shown = [one_line(str(getattr(value, "run_id", value)), 60) for value in values]
            yield f"{one_line(name, 120)} ({' and '.join(shown)})"


def _traits(manifest: Manifest) -> dict[str, object]:
    traits: dict[str, object] = {
        "the version of pytest-agentlimit": manifest.plugin_version,
        "seed": manifest.seed,
        "shape": manifest.shape,
        "purpose": (manifest.purpose, manifest.classify_by),
        "trials": manifest.trials,
        "models": [entry.name for entry in manifest.models],
    }
    traits |= {f"gate {name}": value for name, value in manifest.gate}
    for entry in manifest.models:
        traits |= {f"{entry.name} {key}": value for key, value in entry.fingerprint.items()}
        traits[f"{entry.name} max-inflight"] = entry.max_inflight
    return traits


def _suite(plan: CheckPlan) -> tuple[object, ...]:
    return tuple(getattr(plan, name) for name in _PLAN)


def _plan_traits(plan: CheckPlan) -> dict[str, object]:
    names = (f"{name} of {check_name(plan.check)}" for name in _PLAN)
    return dict(zip(names, _suite(plan), strict=True))


def _told(merged: RunData, shards: list[str], doubled: int) -> Iterator[str]:
    """Yield what a reader must know of the merge itself."""
    yield f"merged from {_count(len(shards), 'shard')}: {_named(shards)}"
    if doubled:
        yield (
            f"{_count(doubled, 'record')} of trials that another shard had run as well counted once"
        )
    _, lost = needed_and_lost(merged)
    if not lost:
        return
    yield f"{_count(len(lost), 'trial')} in no shard: {_named(lost)}"
    if merged.manifest.gate.early_stop:
        yield (
            "each shard may have ended early by its own checks alone, which the whole run cannot "
            "take over: run shards without --agent-min-score, and give it to agentlimit regate"
        )


def _notes(runs: Iterable[RunData]) -> Iterator[str]:
    """Yield the notes of the shards, each once, with the shards it came from."""
    told: dict[str, list[str]] = {}
    for run in runs:
        for note in run.notes:
            told.setdefault(note, []).append(run.manifest.run_id)
    for note, ids in told.items():
        yield f"{note} (shard {_named(ids)})"


def _ids(runs: Iterable[RunData]) -> list[str]:
    return [run.manifest.run_id for run in runs]


def _named(names: list[str]) -> str:
    named = ", ".join(one_line(name) for name in names[:NAMED])
    return named if len(names) <= NAMED else f"{named} and {len(names) - NAMED} more"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

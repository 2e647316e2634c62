"""A lock made from a run, and what it changes in the lock it replaces."""

from __future__ import annotations

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.runs.baseline import changes
from pytest_agentlimit.runs.lines import UNFINISHED
from pytest_agentlimit.runs.lock import Lock, LockedCheck, LockedModel
from pytest_agentlimit.runs.points import counted
from pytest_agentlimit.runs.records import RunData
from pytest_agentlimit.runs.sides import SideCheck, side_of_trials
from pytest_agentlimit.runs.trials import CheckTrials, ModelTrials, model_trials, needed_and_lost
from pytest_agentlimit.text import one_line


def lock_of(data: RunData) -> Lock:
    """Return what a run counted.

    Raises UsageProblem for a run that was not made to be scored, has no end, lost trials, or has a
    model that scored nothing: none of them is anything to hold a model against.
    """
    manifest = data.manifest
    name = one_line(manifest.run_id, 80)
    if manifest.purpose != "score":
        raise UsageProblem(
            f"the run {name} was made with --agent-{manifest.purpose} and gives no score to lock; "
            "lock a run without that option"
        )
    _, lost = needed_and_lost(data)
    if UNFINISHED in data.notes or lost:
        missing = f": {counted(len(lost), 'trial')} without a report" if lost else ""
        raise UsageProblem(
            f"the run {name} is not finished{missing}; resume it with --agent-resume={name}, "
            "then lock it"
        )
    models = model_trials(data)
    if not models:
        raise UsageProblem(f"the run {name} has no model, so there is nothing to lock")
    return Lock(
        run_id=manifest.run_id,
        plugin_version=manifest.plugin_version,
        shape=manifest.shape,
        models=tuple(_locked(model, name) for model in models),
    )


def caution(data: RunData) -> str | None:
    """Return one sentence when the evidence gate ended the run, else None.

    A run that ends as soon as it looks good has counts that look a little too good.
    """
    ended = [one_line(found.name, 60) for found in model_trials(data) if found.stop is not None]
    if not ended:
        return None
    return (
        f"the evidence gate ended the run of {', '.join(ended)} early, so its counts lean towards "
        "that verdict; lock a run without --agent-min-score for a baseline that does not"
    )


def described(lock: Lock, old: Lock | None = None) -> str:
    """Return one line on what a lock holds, and on how it differs from the one it replaces."""
    models = "; ".join(
        f"{one_line(model.name, 60)}: {counted(len(model.checks), 'check')}, "
        f"{sum(c.passes for c in model.checks.values())} of "
        f"{counted(sum(c.trials for c in model.checks.values()), 'trial')} passed"
        for model in lock.models
    )
    said = f"{models} (run {one_line(lock.run_id, 80)})"
    return said if old is None else f"{said}; {_replaces(lock, old)}"


def _locked(model: ModelTrials, run: str) -> LockedModel:
    checks = side_of_trials(model).checks
    if not checks:
        raise UsageProblem(
            f"{one_line(model.name, 80)} scored nothing in the run {run}, so there is nothing to "
            "lock; look at its report, mend what stopped the trials, and run again"
        )
    return LockedModel(
        name=model.name,
        fingerprint=model.fingerprint,
        checks={
            check.plan.check: _locked_check(check, checks[check.plan.check])
            for check in model.scored_checks
        },
    )


def _locked_check(check: CheckTrials, found: SideCheck) -> LockedCheck:
    plan = check.plan
    return LockedCheck(
        weight=plan.weight,
        blocker=plan.blocker,
        budget_ms=plan.budget_ms,
        budget_quantile=plan.budget_quantile,
        version=plan.version,
        trials=round(found.trials),
        passes=found.whole_passes,
    )


def _replaces(lock: Lock, old: Lock) -> str:
    """Return how `lock` differs from `old`, model by model."""
    before = {model.name: model for model in old.models}
    after = {model.name: model for model in lock.models}
    parts = []
    for name in dict.fromkeys([*after, *before]):
        shown = one_line(name, 60)
        if name not in before:
            parts.append(f"{shown} is new")
        elif name not in after:
            parts.append(f"{shown} is gone")
        else:
            moved = ", ".join(_moved(before[name], after[name])) or "nothing moved"
            parts.append(f"{shown}: {moved}")
    return f"replaces run {one_line(old.run_id, 80)} ({'; '.join(parts)})"


def _moved(old: LockedModel, new: LockedModel) -> list[str]:
    both = old.checks.keys() & new.checks.keys()
    found = {
        "changed": sum(old.checks[check] != new.checks[check] for check in both),
        "new": len(new.checks.keys() - both),
        "gone": len(old.checks.keys() - both),
    }
    counts = [f"{counted(n, 'check')} {word}" for word, n in found.items() if n]
    return [*counts, *changes(old.fingerprint, new.fingerprint)]

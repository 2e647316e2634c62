"""Going on with a run that was killed: what it asked holds again, and only what is missing runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.runs.expected import bare_nodeid
from pytest_agentlimit.runs.journal import RunFolder
from pytest_agentlimit.runs.store import find_run
from pytest_agentlimit.text import one_line

from .context import ModelUnderTest
from .settings import Settings

if TYPE_CHECKING:
    from pytest_agentlimit.runs.records import Manifest, RunData, TrialRecord

FINAL = frozenset({"passed", "failed", "unsupported"})
"""Outcomes that stand. Whatever infrastructure, a broken fixture or a crash ended runs again."""


def open_earlier(config: pytest.Config, wanted: str) -> RunFolder:
    """Return the run to go on with; raises UsageProblem when there is none or it is in use."""
    return RunFolder.resume(find_run(wanted, config.rootpath))


def as_before(config: pytest.Config, settings: Settings, manifest: Manifest) -> Settings:
    """Return `settings` as the run had them, with gate options that were typed now.

    Raises pytest.UsageError for an option on the command line that would make it another run.
    """
    had: dict[str, Any] = {
        "models": tuple(dict.fromkeys(entry.asked for entry in manifest.models)),
        "trials": manifest.trials,
        "seed": manifest.seed,
        "shape": manifest.shape,
        "tools": manifest.tools,
        "harness": manifest.harness,
    }
    names = ("model", "trials", "seed", "shape", "tools", "harness")
    typed = {name for name in names if _typed(config, name)}
    for name in names:
        field = "models" if name == "model" else name
        if name in typed and getattr(settings, field) != had[field]:
            raise pytest.UsageError(_other(name, manifest.run_id, had[field]))
    for name in ("classify", "audit"):
        if _typed(config, name) and settings.purpose != manifest.purpose:
            raise pytest.UsageError(_other(name, manifest.run_id, f"purpose {manifest.purpose}"))
    gate = manifest.gate
    return replace(
        settings,
        models=had["models"],
        config=settings.config if _typed(config, "config") else manifest.config,
        trials=manifest.trials,
        seed=manifest.seed,
        shape=manifest.shape,
        tools=manifest.tools,
        harness=manifest.harness,
        audit=manifest.purpose == "audit",
        classify=manifest.classify_by if manifest.purpose == "classify" else None,
        min_score=settings.min_score if _typed(config, "min-score") else gate.min_score,
        p95=settings.p95 if _typed(config, "p95") else gate.p95,
        gate=settings.gate if _typed(config, "gate") else gate.mode,
    )


def require_same(manifest: Manifest, models: tuple[ModelUnderTest, ...]) -> None:
    """Raise UsageProblem when an endpoint is no longer what the first part of the run met."""
    before = {entry.name: entry.fingerprint for entry in manifest.models}
    for model in models:
        old = before.get(model.name, {})
        differs = sorted(
            key for key in {*old, *model.fingerprint} if old.get(key) != model.fingerprint.get(key)
        )
        if differs:
            shown = ", ".join(
                f"{key} was {one_line(str(old.get(key)), 60)}, "
                f"now {one_line(str(model.fingerprint.get(key)), 60)}"
                for key in differs[:3]
            )
            raise UsageProblem(
                f"the run {manifest.run_id} cannot be resumed: {one_line(model.name)} is not what "
                f"it was ({shown}). Start a new run, or bring the endpoint back to what it was"
            )


def finished_trials(data: RunData) -> dict[str, TrialRecord]:
    """Return the trials that need not run again, by node id; of several attempts the last."""
    last = {record.plan.key: record for record in data.records}.values()
    return {bare_nodeid(r.nodeid): r for r in last if r.outcome in FINAL}


def _typed(config: pytest.Config, name: str) -> bool:
    return config.getoption(f"agentlimit_{name.replace('-', '_')}") is not None


def _other(name: str, run_id: str, had: object) -> str:
    shown = ", ".join(had) if isinstance(had, tuple) else had
    return (
        f"--agent-{name} contradicts --agent-resume: the run {run_id} was made with "
        f"{one_line(str(shown))}. Leave the option out, or start a new run"
    )

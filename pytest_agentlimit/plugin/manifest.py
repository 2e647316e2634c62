"""What a run writes down before its first trial: what was asked, of whom, and on what machine."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from pytest_agentlimit import __version__
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.runs.audit import read_audit
from pytest_agentlimit.runs.baseline import pick
from pytest_agentlimit.runs.lock import Lock, read_lock
from pytest_agentlimit.runs.records import GateSettings, Manifest, ModelEntry
from pytest_agentlimit.text import one_line

from .context import RunContext
from .settings import Settings


def new_manifest(
    settings: Settings, context: RunContext, gate: GateSettings, root: Path
) -> Manifest:
    """Return the manifest of a run that is about to start."""
    ways = max(1, len(settings.tools))
    typed = {
        model.name: settings.models[number // ways] for number, model in enumerate(context.models)
    }
    return Manifest(
        run_id="",  # the folder names the run
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=context.seed,
        plugin_version=__version__,
        host=_host(),
        shape=settings.shape,
        purpose=settings.purpose,
        classify_by=settings.classify or "instance",
        config=settings.config,
        tools=settings.tools,
        harness=settings.harness,
        trials=settings.trials,
        models=tuple(
            ModelEntry(
                name=model.name,
                fingerprint=model.fingerprint,
                asked=typed[model.name],
                max_inflight=model.max_inflight,
            )
            for model in context.models
        ),
        gate=gate,
        audited={} if settings.audit else read_audit(root),
    )


def gate_settings(settings: Settings, baseline: Lock | None) -> GateSettings:
    """Return what the gate is to hold.

    A run may end early only where nothing but the score needs its trials: a comparison, a P95 and
    a baseline want every round.
    """
    alone = not settings.compares and settings.p95 is None and baseline is None
    return GateSettings(
        mode=settings.gate,
        min_score=settings.min_score,
        p95=settings.p95,
        baseline=baseline,
        early_stop=settings.min_score is not None and alone and settings.gate != "off",
    )


def load_baseline(given: str, folder: Path, names: list[str]) -> Lock:
    """Return the lock of `FILE` or `FILE#MODEL`, relative to `folder`.

    Raises UsageProblem when it cannot be read, or holds nothing for one of the models `names`.
    """
    file, _, model = given.partition("#")
    lock = read_lock(folder / Path(file).expanduser())
    if model:
        only = tuple(one for one in lock.models if one.name == model)
        lock = lock.model_copy(update={"models": only or lock.models})
        if not only:
            raise UsageProblem(
                f"--agent-baseline: {one_line(file)} holds no model {one_line(model)!r}; "
                f"it has {', '.join(one_line(one.name) for one in lock.models)}"
            )
    picked = [pick(lock, name) for name in names]
    return lock.model_copy(update={"models": tuple(m for m in lock.models if m in picked)})


def _host() -> str:
    """Return what matters for comparing runs, and nothing that names the machine."""
    system = f"{platform.system()} {platform.machine()}"
    return f"{system}, {os.cpu_count()} cores, Python {platform.python_version()}"

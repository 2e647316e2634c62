"""Getting to know the endpoints of a run, after collection: warm them up, then look at them.

What was found goes where it is needed: to the workers, into the manifest, to the top of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentlimit.runs.journal import RunFolder

from .context import RunContext
from .settings import Settings
from .warmth import replaced, warm_all, warm_up_note

if TYPE_CHECKING:
    from pytest_agentlimit.endpoints.warmup import WarmUp


def get_to_know(
    context: RunContext,
    folder: RunFolder,
    nodeids: list[str],
    settings: Settings,
    config: pytest.Config,
) -> Iterator[str]:
    """Yield the lines to show while models that have a trial are warmed up and looked at.

    A run that is taken up again keeps what its first part found.
    """
    warm = warm_all(context, nodeids, config.hook)
    for name, seen in warm.items():
        folder.note(warm_up_note(name, seen))
    known = {entry.name: entry.preflight for entry in folder.manifest.models if entry.preflight}
    if not known and settings.preflight != "off" and not replaced(config.hook):
        yield from _look(context, nodeids, settings.preflight, warm, config, known)
    if known:
        context.board.preflights = known
        context.board.publish()
        _keep(folder, known)


def _look(
    context: RunContext,
    nodeids: list[str],
    asked: str,
    warm: Mapping[str, WarmUp],
    config: pytest.Config,
    known: dict[str, dict[str, Any]],
) -> Iterator[str]:
    """Fill `known`, model by model, and yield the lines about each."""
    if not asked and not any(model.can_be_cold for model in context.models):
        return
    from .preflight import look
    from .preflight_lines import preflight_lines

    for found in look(context, nodeids, asked, config.rootpath):
        name = found.model.name
        known[name] = found.preflight.model_dump(mode="json")
        yield from preflight_lines(found, warm.get(name))


def _keep(folder: RunFolder, known: Mapping[str, dict[str, Any]]) -> None:
    """Add to the manifest what was found, without what it cost: two shards may differ in that."""
    models = tuple(
        entry.model_copy(update={"preflight": known.get(entry.name, {})})
        for entry in folder.manifest.models
    )
    folder.update_manifest(folder.manifest.model_copy(update={"models": models}))

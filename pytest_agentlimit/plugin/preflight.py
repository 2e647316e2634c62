"""What is found out about each endpoint before its first trial, once per model and run.

A result without faults is kept in the project for an hour. One with faults is not: who has just
mended a server must not be told of its old faults, and a faulty server is worth twelve requests.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_agentlimit import __version__
from pytest_agentlimit.endpoints.inflight import turnstile_for
from pytest_agentlimit.endpoints.known_faults import KnownFault, Preflight
from pytest_agentlimit.endpoints.probing import Diagnosis, run_ladder
from pytest_agentlimit.files import write_whole
from pytest_agentlimit.runs.expected import expected_trial
from pytest_agentlimit.runs.journal import HOME

if TYPE_CHECKING:
    from .context import ModelUnderTest, RunContext

Mode = Literal["quick", "full"]
KEPT_S = 3600.0
_FOLDER = "preflight"
_OF_NATIVE_TOOLS = frozenset(
    {"tool", "tool stream", "tool choice", "parallel", "replay", "tool in agent shape"}
)
_NOT_ABOUT_THE_SERVER = {"name", "source", "deadlines", "retries", "max_inflight", "watts"}
"""Parts of a spec that change nothing in what its server can do."""


@dataclass(frozen=True)
class Found:
    """What is known of one model's endpoint, and how long ago it was asked; None: just now."""

    model: ModelUnderTest
    preflight: Preflight
    age_s: float | None = None


def look(context: RunContext, nodeids: Iterable[str], asked: str, root: Path) -> Iterator[Found]:
    """Yield what is found out about each model that has a trial among `nodeids`.

    `asked` is the option's value. Without one, servers that play a script are left alone: a
    request that is not in the script would spoil it. Null models have no server.
    """
    names = [model.name for model in context.models]
    wanted = {expected_trial(nodeid, names).model for nodeid in nodeids}
    for model in context.models:
        served = model.can_be_cold or (bool(asked) and model.spec["kind"] != "null")
        if asked != "off" and served and model.name in wanted:
            yield _found(context, model, "full" if asked == "full" else "quick", root)


def _found(context: RunContext, model: ModelUnderTest, mode: Mode, root: Path) -> Found:
    path = root / HOME / _FOLDER / f"{_key(model, mode)}.json"
    kept = _read(path)
    if kept is not None:
        return Found(model, kept[0], kept[1])
    spec = context.spec(model.name)
    with turnstile_for(spec, model.max_inflight, context.board.lock_folder).turn():
        diagnosis = run_ladder(spec, full=mode == "full")
    preflight = _summary(diagnosis, mode)
    if spec.tools == "emulate":
        preflight = _without_tools(preflight)
    if not preflight.faults:
        _keep(path, preflight)
    return Found(model, preflight)


def _summary(diagnosis: Diagnosis, mode: Mode) -> Preflight:
    faults = tuple(
        KnownFault(
            step=result.name,
            code=result.code or "fault",
            blame=result.blame or "engine",
            message=result.message,
        )
        for result in diagnosis.faults
    )
    facts = {name: value for name, value in diagnosis.facts.items() if value is not None}
    return Preflight(
        mode=mode,
        faults=faults,
        facts=facts,
        requests=diagnosis.requests,
        seconds=round(diagnosis.seconds, 2),
    )


def _without_tools(preflight: Preflight) -> Preflight:
    """Return `preflight` without what only matters to a model that is offered tools."""
    faults = tuple(fault for fault in preflight.faults if fault.step not in _OF_NATIVE_TOOLS)
    return preflight.model_copy(update={"faults": faults})


def _key(model: ModelUnderTest, mode: Mode) -> str:
    """Return what tells this endpoint from any other, and from itself after a change."""
    spec = {name: part for name, part in model.spec.items() if name not in _NOT_ABOUT_THE_SERVER}
    if spec["kind"] == "embedded":
        del spec["base_url"]  # its port is another one every time
    told = json.dumps([__version__, mode, spec, model.fingerprint], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:20]


def _read(path: Path) -> tuple[Preflight, float] | None:
    """Return a result that is kept, and its age in seconds; damaged or old counts as none."""
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        age_s = time.time() - float(content["asked"])
        preflight = Preflight.model_validate(content["preflight"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (preflight, age_s) if 0 <= age_s < KEPT_S and not preflight.faults else None


def _keep(path: Path, preflight: Preflight) -> None:
    """Keep a result, and clear away those that are too old; a full disk only costs time."""
    content = {"asked": time.time(), "preflight": preflight.model_dump(mode="json")}
    try:
        write_whole(path, json.dumps(content, indent=1).encode())
        for other in path.parent.glob("*.json"):
            if time.time() - other.stat().st_mtime > KEPT_S:
                other.unlink(missing_ok=True)
    except OSError:
        return

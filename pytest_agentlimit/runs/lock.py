"""The lock: what a run counted, small enough for git, to hold the next model against.

It has the fingerprint of each model and the counts of each check. One line a check, sorted, so
that a diff shows which check moved.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from pytest_agentlimit.chat.messages import Frozen
from pytest_agentlimit.errors import AgentLimitError, UsageProblem
from pytest_agentlimit.files import write_whole
from pytest_agentlimit.text import one_line

LOCK_NAME = "agentlimit.lock.json"
LOCK_VERSION: Literal[1] = 1


class LockedCheck(Frozen):
    """What makes two runs of a check alike, and how it went."""

    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    blocker: bool = False
    budget_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    budget_quantile: float = Field(default=0.95, gt=0, lt=1)
    version: str | None = None
    """As in CheckPlan: the text of the check or the version of its generator."""
    trials: int = Field(ge=1)
    """Scored trials, byte-identical repeats counted as one."""
    passes: int = Field(ge=0)

    @model_validator(mode="after")
    def _passes_are_trials(self) -> LockedCheck:
        if self.passes > self.trials:
            raise ValueError("more passes than trials")
        return self


class LockedModel(Frozen):
    """One model as it was measured."""

    name: str
    fingerprint: dict[str, Any] = Field(default_factory=dict)
    checks: dict[str, LockedCheck]
    """By check id, only those that were scored."""


class Lock(Frozen):
    """The content of `agentlimit.lock.json`."""

    lock_version: Literal[1] = LOCK_VERSION
    run_id: str
    plugin_version: str
    shape: Literal["bare", "agent"] = "bare"
    models: tuple[LockedModel, ...]


def read_lock(path: Path) -> Lock:
    """Return the lock in the file `path`.

    Raises UsageProblem, one readable line, when the file is missing, not JSON, damaged, of another
    lock version, or holds no model or a model without a scored check.
    """
    where = one_line(str(path), 300)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageProblem(
            f"no lock can be read in {where} ({one_line(error.strerror or str(error))}); "
            f"write one with: agentlimit lock RUN -o {where}"
        ) from None
    return parse_lock(content, where)


def parse_lock(content: bytes, where: str) -> Lock:
    """Return the lock in `content`; `where` names it in the errors of `read_lock`."""
    again = "Take it from version control, or write it again: agentlimit lock RUN"
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise UsageProblem(
            f"{where} is not a lock: it is not JSON, or was cut off. {again}"
        ) from None
    if not isinstance(found, dict) or "lock_version" not in found:
        raise UsageProblem(f"{where} is not a lock: it has no lock_version. {again}")
    version = found["lock_version"]
    if version != LOCK_VERSION or isinstance(version, bool):
        raise UsageProblem(
            f"{where} has lock version {one_line(str(version), 40)}, and this pytest-agentlimit "
            f"reads version {LOCK_VERSION}. Use the pytest-agentlimit that wrote it, or lock a run "
            "again with this one: agentlimit lock RUN"
        )
    try:
        lock = Lock.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = one_line(" → ".join(map(str, first["loc"])), 120)
        raise UsageProblem(
            f"the lock {where} is damaged ({place or 'whole file'}: {one_line(first['msg'], 120)}; "
            f"problems in all: {error.error_count()}). {again}"
        ) from None
    _refuse_empty(lock, where, again)
    return lock


def write_lock(lock: Lock, path: Path) -> Path:
    """Write `lock` to `path`, whole or not at all, and return where it went.

    The same lock always gives the same bytes. Raises AgentLimitError when that cannot be done.
    """
    try:
        return write_whole(path, lock_text(lock).encode("ascii"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise AgentLimitError(
            f"the lock was not written to {one_line(str(path), 300)}: {one_line(why)}. "
            "Name another file with -o, or make room and rights there"
        ) from error


def lock_text(lock: Lock) -> str:
    """Return a lock as ASCII JSON with a final newline: sorted, and one line a check."""
    models = sorted(lock.models, key=lambda model: model.name)
    head = "".join(
        f'  "{key}": {_json(getattr(lock, key))},\n'
        for key in ("lock_version", "run_id", "plugin_version", "shape")
    )
    body = ",\n".join(map(_model_text, models))
    return f'{{\n{head}  "models": [\n{body}\n  ]\n}}\n'


def _model_text(model: LockedModel) -> str:
    known = [
        f"        {_json(key)}: {json.dumps(value, sort_keys=True, allow_nan=False)}"
        for key, value in sorted(model.fingerprint.items())
    ]
    checks = [
        f"        {_json(check)}: {_json(_counts_first(locked))}"
        for check, locked in sorted(model.checks.items())
    ]
    return (
        f'    {{\n      "name": {_json(model.name)},\n'
        f'      "fingerprint": {_block(known)},\n      "checks": {_block(checks)}\n    }}'
    )


def _block(lines: list[str]) -> str:
    return "{\n" + ",\n".join(lines) + "\n      }" if lines else "{}"


def _counts_first(locked: LockedCheck) -> dict[str, Any]:
    counts = {"passes": locked.passes, "trials": locked.trials}
    return counts | locked.model_dump(exclude={"passes", "trials"})


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _refuse_empty(lock: Lock, where: str, again: str) -> None:
    if not lock.models:
        raise UsageProblem(f"the lock {where} holds no model. {again}")
    names = [model.name for model in lock.models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageProblem(f"the lock {where} holds {one_line(twice)} twice. {again}")
    empty = next((model.name for model in lock.models if not model.checks), None)
    if empty is not None:
        raise UsageProblem(f"the lock {where} has no scored check of {one_line(empty)}. {again}")

"""The lock: what a run counted, small enough for git, to hold the next model against.

It has the fingerprint of each model and the counts of each check. One line a check, sorted, so
that a diff shows which check moved.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pytest_agentlimit.chat.messages import Frozen

LOCK_NAME = "agentlimit.lock.json"


class LockedCheck(Frozen):
    """What makes two runs of a check alike, and how it went."""

    weight: float = 1.0
    blocker: bool = False
    budget_ms: float | None = None
    budget_quantile: float = 0.95
    version: str | None = None
    """As in CheckPlan: the text of the check or the version of its generator."""
    trials: int
    """Scored trials, byte-identical repeats counted as one."""
    passes: int


class LockedModel(Frozen):
    """One model as it was measured."""

    name: str
    fingerprint: dict[str, Any] = Field(default_factory=dict)
    checks: dict[str, LockedCheck]
    """By check id, only those that were scored."""


class Lock(Frozen):
    """The content of `agentlimit.lock.json`."""

    lock_version: Literal[1] = 1
    run_id: str
    plugin_version: str
    shape: Literal["bare", "agent"] = "bare"
    models: tuple[LockedModel, ...]

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from pytest_agentlimit.example_suites.promotion import test_promotion as protocol

from pytest_agentlimit import Agent, Endpoint
from pytest_agentlimit.agents.agent import Shape
from pytest_agentlimit.agents.workspace import Workspace

CHECKS: dict[str, Callable[..., None]] = {
    name.removeprefix("test_"): check
    for name, check in vars(protocol).items()
    if name.startswith("test_")
}
SHAPES: tuple[Shape, ...] = ("bare", "agent")


def run_check(name: str, client: Endpoint, seed: int, shape: Shape = "bare") -> None:
    """Run one check with the task of a seed; it fails as it fails under pytest."""
    with tempfile.TemporaryDirectory() as folder:
        offered: dict[str, Any] = {
            "agent": Agent(client, shape=shape, seed=seed),
            "endpoint": client,
            "agent_rng": Random(f"{name}:{seed}"),
            "workspace": Workspace(Path(folder) / "workspace"),
        }
        wanted = inspect.signature(CHECKS[name]).parameters
        CHECKS[name](**{argument: offered[argument] for argument in wanted})

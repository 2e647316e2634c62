from __future__ import annotations

from collections.abc import Callable
from random import Random

from pytest_agentlimit.example_suites.edge_study import test_edge_study as study

from pytest_agentlimit import Agent

CHECKS: dict[str, Callable[[Agent, Random], None]] = {
    name.removeprefix("test_"): check
    for name, check in vars(study).items()
    if name.startswith("test_")
}
SHAPES = ("bare", "agent")


def run_check(name: str, agent: Agent, seed: int) -> None:
    """Run one check of the study with the task of a seed; it fails as it fails under pytest."""
    CHECKS[name](agent, Random(f"{name}:{seed}"))

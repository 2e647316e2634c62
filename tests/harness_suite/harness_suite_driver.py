from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from pytest_agentlimit.example_suites.harness import test_harness as suite
from pytest_agentlimit.example_suites.harness.oracle import Seen, calling, perfect, shell_of

from pytest_agentlimit import Agent
from pytest_agentlimit.agents.agent import Sender, Shape
from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted

Model = Callable[[ChatRequest], Scripted]
CHECKS: dict[str, Callable[..., None]] = {
    name.removeprefix("test_"): check
    for name, check in vars(suite).items()
    if name.startswith("test_")
}
SHAPES: tuple[Shape, ...] = ("bare", "agent")


@contextmanager
def fresh_workspace() -> Iterator[Workspace]:
    with tempfile.TemporaryDirectory() as folder:
        yield Workspace(Path(folder) / "workspace")


def run_check(name: str, client: Sender, seed: int, shape: Shape = "bare") -> None:
    """Run one check with the task of a seed; it fails as it fails under pytest."""
    with fresh_workspace() as workspace:
        CHECKS[name](
            agent=Agent(client, shape=shape, seed=seed),
            workspace=workspace,
            agent_rng=Random(f"{name}:{seed}"),
        )


def at(step: int, command: str | Callable[[Seen], str]) -> Model:
    """A perfect model but for its command number `step`; one after the last is one too many."""

    def reply(request: ChatRequest) -> Scripted:
        seen, shell = Seen(request), shell_of(request)
        if shell is None or len(seen.commands) != step:
            return perfect(request)
        return calling(shell, command if isinstance(command, str) else command(seen), step)

    return reply

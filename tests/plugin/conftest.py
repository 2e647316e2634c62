from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest
from agent_run import AgentRun

# Imported out here: an inner run that is the first to import a module leaves it on its package, and
# pytester forgets the rest, so that the next inner run would meet two classes of one name.
import pytest_agentlimit.plugin.reporting
import pytest_agentlimit.runs.gate
import pytest_agentlimit.runs.summary  # noqa: F401
from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, say

Replies = list[Scripted] | Callable[[ChatRequest], Scripted]


def always_new() -> Callable[[ChatRequest], Scripted]:
    """Say "yes" after another thought each time: identical replies would count as one trial."""
    numbers = count()
    return lambda request: say("yes", thinking=f"thought {next(numbers)}")


@pytest.fixture
def scripted() -> Iterator[Callable[..., ScriptedEndpoint]]:
    """Start scripted endpoints that are gone when the test ends."""
    with ExitStack() as stack:

        def start(replies: Replies | None = None, **options: Any) -> ScriptedEndpoint:
            return stack.enter_context(ScriptedEndpoint(replies or always_new(), **options))

        yield start


@pytest.fixture(autouse=True)
def plain_inner_runs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner runs keep file order and no cache, and have no asyncio mode to warn about."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly -p no:cacheprovider -p no:asyncio")


@pytest.fixture
def agent_run(pytester: pytest.Pytester) -> AgentRun:
    """Write checks, run them, read the report."""
    return AgentRun(pytester)

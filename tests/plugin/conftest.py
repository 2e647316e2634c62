from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from agent_run import AgentRun

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, say

Replies = list[Scripted] | Callable[[ChatRequest], Scripted]


@pytest.fixture
def scripted() -> Iterator[Callable[..., ScriptedEndpoint]]:
    """Start scripted endpoints that are gone when the test ends."""
    with ExitStack() as stack:

        def start(replies: Replies | None = None, **options: Any) -> ScriptedEndpoint:
            return stack.enter_context(ScriptedEndpoint(replies or [say("yes")], **options))

        yield start


@pytest.fixture
def agent_run(pytester: pytest.Pytester) -> AgentRun:
    """Write checks, run them, read the report."""
    return AgentRun(pytester)

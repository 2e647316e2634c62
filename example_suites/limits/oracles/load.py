"""A scripted model that says a short sentence."""

from __future__ import annotations

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, say


def solve(request: ChatRequest) -> Scripted:
    """Return the sentence."""
    return say("A table, a chair and a door are made of wood.")

"""A scripted model that calls the one tool whose description is the request."""

from __future__ import annotations

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, call, say

from .conversation import prompt, read, results


def solve(request: ChatRequest) -> Scripted:
    """Return the call, or words when it has been made."""
    if results(request):
        return say("DONE")
    task = prompt(request)
    wanted = read(r"Task \S+ (.*? wing\.)", task)
    name = next(tool.name for tool in request.tools if tool.description == wanted)
    owner = read(r"The owner is (\w+)", task)
    return call(name, owner=owner, reference=read(r"the reference is (\w+)", task))

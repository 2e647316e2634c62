"""What the doctor is shown."""

from __future__ import annotations

from pytest_agentlimit.chat.messages import ChatRequest, ToolResult
from pytest_agentlimit.testing import Scripted, call, calls, say


def good(request: ChatRequest) -> Scripted:
    """A model and a server without a fault, as far as the quick form looks."""
    if request.json_schema is not None:
        return say('{"colour": "red"}')
    if any(isinstance(block, ToolResult) for block in request.messages[-1].blocks):
        return say("It snows.")
    if request.tools and "Lima" in request.messages[-1].text:
        return calls(("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Lima"}))
    return call("get_weather", city="Oslo") if request.tools else say("Hello, red.")

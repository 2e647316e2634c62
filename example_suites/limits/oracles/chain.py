"""A scripted model that follows a trail to its end."""

from __future__ import annotations

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, call, say

from .conversation import held, prompt, read, results


def solve(request: ChatRequest) -> Scripted:
    """Return the next hop, or the code when it has been told."""
    told = results(request)
    if not told:
        return call("hop", token=read(r'token "(\w+)"', prompt(request)))
    last = held(told[-1])
    return say(f"The code is {last['code']}.") if "code" in last else call("hop", **last)

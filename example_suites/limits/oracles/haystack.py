"""A scripted model that reads the log, finds the one line that counts, and uses it."""

from __future__ import annotations

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, call, say

from .conversation import prompt, read, results


def solve(request: ChatRequest) -> Scripted:
    """Return the next of the two calls, or words when both have been made."""
    told = [result.content for result in results(request)]
    if not told:
        return call("read_log")
    if len(told) > 1:
        return say("DONE")
    depot = read(r"code of depot (\w+)\.", prompt(request))
    code = read(rf"depot {depot}: the access code is (\w+)", told[0])
    return call("open_depot", depot=depot, code=code)

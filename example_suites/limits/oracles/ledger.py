"""A scripted model that keeps a running total."""

from __future__ import annotations

import re

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, call, say

from .conversation import calls_made, held, prompt, read, results


def solve(request: ChatRequest) -> Scripted:
    """Return the commit of the next total, or words when the ledger is closed."""
    task, told = prompt(request), results(request)
    prices = {name: int(price) for name, price in re.findall(r"^(\w+): (\d+)$", task, re.M)}
    if not told:
        opening = int(read(r"total is (\d+) at the start", task))
        return call("commit", total=opening + prices[read(r'first word is "(\w+)"', task)])
    last = held(told[-1])
    if "next_word" not in last:
        return say("DONE")
    total = calls_made(request)[-1].arguments["total"]
    return call("commit", total=total + prices[last["next_word"]])

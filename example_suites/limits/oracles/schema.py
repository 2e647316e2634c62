"""A scripted model that writes what it is told as one nested argument."""

from __future__ import annotations

import re
from typing import Any

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, call, say

from .conversation import prompt, results

_BOX = re.compile(
    r"box \d+\. Its colour is (\w+)\. Its sizes are ([\d, and]+)\. "
    r"(?:Its label is (\w+)\.|It has no label\.)"
)


def solve(request: ChatRequest) -> Scripted:
    """Return the call, or words when it has been made."""
    if results(request):
        return say("DONE")
    inner: dict[str, Any] = {}
    for colour, sizes, label in reversed(_BOX.findall(prompt(request))):
        box: dict[str, Any] = {
            "colour": colour,
            "sizes": [int(n) for n in re.findall(r"\d+", sizes)],
        }
        inner = box | ({"label": label} if label else {}) | ({"inner": inner} if inner else {})
    return call("store_box", box=inner)

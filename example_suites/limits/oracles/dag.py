"""A scripted model that works back from the number it wants to the numbers it knows."""

from __future__ import annotations

import re

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, call, say

from .conversation import held, prompt, read, results

_ABOUT = re.compile(r"Takes (\w+)(?: and (\w+))?, returns (\w+)\.")


def solve(request: ChatRequest) -> Scripted:
    """Return the next call that is needed and can be made, or the number."""
    task = prompt(request)
    target = read(r"the number called (\w+)", task)
    known = {kind: int(number) for kind, number in re.findall(r"(\w+) = (\d+)", task)}
    for result in results(request):
        known |= held(result)
    if target in known:
        return say(f"{target} is {known[target]}.")
    makers: dict[str, tuple[str, list[str]]] = {}
    for tool in request.tools:
        if about := _ABOUT.fullmatch(tool.description):
            makers[about[3]] = tool.name, [kind for kind in about.group(1, 2) if kind]
    wanted = target
    while missing := [kind for kind in makers[wanted][1] if kind not in known]:
        wanted = missing[0]
    name, inputs = makers[wanted]
    return call(name, **{kind: known[kind] for kind in inputs})

"""A scripted model that makes all lookups in one turn."""

from __future__ import annotations

import re

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, calls, say

from .conversation import prompt, results

_SENTENCE = re.compile(
    r"I need the (?P<a>[a-z ]+) in (?P<town_a>\w+), where the station is (?P<station_a>\w+)\."
    r"|For (?P<town_b>\w+), station (?P<station_b>\w+), I want the (?P<b>[a-z ]+)\."
)


def solve(request: ChatRequest) -> Scripted:
    """Return all the lookups, or words when they have been made."""
    if results(request):
        return say("DONE")
    lookups = []
    for found in _SENTENCE.finditer(prompt(request)):
        where = {
            "town": found["town_a"] or found["town_b"],
            "station": found["station_a"] or found["station_b"],
        }
        for what in (found["a"] or found["b"]).split(" and the "):
            lookups.append(("get_" + what.replace(" ", "_"), where))
    return calls(*lookups)

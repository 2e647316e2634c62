"""A model that does the tasks of a blackout, and some that do not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytest_agentlimit.chat.messages import ChatRequest, Dialect, ToolResult
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.harness.blackout_result import Control
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, call, say

STEADY = Deadlines(connect_s=5.0, first_byte_s=0.6, between_chunks_s=0.6, total_s=0.9)
"""Short, and long enough on a busy machine for no fault to be taken for a hang."""
SHORT = Deadlines(connect_s=1.0, first_byte_s=0.15, between_chunks_s=0.15, total_s=0.2)
"""For tests that do not look at how a fault is called."""
GENEROUS = 60.0


def perfect(request: ChatRequest) -> Scripted:
    """Do what is asked, from the request alone."""
    goal = next(message.text for message in request.messages if message.role == "user")
    blocks = [block for message in request.messages for block in message.blocks]
    results = [block.content for block in blocks if isinstance(block, ToolResult)]
    if match := re.search(r"Make a file (\S+) that holds exactly this text: (.*)", goal):
        return say("Done.") if results else call("write_file", path=match[1], content=match[2])
    if match := re.search(r"How many crates are there\? (\S+) says it", goal):
        return say(results[0]) if results else call("read_file", path=match[1])
    if match := re.search(r"Read the file (\S+)\. .* make a file (\S+) that", goal):
        if not results:
            return call("read_file", path=match[1])
        if len(results) == 1:
            return call("write_file", path=match[2], content=results[0])
        return say("Done.")
    return call("get_weather", city="Oslo")


def careless(request: ChatRequest) -> Scripted:
    """Do nothing, and say that it is done."""
    return say("Done.")


class Turning:
    """A perfect model until the control is over, which then gives one answer to everything."""

    def __init__(self, later: Scripted) -> None:
        self._later = later
        self._over = False

    def __call__(self, request: ChatRequest) -> Scripted:
        return self._later if self._over else perfect(request)

    def tell(self, found: object) -> None:
        """Take the results of a drill as they come."""
        self._over = self._over or isinstance(found, Control)


@contextmanager
def pair(
    fallback: Callable[[ChatRequest], Scripted] = perfect, dialect: Dialect = "openai"
) -> Iterator[tuple[ScriptedEndpoint, ScriptedEndpoint]]:
    """A primary, which nobody should ask, and a fallback."""
    with (
        ScriptedEndpoint([say("I am well.")], model="first", dialect=dialect) as primary,
        ScriptedEndpoint(fallback, model="second", dialect=dialect) as spare,
    ):
        yield primary, spare
        assert primary.requests == []
        assert spare.problems == []


def chain_of(
    primary: ScriptedEndpoint, *fallbacks: ScriptedEndpoint, **changes: object
) -> list[EndpointSpec]:
    """The specs of a chain; `changes` are the primary's."""
    given = {"name": "first", "deadlines": SHORT, **changes}
    names = ("second", "third")
    others = zip(fallbacks, names, strict=False)
    return [primary.endpoint(**given), *(one.endpoint(name=name) for one, name in others)]

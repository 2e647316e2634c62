"""Scripted models for the ladders: one that is always right, and one that is until a level.

They see what a model sees (prompt, tools, results) and know the wording of the tasks. The first
proves that every rung can be passed; the second has a ceiling that is known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, say

from . import chain, dag, fanout, haystack, ledger, load, recovery, schema, toolbox
from .conversation import heading

Model = Callable[[ChatRequest], Scripted]
FAMILIES: dict[str, Model] = {
    "chain": chain.solve,
    "ledger": ledger.solve,
    "dag": dag.solve,
    "toolbox": toolbox.solve,
    "fanout": fanout.solve,
    "schema": schema.solve,
    "haystack": haystack.solve,
    "recovery": recovery.solve,
    "load": load.solve,
}
"""The right model for the tasks of each ladder, by its name."""


def solve(request: ChatRequest) -> Scripted:
    """Return the right next reply to `request`, for `ScriptedEndpoint(solve)`.

    A task that is of no ladder is answered with a sentence that says so.
    """
    task = heading(request)
    if task is None or task.ladder not in FAMILIES:
        return say("This is not a task of the ladders.")
    return FAMILIES[task.ladder](request)


def collapsing(step: int) -> Model:
    """Return a model that is right up to level `step`, and above it gives a wrong answer at once.

    Its ceiling is the highest level of a ladder that is not above `step`, and the shape a cliff;
    but for `load`, where it is speed that counts and not words.
    """

    def reply(request: ChatRequest) -> Scripted:
        task = heading(request)
        if task is not None and task.level > step:
            return say("The answer is 0.")
        return solve(request)

    return reply

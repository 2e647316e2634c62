"""toolbox(n): choose the one right tool among n near-duplicates (METHOD 6)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.chat.messages import Tool, ToolCall

from .base import Attempt, FailureMode, early_end, failed, passed
from .judging import check_levels, run_calls, same_call, shown_call
from .material import heading, misuse, object_schema, words

_VERBS = ("reserve", "cancel", "extend", "confirm", "inspect", "share")
_THINGS = ("desk", "locker", "car", "room", "bike", "phone")
_WINGS = ("north", "south", "east", "west", "upper", "lower")
_EVERY = tuple(product(_VERBS, _THINGS, _WINGS))
_STEPS = 6
"""One call and one answer take two."""


@dataclass(frozen=True)
class ToolboxTask:
    """A request that one of the tools offered does exactly."""

    prompt: str
    tools: tuple[Tool, ...]
    name: str
    arguments: dict[str, str]


@dataclass(frozen=True)
class Toolbox:
    """Level n: n tools are offered and one of them is right.

    The others take the same arguments and differ in one word of their name, in more from 17 tools
    on. Passes when that tool was called, once and with the right arguments, and nothing else.

    Fails as no_tool_call, malformed_call, wrong_tool, wrong_args, side_effect (a call after the
    right one), loop, gave_up (cut short), refusal.
    """

    levels: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    name: ClassVar[str] = "toolbox"
    unit: ClassVar[str] = "tools"

    def __post_init__(self) -> None:
        check_levels(self.name, self.levels, len(_EVERY))

    def task(self, level: int, rng: random.Random) -> ToolboxTask:
        """Return a fresh request with `level` tools.

        Both values to pass on are made-up words: guessed right once in 75 billion.
        """
        start = heading(rng, self.name, level)
        right = rng.choice(_EVERY)
        # Sorting keeps the order of equals, so what is equally near comes at random.
        others = sorted(
            (each for each in rng.sample(_EVERY, len(_EVERY)) if each != right),
            key=lambda each: sum(a != b for a, b in zip(each, right, strict=True)),
        )
        offered = [right, *others[: level - 1]]
        owner, reference = words(rng, 2)
        verb, thing, wing = right
        prompt = (
            f"{start} {verb.capitalize()} a {thing} in the {wing} wing. The owner is {owner} and "
            f"the reference is {reference}.\n\n"
            "Call the tool that does exactly this, one time. Call nothing else. "
            "Then reply with the word DONE."
        )
        tools = tuple(_tool(*each) for each in rng.sample(offered, level))
        arguments = {"owner": owner, "reference": reference}
        return ToolboxTask(prompt, tools, "_".join(right), arguments)

    def judge(self, task: ToolboxTask, transcript: Transcript) -> Attempt:
        """Return what came of `task`, by the calls alone."""
        calls = run_calls(transcript)
        if len(calls) == 1 and same_call(calls[0], task.name, task.arguments):
            return passed(transcript)
        return early_end(transcript) or failed(*_fault(task, calls), transcript)

    def __call__(self, agent: Agent, level: int, rng: random.Random) -> Attempt:
        """Let `agent` do a fresh task of `level`."""
        task = self.task(level, rng)
        return self.judge(task, agent.run(task.prompt, tools=task.tools, max_steps=_STEPS))


def _fault(task: ToolboxTask, calls: list[ToolCall]) -> tuple[FailureMode, str]:
    """Return the first thing wrong with the calls of a task that was not done."""
    if not calls:
        return "no_tool_call", "no tool was called"
    right = same_call(calls[0], task.name, task.arguments)
    first = calls[1] if right else calls[0]
    if wrong := misuse(first, task.tools):
        return wrong
    shown = shown_call(first.name, first.arguments)
    if right:
        return "side_effect", f"{shown} after the call that was asked for"
    mode: FailureMode = "wrong_args" if first.name == task.name else "wrong_tool"
    return mode, f"{shown} in place of {shown_call(task.name, task.arguments)}"


def _tool(verb: str, thing: str, wing: str) -> Tool:
    return Tool(
        f"{verb}_{thing}_{wing}",
        f"{verb.capitalize()} a {thing} in the {wing} wing.",
        object_schema(owner={"type": "string"}, reference={"type": "string"}),
        function=lambda **_: "done",
    )

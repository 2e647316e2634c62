"""haystack(T): find a value in T x 250 tokens of log, and use it in a second call (METHOD 6)."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import ClassVar

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.chat.messages import Tool

from .base import Attempt, FailureMode, early_end, failed, passed
from .judging import folded, run_calls
from .material import (
    heading,
    misuse,
    object_schema,
    opaque_tokens,
    words,
)

TOKENS = 250
"""Tokens of log in one level."""
CHARACTERS = 4
"""Characters in a token: an estimate, since every model counts its own."""
_STEPS = 8
"""Two calls and one answer take three."""
_TOWNS = 12
_NEWS = (
    "reports calm weather and a dry road",
    "has two trucks waiting at the gate",
    "closed its east door for the night",
    "asks for a new lamp in the hall",
    "counted the crates and found none missing",
    "was swept and the windows are clean",
    "expects a delivery of paper in the morning",
    "changed the battery of the clock",
    "tested the alarm without any fault",
    "lent its ladder to the neighbours",
    "had a short power cut and is well again",
    "thanks the drivers for their patience",
    "found a lost key under the mat",
    "painted the fence on the south side",
    "will be inspected by the end of the week",
    "moved the heavy boxes to the lower floor",
)


@dataclass(frozen=True)
class HaystackTask:
    """A log, the code to be found in it, and three codes that look like it."""

    prompt: str
    tools: tuple[Tool, ...]
    log: str
    depot: str
    code: str
    decoys: dict[str, str]
    """What each wrong code is: the name by which it is told."""
    done: list[tuple[str, ...]] = field(default_factory=list)
    """What calls did, in order: ("read",) and ("open", depot, code)."""


@dataclass(frozen=True)
class Haystack:
    """Level T: a tool returns T x 250 tokens of log, taken as 4 characters each.

    One line holds the code that is asked for, three others hold a code of another depot, a code
    for something else, and the code of before. Passes when the depot was opened once, with the
    right code; reading the log again does no harm.

    Fails as no_tool_call, malformed_call, wrong_tool, skipped_step (opened without reading),
    stale_value (the code of before), wrong_args, side_effect (opened again), gave_up (never
    opened), loop, refusal.

    Measures: place (of the line in the log, 0 to 1).
    """

    levels: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    name: ClassVar[str] = "haystack"
    unit: ClassVar[str] = "× 250 tokens of log"

    def task(self, level: int, rng: random.Random) -> HaystackTask:
        """Return a fresh log of `level` x 1,000 characters, to within a line.

        The code is six random letters: guessed right once in 24 million. Who takes one of the
        four codes without reading what it is for is right in one of four.
        """
        start = heading(rng, self.name, level)
        depot, *others = (word.capitalize() for word in words(rng, _TOWNS))
        code, *wrong = opaque_tokens(rng, 4)
        lines = [
            f"depot {depot}: the access code is {code}",
            f"depot {others[0]}: the access code is {wrong[0]}",
            f"depot {depot}: the alarm code is {wrong[1]}",
            f"depot {depot}: the access code of last week was {wrong[2]}",
        ]
        log = _log(lines, others, level * TOKENS * CHARACTERS, rng)
        prompt = (
            f"{start} Call read_log to read the log of today. It tells the access code of depot "
            f"{depot}. Then call open_depot, one time, with this depot and its access code of "
            "today. When it is open, reply with the word DONE."
        )
        done: list[tuple[str, ...]] = []
        tools = tuple(rng.sample(_tools(log, done), 2))
        names = ("the code of another depot", "the alarm code", "the code of last week")
        return HaystackTask(
            prompt, tools, log, depot, code, dict(zip(wrong, names, strict=True)), done
        )

    def judge(self, task: HaystackTask, transcript: Transcript) -> Attempt:
        """Return what came of `task`, by what was opened."""
        place = task.log.index(task.code) / len(task.log)
        opened = [entry[1:] for entry in task.done if entry[0] == "open"]
        right = [folded(entry) == folded((task.depot, task.code)) for entry in opened]
        if right == [True]:
            return passed(transcript, place=place)
        if ended := early_end(transcript, place=place):
            return ended
        return failed(*_fault(task, transcript, right), transcript, place=place)

    def __call__(self, agent: Agent, level: int, rng: random.Random) -> Attempt:
        """Let `agent` do a fresh task of `level`."""
        task = self.task(level, rng)
        whole = len(task.log)
        transcript = agent.run(task.prompt, tools=task.tools, max_steps=_STEPS, result_limit=whole)
        return self.judge(task, transcript)


def _fault(
    task: HaystackTask, transcript: Transcript, right: list[bool]
) -> tuple[FailureMode, str]:
    """Return what was wrong with a task that was not done."""
    calls = run_calls(transcript)
    if not calls:
        return "no_tool_call", "no tool was called"
    if not right:
        wrong = next((found for call in calls if (found := misuse(call, task.tools))), None)
        return wrong or ("gave_up", f"depot {task.depot} was never opened")
    if right[0]:
        return "side_effect", f"{len(right)} calls of open_depot, one was asked for"
    if task.done[0][0] == "open":
        return "skipped_step", "open_depot was called before the log was read"
    _, depot, code = next(entry for entry in task.done if entry[0] == "open")
    what = task.decoys.get(folded(code), f"no code of the log: {code!r}")
    if folded(depot) != folded(task.depot):
        return "wrong_args", f"opened depot {depot!r} in place of {task.depot}"
    return ("stale_value" if what == "the code of last week" else "wrong_args"), f"used {what}"


def _log(needles: list[str], towns: list[str], size: int, rng: random.Random) -> str:
    """Return a log of about `size` characters with the needles at random places."""
    left = size - sum(len(line) + _STAMP for line in needles)
    lines = list(needles)
    while left > 0:
        line = f"depot {rng.choice(towns)} {rng.choice(_NEWS)}"
        left -= len(line) + _STAMP
        lines.append(line)
    rng.shuffle(lines)
    minutes = (1440 * number // len(lines) for number in range(len(lines)))
    return "\n".join(
        f"{minute // 60:02}:{minute % 60:02} {line}"
        for minute, line in zip(minutes, lines, strict=True)
    )


_STAMP = len("00:00 \n")


def _tools(log: str, done: list[tuple[str, ...]]) -> list[Tool]:
    def read_log(**_: object) -> str:  # a needless argument is no reason to fail
        done.append(("read",))
        return log

    def open_depot(depot: str, code: str) -> str:
        done.append(("open", depot, code))
        return "opened"

    schema = object_schema(depot={"type": "string"}, code={"type": "string"})
    return [
        Tool("read_log", "Read the whole log of today.", function=read_log),
        Tool("open_depot", "Open a depot with its access code.", schema, function=open_depot),
    ]

"""fanout(k): make k independent lookups that are asked for in prose (METHOD 6)."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.chat.messages import Tool, ToolCall

from .base import Attempt, FailureMode, early_end, failed, passed
from .judging import folded, run_calls, shown_call
from .material import heading, misuse, object_schema, words

_MEASURES = {
    "get_rainfall": "rainfall",
    "get_temperature": "temperature",
    "get_wind_speed": "wind speed",
    "get_air_pressure": "air pressure",
}
_SENTENCES = (
    "I need the {asked} in {town}, where the station is {station}.",
    "For {town}, station {station}, I want the {asked}.",
)
_PAIRS = 0.3
"""The share of sentences that ask for two values of one town."""

Lookup = tuple[str, str, str]
"""A tool, a town and its station."""


@dataclass(frozen=True)
class FanoutTask:
    """Lookups asked for in prose, no two alike."""

    prompt: str
    tools: tuple[Tool, ...]
    wanted: tuple[Lookup, ...]


@dataclass(frozen=True)
class Fanout:
    """Level k: k values to be looked up, none of which needs another one.

    Passes when the calls are those asked for and no others, in any order; with `one_turn` all of
    them in one reply.

    Fails as no_tool_call, malformed_call, wrong_tool, wrong_args, skipped_step (lookups left out,
    or made after the one turn), loop (a lookup made again), gave_up (cut short), refusal.

    Measures: wanted, right, further (calls nobody asked for), turns (replies with calls).
    """

    levels: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
    one_turn: bool = False
    unit: ClassVar[str] = "lookups"

    @property
    def name(self) -> str:
        """What reports call it; the variant is a ladder of its own."""
        return "fanout_one_turn" if self.one_turn else "fanout"

    def task(self, level: int, rng: random.Random) -> FanoutTask:
        """Return `level` fresh lookups.

        Towns and stations are made-up words: one lookup is guessed right once in 300 billion.
        """
        start = heading(rng, "fanout", level)
        groups = _groups(level, rng)
        made_up = iter(words(rng, 2 * len(groups)))
        sentences, wanted = list[str](), list[Lookup]()
        for tools in groups:
            town, station = next(made_up).capitalize(), next(made_up)
            asked = " and the ".join(_MEASURES[tool] for tool in tools)
            sentences.append(rng.choice(_SENTENCES).format(asked=asked, town=town, station=station))
            wanted += [(tool, town, station) for tool in tools]
        how = ", all calls together in your first reply" if self.one_turn else ""
        prompt = (
            f"{start} {' '.join(sentences)}\n\n"
            f"Look these values up with the tools: one call for each value{how}. Make no call "
            "twice. When you have all values, reply with the word DONE."
        )
        return FanoutTask(prompt, _tools(rng), tuple(wanted))

    def judge(self, task: FanoutTask, transcript: Transcript) -> Attempt:
        """Return what came of `task`, by the calls alone."""
        calls = run_calls(transcript)
        wanted = Counter(_key(tool, town, station) for tool, town, station in task.wanted)
        came = Counter(_key_of(call) for call in calls)
        turns = sum(bool(step.results) for step in transcript.steps)
        measures: dict[str, float] = {
            "wanted": wanted.total(),
            "right": (wanted & came).total(),
            "further": (came - wanted).total(),
            "turns": turns,
        }
        if came == wanted and (turns == 1 or not self.one_turn):
            return passed(transcript, **measures)
        if ended := early_end(transcript, **measures):
            return ended
        mode, detail = _fault(task, calls)
        return failed(mode, detail, transcript, **measures)

    def __call__(self, agent: Agent, level: int, rng: random.Random) -> Attempt:
        """Let `agent` do a fresh task of `level`."""
        task = self.task(level, rng)
        transcript = agent.run(task.prompt, tools=task.tools, max_steps=2 * level + 4)
        return self.judge(task, transcript)


def _fault(task: FanoutTask, calls: list[ToolCall]) -> tuple[FailureMode, str]:
    """Return the first thing wrong with the calls of a task that was not done."""
    if not calls:
        return "no_tool_call", "no tool was called"
    left = {_key(*lookup) for lookup in task.wanted}
    asked = frozenset(left)
    for call in calls:
        if wrong := misuse(call, task.tools):
            return wrong
        key = _key_of(call)
        if key not in left:
            return _unasked(call, key, asked)
        left.remove(key)
    if not left:
        return "skipped_step", "the calls did not all come in one turn"
    return "skipped_step", f"{len(left)} of {len(asked)} lookups were left out"


def _unasked(
    call: ToolCall, key: tuple[str, str], asked: frozenset[tuple[str, str]]
) -> tuple[FailureMode, str]:
    """Return what is wrong with a call that was not asked for, or not once more."""
    shown = shown_call(call.name, call.arguments)
    if key in asked:
        return "loop", f"{shown} was made before"
    if any(key[1] == arguments for _, arguments in asked):
        return "wrong_tool", f"{shown}: this was not asked for there"
    return "wrong_args", f"{shown} was not asked for"


def _groups(level: int, rng: random.Random) -> list[list[str]]:
    """Return the tools of each sentence, one or two different ones, `level` in all."""
    groups, left = list[list[str]](), level
    while left:
        size = 2 if left > 1 and rng.random() < _PAIRS else 1
        groups.append(rng.sample(list(_MEASURES), size))
        left -= size
    return groups


def _key(tool: str, town: str, station: str) -> tuple[str, str]:
    return tool, repr(folded({"station": station, "town": town}))


def _key_of(call: ToolCall) -> tuple[str, str]:
    return call.name, repr(folded(dict(sorted(call.arguments.items()))))


def _tools(rng: random.Random) -> tuple[Tool, ...]:
    """Return the four tools in random order; each answers whatever it is asked."""
    schema = object_schema(town={"type": "string"}, station={"type": "string"})
    values = {name: rng.randrange(100, 1000) for name in _MEASURES}
    return tuple(
        Tool(
            name,
            f"Get the {_MEASURES[name]} in a town.",
            schema,
            function=lambda name=name, **_: {"value": values[name]},
        )
        for name in rng.sample(list(_MEASURES), len(_MEASURES))
    )

"""What a ladder is: a family of tasks, one per level and seed, judged by outcome (METHOD 6)."""

from __future__ import annotations

import random
import zlib
from typing import Literal, Protocol, get_args

from pydantic import Field, model_validator

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.chat.messages import Frozen, ToolResult
from pytest_agentlimit.errors import Blame
from pytest_agentlimit.text import one_line, printable

FailureMode = Literal[
    "transport_error",
    "timeout",
    "context_overflow",
    "no_tool_call",
    "malformed_call",
    "wrong_tool",
    "wrong_args",
    "stale_value",
    "skipped_step",
    "loop",
    "gave_up",
    "wrong_final",
    "side_effect",
    "refusal",
]
"""How a trial of a ladder fails (METHOD 5)."""
FAILURE_MODES: tuple[str, ...] = get_args(FailureMode)

RUNGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""The levels of METHOD 5; each costs about as much as its number."""
LOOP = 3
"""So many identical calls, one after another, are a loop."""
_SHOWN = 4000
_TAIL, _LEAST_TAIL = 600, 400


class Attempt(Frozen):
    """What came of one trial at one level."""

    passed: bool
    mode: FailureMode | None = None
    """How it failed; None exactly when it passed."""
    detail: str = ""
    """The failure in one line, for people; printable."""
    blame: Blame = "model"
    """Who has to act on the failure: a leaked call is the engine's, a reply cut short config."""
    transcript: str = ""
    """What was said and called, bounded and printable: evidence for one example in reports."""
    measures: dict[str, float] = Field(default_factory=dict)
    """Numbers of a family's own, such as wasted calls or the first wrong turn."""

    @model_validator(mode="after")
    def _either_passed_or_explained(self) -> Attempt:
        if self.passed == (self.mode is not None):
            raise ValueError("an attempt passed, or it has a failure mode")
        return self


class Ladder(Protocol):
    """A family of tasks. An instance depends on level and `rng` alone."""

    @property
    def name(self) -> str:
        """What reports call it; instances depend on it."""

    @property
    def unit(self) -> str:
        """What a level counts, in the plural: hops, tools, faults."""

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels there are, increasing."""

    def __call__(self, agent: Agent, level: int, rng: random.Random) -> Attempt:
        """Let `agent` try a fresh instance of `level`; EndpointErrors pass through."""


def passed(transcript: Transcript | None = None, **measures: float) -> Attempt:
    """Return the attempt of a task that was done."""
    return Attempt(passed=True, measures=measures, transcript=shown(transcript))


def failed(
    mode: FailureMode, detail: str, transcript: Transcript | None = None, **measures: float
) -> Attempt:
    """Return the attempt of a task that was not done; the transcript tells whose fault it is."""
    blame: Blame = "model" if transcript is None else transcript.blame
    return Attempt(
        passed=False,
        mode=mode,
        detail=one_line(detail, 400),
        blame=blame,
        transcript=shown(transcript),
        measures=measures,
    )


def early_end(transcript: Transcript, **measures: float) -> Attempt | None:
    """Return the failure of a run that came to no proper end, None for one to be judged.

    Covers what every family has in common: a call left in the text, a reply cut short, a refusal,
    silence, calls that cannot be read, and the same call over and over.
    """
    why = transcript.stopped_because
    if why == "leaked_call":
        return failed("malformed_call", "a tool call came as text", transcript, **measures)
    if why == "truncated":
        return _cut_short(transcript, **measures)
    if why == "refused":
        return failed("refusal", "the model refused", transcript, **measures)
    if looped(transcript):
        return failed("loop", f"{LOOP} identical calls, one after another", transcript, **measures)
    if why == "empty" and not transcript.calls:
        return failed("no_tool_call", "the model said and called nothing", transcript, **measures)
    return None


def _cut_short(transcript: Transcript, **measures: float) -> Attempt:
    """Return the failure of a run whose last reply was cut short.

    More room would have helped, and the configuration is to blame, unless the model went round in
    circles.
    """
    reply = transcript.steps[-1].reply
    calls = reply.tool_calls
    last = calls[-1].raw_arguments if calls else reply.text or reply.thinking
    if looped(transcript) or circles(last):
        what = "the model repeated itself until it was cut short"
        return failed("loop", what, transcript, **measures).model_copy(update={"blame": "model"})
    full = reply.stop_reason == "context_overflow"
    mode: FailureMode = "context_overflow" if full else "gave_up"
    return failed(mode, "the reply was cut short", transcript, **measures)


def circles(text: str) -> bool:
    """Return whether `text` ends in a long repetition: its end packs into less than a fifth.

    Measured on 600 characters: prose and code pack into a half, running sums and JSON into a third
    or a quarter; the same sentence over and over, even numbered, into a sixth.
    """
    tail = " ".join(text.split())[-_TAIL:].encode()
    return len(tail) >= _LEAST_TAIL and 5 * len(zlib.compress(tail, 9)) < len(tail)


def looped(transcript: Transcript) -> bool:
    """Return whether the same call with the same arguments came `LOOP` times in a row."""
    made = [(call.name, call.raw_arguments) for call in transcript.calls]
    return any(len(set(made[i : i + LOOP])) == 1 for i in range(len(made) - LOOP + 1))


def unreadable(transcript: Transcript) -> bool:
    """Return whether a call had arguments that are no JSON object."""
    return any(call.parse_error for call in transcript.calls)


def shown(transcript: Transcript | None) -> str:
    """Return a transcript as text for people: calls, results and words, in order, bounded."""
    if transcript is None:
        return ""
    lines = []
    for step in transcript.steps:
        if step.reply.text.strip():
            lines.append(f"model: {one_line(step.reply.text, 400)}")
        for call in step.reply.tool_calls or step.reply.leaked_calls:
            how = "call" if step.reply.tool_calls else "call as text"
            lines.append(f"{how}: {one_line(call.name, 80)} {one_line(call.raw_arguments, 400)}")
        lines += [_result(result) for result in step.results]
    lines.append(f"end: {transcript.stopped_because}")
    return printable("\n".join(lines), _SHOWN)


def _result(result: ToolResult) -> str:
    word = "error" if result.is_error else "result"
    return f"{word}: {one_line(result.content, 400)}"

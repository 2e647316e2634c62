"""chain(n): follow a trail of n hops, each of which tells only the next token (METHOD 6)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.chat.messages import Tool, ToolResult
from pytest_agentlimit.errors import ToolProblem
from pytest_agentlimit.text import one_line

from .base import RUNGS, Attempt, FailureMode, early_end, failed, passed
from .material import code, heading, last_code, misuse, object_schema, opaque_tokens

TOKEN: dict[str, Any] = {"type": "string", "description": "The token of this hop."}
DIGITS = 6


@dataclass(frozen=True)
class Trail:
    """The tokens of a trail in order, and the code at its end.

    Guess: the code is one of 900,000 and stands nowhere but in the result of the last hop.
    """

    tokens: tuple[str, ...]
    code: str

    @classmethod
    def drawn(cls, rng: Random, hops: int) -> Trail:
        """Return a new trail of `hops` hops."""
        return cls(opaque_tokens(rng, hops), code(rng, DIGITS))

    def after(self, token: str) -> dict[str, str]:
        """Return what a hop from `token` tells; ToolProblem for a token that is none of these."""
        if token not in self.tokens:
            raise ToolProblem(f"there is no token {one_line(token, 60)!r}")
        place = self.tokens.index(token) + 1
        return {"code": self.code} if place == len(self.tokens) else {"token": self.tokens[place]}

    def came(self, transcript: Transcript, tools: tuple[Tool, ...]) -> Progress:
        """Return how far a run came on this trail, and what stopped it there.

        A mistake is forgotten as soon as the next right hop is made.
        """
        done, trouble = 0, None
        for step in transcript.steps:
            for call, result in zip(step.reply.tool_calls, step.results, strict=False):
                wrong = misuse(call, tools)
                token = "" if wrong else call.arguments["token"]
                expected = self.tokens[done] if done < len(self.tokens) else None
                if token == expected:
                    done, trouble = done + self._told_by(result, done), None
                else:
                    trouble = trouble or wrong or self._astray(token, done)
        return Progress(done, trouble)

    def _told_by(self, result: ToolResult, done: int) -> bool:
        """Return whether a result tells what comes after hop number `done`; a fault does not."""
        after = (*self.tokens, self.code)[done + 1]
        return not result.is_error and after in result.content

    def _astray(self, token: str, done: int) -> tuple[FailureMode, str]:
        if token in self.tokens[:done]:
            place = self.tokens.index(token) + 1
            return "stale_value", f"used the token of hop {place} again after hop {done}"
        return "wrong_args", f"used {one_line(token, 60)!r} after hop {done}, which told another"


@dataclass(frozen=True)
class Progress:
    """The right hops of a run, in order, and the first mistake after the last of them."""

    hops: int
    trouble: tuple[FailureMode, str] | None


@dataclass(frozen=True)
class ChainTask:
    """One instance: what to send, and what is right."""

    prompt: str
    tools: tuple[Tool, ...]
    trail: Trail
    max_steps: int


@dataclass(frozen=True)
class Chain:
    """Level n: a trail of n hops; call after call, each with the token that the last one told.

    Passes when the code is right, which takes the n hops in order. A hop too many does no harm:
    the steps allow for it, and `measures` count it.

    Fails as no_tool_call, malformed_call, wrong_tool, wrong_args (a token of its own making),
    stale_value (the token of an earlier hop), skipped_step (a code, before the trail was at its
    end), loop, gave_up, wrong_final (all hops made, the code wrong or missing), refusal.
    """

    levels: tuple[int, ...] = RUNGS
    name = "chain"
    unit = "hops"

    def __call__(self, agent: Agent, level: int, rng: Random) -> Attempt:
        """Let `agent` follow a new trail of `level` hops."""
        task = self.task(level, rng)
        run = agent.run(task.prompt, tools=task.tools, max_steps=task.max_steps)
        return self.judge(task, run)

    def task(self, level: int, rng: Random) -> ChainTask:
        """Return an instance that depends on `level` and `rng` alone."""
        start = heading(rng, self.name, level)
        trail = Trail.drawn(rng, level)
        count = "1 hop" if level == 1 else f"{level} hops"
        prompt = f"{start} Follow a trail of {count} with the tool hop. {directions(trail)}"
        tool = Tool("hop", "Make one hop.", object_schema(token=TOKEN), function=trail.after)
        return ChainTask(prompt, (tool,), trail, 2 * level + 4)

    def judge(self, task: ChainTask, transcript: Transcript) -> Attempt:
        """Return what came of it, from the code in the last words and the hops made."""
        progress = task.trail.came(transcript, task.tools)
        measures: dict[str, float] = {
            "hops": progress.hops,
            "wasted_calls": len(transcript.calls) - progress.hops,
        }
        if progress.hops == len(task.trail.tokens) and found(task.trail, transcript):
            return passed(transcript, **measures)
        if ended := early_end(transcript, **measures):
            return ended
        mode, detail = why_not(task.trail, progress, transcript)
        return failed(mode, detail, transcript, **measures)


def directions(trail: Trail) -> str:
    """Return how to follow `trail`, for a prompt."""
    return (
        f'Call hop with the token "{trail.tokens[0]}". Its result holds the token of the next hop '
        f"or, after the last hop, a code of {DIGITS} digits. While it holds a token, call hop "
        "again with that token, one call at a time. When it holds the code, reply with the code "
        "only."
    )


def found(trail: Trail, transcript: Transcript) -> bool:
    """Return whether the run ended with the code of `trail`."""
    answered = transcript.stopped_because == "answered"
    return answered and last_code(transcript.final_text, DIGITS) == trail.code


def why_not(trail: Trail, progress: Progress, transcript: Transcript) -> tuple[FailureMode, str]:
    """Return why a run did not find the code, as a mode and a line for people."""
    where = f"after hop {progress.hops} of {len(trail.tokens)}"
    if not transcript.calls:
        return "no_tool_call", "answered without a call"
    if progress.hops == len(trail.tokens):
        said = last_code(transcript.final_text, DIGITS)
        return "wrong_final", f"the code is {trail.code}, the answer {said or 'held none'}"
    if progress.trouble:
        return progress.trouble
    if last_code(transcript.final_text, DIGITS):
        return "skipped_step", f"answered with a code {where}"
    return "gave_up", f"stopped {where}: {transcript.stopped_because}"

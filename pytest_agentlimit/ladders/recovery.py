"""recovery(f): a trail of eight hops on which the tool fails f times, each time curably."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, get_args

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.chat.messages import Tool, ToolCall
from pytest_agentlimit.errors import ToolProblem

from .base import Attempt, early_end, failed, passed
from .chain import TOKEN, Trail, directions, found, why_not
from .judging import check_levels
from .material import heading, object_schema, words

FaultKind = Literal["server_error", "validation", "timeout", "empty"]
"""What a fault looks like. A `validation` error holds a hint and stays until the call follows it;
the others are gone with the next call."""
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
MOST_IDENTICAL = 2
"""So often may the same call fail; once more is blind repetition."""
_CALLS_PER_FAULT = 3
_KEY: dict[str, Any] = {"type": "string", "description": "Only when the tool asks for one."}


@dataclass(frozen=True)
class RecoveryTask:
    """One instance: what to send, what is right, and the faults on the way."""

    prompt: str
    tools: tuple[Tool, ...]
    trail: Trail
    max_calls: int
    faults: dict[str, FaultKind]
    """The faults that were not overcome yet, by the token of their hop."""


@dataclass(frozen=True)
class Recovery:
    """Level f: a trail of eight hops, f of which fail at first: 500, hint, time-out, nothing.

    Passes when the code is right within 8 + 3f calls and no call failed more than twice with the
    same arguments. Guess: as in `chain`, the code is one of 900,000 and stands nowhere else.

    Fails as no_tool_call, malformed_call, wrong_tool, wrong_args (a token of its own making),
    stale_value (the token of an earlier hop), skipped_step (a code, before the trail was at its
    end), loop (the same failing call a third time), gave_up (words after a fault, or too many
    calls), wrong_final, refusal.
    """

    levels: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    hops: int = 8
    name = "recovery"
    unit = "faults"

    def __post_init__(self) -> None:
        check_levels(self.name, self.levels, self.hops)  # one fault a hop

    def __call__(self, agent: Agent, level: int, rng: Random) -> Attempt:
        """Let `agent` follow a new trail with `level` faults on it."""
        task = self.task(level, rng)
        run = agent.run(task.prompt, tools=task.tools, max_steps=task.max_calls + 1)
        return self.judge(task, run)

    def task(self, level: int, rng: Random) -> RecoveryTask:
        """Return an instance that depends on `level` and `rng` alone."""
        start = heading(rng, self.name, level)
        trail = Trail.drawn(rng, self.hops)
        kinds = rng.sample(KINDS, len(KINDS)) * math.ceil(level / len(KINDS))
        faults = dict(zip(rng.sample(trail.tokens, level), kinds, strict=False))
        prompt = (
            f"{start} Follow a trail with the tool hop. {directions(trail)} The tool fails now "
            "and then. When a call fails or returns nothing, read what it says and call again "
            "with the same token; do not give up."
        )
        schema = object_schema(token=TOKEN)
        schema["properties"] = schema["properties"] | {"key": _KEY}
        hop = _faulty_hop(trail, faults, dict(zip(faults, words(rng, level), strict=True)))
        tool = Tool("hop", "Make one hop.", schema, function=hop)
        most = self.hops + _CALLS_PER_FAULT * level
        return RecoveryTask(prompt, (tool,), trail, most, faults)

    def judge(self, task: RecoveryTask, transcript: Transcript) -> Attempt:
        """Return what came of it, from the code in the last words and the calls made."""
        progress = task.trail.came(transcript, task.tools)
        measures: dict[str, float] = {
            "calls": len(transcript.calls),
            "hops": progress.hops,
            "faults_left": len(task.faults),
        }
        repeated = most_repeated_failure(transcript)
        done = progress.hops == len(task.trail.tokens) and found(task.trail, transcript)
        if done and repeated <= MOST_IDENTICAL and len(transcript.calls) <= task.max_calls:
            return passed(transcript, **measures)
        if ended := early_end(transcript, **measures):
            return ended
        if repeated > MOST_IDENTICAL:
            detail = f"the same call failed {repeated} times"
            return failed("loop", detail, transcript, **measures)
        if done:
            detail = f"took {len(transcript.calls)} calls; {task.max_calls} were allowed"
            return failed("gave_up", detail, transcript, **measures)
        mode, detail = why_not(task.trail, progress, transcript)
        return failed(mode, detail, transcript, **measures)


def _faulty_hop(trail: Trail, faults: dict[str, FaultKind], keys: dict[str, str]) -> Any:
    """Return the function of the tool; a fault that is overcome is taken out of `faults`.

    `keys` holds what a validation error asks for, by the token of its hop.
    """

    def hop(token: str, key: str = "") -> dict[str, str]:
        kind = faults.get(token)
        if kind == "validation" and key != keys[token]:
            raise ToolProblem(
                "HTTP 422: validation error: this hop needs a key. "
                f'Call hop again with the same token and with the key "{keys[token]}"'
            )
        faults.pop(token, None)
        if kind == "server_error":
            raise ToolProblem("HTTP 500: internal server error")
        if kind == "timeout":
            raise ToolProblem("timeout: no answer within 30 seconds")
        return {} if kind == "empty" else trail.after(token)

    return hop


def most_repeated_failure(transcript: Transcript) -> int:
    """Return how often the call that failed most often did, with the same arguments each time.

    An empty result is not counted: it is never the answer to the same call twice.
    """
    failures = Counter(
        _identity(call)
        for step in transcript.steps
        for call, result in zip(step.reply.tool_calls, step.results, strict=False)
        if result.is_error
    )
    return max(failures.values(), default=0)


def _identity(call: ToolCall) -> tuple[str, str]:
    if call.parse_error:
        return call.name, call.raw_arguments
    return call.name, json.dumps(call.arguments, sort_keys=True)

"""What a program asked the model, read from the bridge's records: the work, and what is beside it.

The work is one conversation: the requests with tools (all of them when none has tools) that go on
from the first. Titles, summaries and helpers with tools of their own are background.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from pytest_agentlimit.agents.transcript import Step, StoppedBecause, Transcript, why_stopped
from pytest_agentlimit.bridge.capture import Seen
from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.messages import (
    ChatReply,
    ChatRequest,
    Message,
    Timing,
    ToolCall,
    ToolResult,
)

from .result import Wire
from .spec import ToolName

_OPENING = 200
"""Characters of a system prompt that tell one agent of a program from another."""
_MOST_REFUSED = 50
_BILLING = re.compile(r"\s*x-anthropic-billing-header:[^\n]*\n*", re.IGNORECASE)
"""Changes with every request."""


class Listener:
    """Takes what the bridge saw, from its thread: of requests that it refused, only the first.

    A program may ask for ever, and each request is as long as its conversation.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.unkept = 0
        """Refused requests that are not in `seen`."""
        self._refused = 0

    def __call__(self, seen: Seen) -> None:
        """Take one request that is over."""
        if seen.request is None or seen.record.turn_limit:
            self._refused += 1
            if self._refused > _MOST_REFUSED:
                self.unkept += 1
                return
        self.seen.append(seen)


class Asked(NamedTuple):
    """One request that reached the endpoint, and the reply in our words."""

    seen: Seen
    request: ChatRequest
    reply: ChatReply | None
    """What the program was given, whole, with what the bridge found; None when it was not."""


class Talk:
    """All requests of one run, in the order they came.

    `goal` is what the program was told, `tools` maps our names of tools to the program's, and
    `curls` are commands that repeat a request, by its number.
    """

    def __init__(
        self,
        heard: Listener,
        goal: str,
        tools: Mapping[str, ToolName],
        curls: Mapping[int, str],
    ) -> None:
        self.seen = sorted(heard.seen, key=lambda one: one.started)
        self._unkept = heard.unkept
        self._goal = goal
        self._words = _Words(tools)
        self._curls = curls

    @cached_property
    def asked(self) -> list[Asked]:
        """The requests that reached the endpoint."""
        return [
            Asked(seen, seen.request, self._words.reply(given) if given else None)
            for seen in self.seen
            if seen.request is not None and not seen.record.turn_limit
            for given in [given_reply(seen, self._curls.get(seen.record.number, ""))]
        ]

    @cached_property
    def work(self) -> list[Asked]:
        """The requests of the work, those sent again included."""
        return [one for one in self.asked if self._kin.has(one.request)]

    @cached_property
    def turn_limit(self) -> bool:
        """Whether a request of the work was refused because there had been enough."""
        refused = [one.request for one in self.seen if one.record.turn_limit]
        return any(request is not None and self._kin.has(request) for request in refused)

    @cached_property
    def _kin(self) -> _Kin:
        return _Kin([one.request for one in self.seen if one.request is not None], self._goal)

    @cached_property
    def wire(self) -> Wire:
        """The talk in numbers."""
        replies = [one.reply for one in self.asked if one.reply is not None]
        retries = sum(_same(*pair) for pair in zip(self.work, self.work[1:], strict=False))
        ttft = [r.timing.ttft_s for r in replies if r.timing.ttft_s is not None]
        counted = [reply.usage for reply in replies if not reply.usage.estimated]
        sent = [usage.input_tokens for usage in counted if usage.input_tokens is not None]
        said = [usage.output_tokens for usage in counted if usage.output_tokens is not None]
        return Wire(
            requests=len(self.seen) + self._unkept,
            turns=len(self.work) - retries,
            background=len(self.asked) - len(self.work),
            retries=retries,
            failed=sum(not_answered(one.seen) for one in self.asked),
            calls=tuple(call for reply in replies for call in reply.tool_calls),
            leaked_calls=sum(len(reply.leaked_calls) for reply in replies),
            input_tokens=_sum(sent),
            output_tokens=_sum(said),
            ttft_s=statistics.median(ttft) if ttft else None,
            largest_request=max((one.record.request_bytes for one in self.seen), default=0),
            largest_prompt=max(sent, default=None),
            findings=tuple(sorted({f.code for reply in replies for f in reply.findings})),
            turn_limit=self.turn_limit,
        )

    @property
    def transcript(self) -> Transcript:
        """The work, one step a reply that the program used; an empty one when there was none."""
        steps = []
        for number, one in enumerate(self.work):
            following = self.work[number + 1].request if number + 1 < len(self.work) else None
            again = following is not None and _same(one, self.work[number + 1])
            if one.reply is not None and not again:
                steps.append(Step(reply=one.reply, results=_results(one.reply, following)))
        last = steps[-1].reply if steps else ChatReply()
        stopped: StoppedBecause = (
            "max_steps" if self.turn_limit else why_stopped(last) or "answered"
        )
        return Transcript(steps=tuple(steps) or (Step(reply=last),), stopped_because=stopped)


def given_reply(seen: Seen, curl: str = "") -> ChatReply | None:
    """Return the whole reply that a client was given, with what the bridge found, or None."""
    record = seen.record
    given, received = record.given, record.received
    if seen.failure is not None or record.error is not None or given is None or received is None:
        return None
    if given.stop_reason == "unknown":  # it left before the end
        return None
    leaked = () if record.recovered else received.leaked_calls
    found = {"leaked_calls": leaked, "findings": received.findings, "usage": received.usage}
    return given.model_copy(update=found | {"timing": timing(seen), "curl": curl})


def timing(seen: Seen) -> Timing:
    """Return the bridge's clocks of a request, from its arrival on."""
    received = seen.record.received
    known = received.timing if received is not None else Timing()
    return known.model_copy(
        update={"first_byte_s": seen.record.first_byte_s, "total_s": seen.ended - seen.started}
    )


def not_answered(seen: Seen) -> bool:
    """Return whether the endpoint failed, or sent what no program may take for a good reply."""
    return seen.failure is not None or seen.record.error is not None


class _Kin:
    """Tells the requests of the work from the rest, by their tools and their system prompt.

    The work begins with the first request that has tools and holds the goal.
    """

    def __init__(self, requests: Sequence[ChatRequest], goal: str) -> None:
        with_tools = [request for request in requests if request.tools]
        told = (request for request in with_tools if _tells(request, goal))
        first = next(told, next(iter(with_tools), None))
        self._tools = None if first is None else _names(first)
        self._opening = "" if first is None else _opening(first)

    def has(self, request: ChatRequest) -> bool:
        """Return whether a request belongs to the work."""
        if self._tools is None:
            return True
        # A program may load more tools on its way, and a helper has other instructions.
        return bool(request.tools) and (
            _names(request) == self._tools or _opening(request) == self._opening
        )


class _Words:
    """Turns a program's words for tools and arguments into ours."""

    def __init__(self, tools: Mapping[str, ToolName]) -> None:
        self._ours: dict[str, tuple[str, dict[str, str]]] = {}
        for name, tool in tools.items():  # of two that it does with one tool, the first
            back = {theirs: ours for ours, theirs in tool.arguments.items()}
            self._ours.setdefault(tool.name, (name, back))

    def reply(self, reply: ChatReply) -> ChatReply:
        """Return `reply` with its calls, those written as text too, in our words."""
        blocks = tuple(
            self._call(block) if isinstance(block, ToolCall) else block for block in reply.blocks
        )
        leaked = tuple(self._call(call) for call in reply.leaked_calls)
        return reply.model_copy(update={"blocks": blocks, "leaked_calls": leaked})

    def _call(self, call: ToolCall) -> ToolCall:
        if call.name not in self._ours:
            return call
        name, arguments = self._ours[call.name]
        raw = call.raw_arguments
        if arguments and call.parse_error is None:
            ours = {arguments.get(key, key): value for key, value in call.arguments.items()}
            raw = jsontext.dumps(ours)
        return call.model_copy(update={"name": name, "raw_arguments": raw})


def _names(request: ChatRequest) -> frozenset[str]:
    return frozenset(tool.name for tool in request.tools)


def _tells(request: ChatRequest, goal: str) -> bool:
    told = " ".join(" ".join(message.text.split()) for message in request.messages)
    return " ".join(goal.split()) in told


def _opening(request: ChatRequest) -> str:
    system = _BILLING.sub("", request.system or "", count=1)
    return system[:_OPENING]


def _same(one: Asked, other: Asked) -> bool:
    """Return whether `other` asks what `one` had asked."""
    return one.request.messages[-1:] == other.request.messages[-1:] and len(
        one.request.messages
    ) == len(other.request.messages)


def _results(reply: ChatReply, following: ChatRequest | None) -> tuple[ToolResult, ...]:
    """Return what the calls of a reply gave back, as the next request of the work tells.

    By place and never by id, since programs make up ids of their own, and from the turns after
    the last reply. Of calls that were sent back one turn each, these are only the last.
    """
    calls = reply.tool_calls
    if following is None or not calls:
        return ()
    turns = [message.role for message in following.messages]
    last = max((n for n, role in enumerate(turns) if role == "assistant"), default=-1)
    found = _results_in(following.messages[last + 1 :])
    if found and len(found) < len(calls):
        found = _results_in(following.messages)[-len(calls) :]
    return tuple(
        result.model_copy(update={"call_id": call.id, "name": call.name})
        for call, result in zip(calls, found, strict=False)
    )


def _results_in(messages: Sequence[Message]) -> list[ToolResult]:
    blocks = (block for message in messages for block in message.blocks)
    return [block for block in blocks if isinstance(block, ToolResult)]


def _sum(counts: list[int]) -> int | None:
    return sum(counts) if counts else None

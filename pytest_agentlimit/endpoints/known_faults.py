"""What is known to be wrong with an endpoint, held against every call that is made to it.

A fault excuses the model only in a reply that shows it: an engine that loses calls in streams is
no reason for a wrong city. What an engine cannot do at all is not even asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NoReturn

from pydantic import Field

from pytest_agentlimit.chat.findings import SERVER_FAULT
from pytest_agentlimit.chat.messages import ChatReply, ChatRequest, Finding, Frozen
from pytest_agentlimit.errors import Blame

_CHARACTERS_PER_TOKEN = 4
_MOST_CHARACTERS_PER_TOKEN = 6
"""Prose has fewer: a prompt that is too long by this measure is too long by any."""
_NEAR = 0.9
"""From this share of the context that was measured on, a prompt may have lost its head."""


class KnownFault(Frozen):
    """One fault that a preflight saw on the wire."""

    step: str
    code: str
    blame: Blame
    message: str


class Preflight(Frozen):
    """What was found out about an endpoint before the first trial."""

    mode: Literal["quick", "full"]
    faults: tuple[KnownFault, ...] = ()
    facts: dict[str, Any] = Field(default_factory=dict)
    """As `Diagnosis.facts`; None is not established."""
    requests: int = 0
    seconds: float = 0.0


class KnownFaults:
    """Refuses what an engine cannot do, and marks replies that show what it does wrong.

    `refuse` is called with the fault, before a request is sent, and raises what it likes.
    """

    def __init__(self, preflight: Preflight, refuse: Callable[[KnownFault], NoReturn]) -> None:
        self._faults = preflight.faults
        self._facts = preflight.facts
        self._refuse = refuse

    def before(self, request: ChatRequest) -> None:
        """Refuse a request that needs what the engine was proven not to have."""
        for fault in self._faults:
            needs = _NEEDS.get(fault.code)
            if needs is not None and needs(request):
                self._refuse(fault)

    def knows(self, code: str) -> bool:
        """Return whether a fault was seen."""
        return any(fault.code == code for fault in self._faults)

    def after(self, request: ChatRequest, reply: ChatReply) -> ChatReply:
        """Return `reply`, with a finding for every known fault that it shows."""
        shown = [_finding(fault) for fault in self._faults if self._shows(fault, request, reply)]
        if not shown and self._beyond(request):
            shown = [_too_long(self._facts["context_advertised"])]
        if not shown:
            return reply
        return reply.model_copy(update={"findings": (*reply.findings, *shown)})

    def _shows(self, fault: KnownFault, request: ChatRequest, reply: ChatReply) -> bool:
        if fault.code == "silent_truncation":
            measured = self._facts.get("context_measured")
            return measured is not None and _tokens(request, reply) >= _NEAR * measured
        symptom = _SYMPTOMS.get(fault.code)
        return symptom is not None and symptom(request, reply)

    def _beyond(self, request: ChatRequest) -> bool:
        """Return whether a prompt is longer than the context the server says it has."""
        served = self._facts.get("context_advertised")
        if served is None:
            return False
        return bool(_characters(request) / _MOST_CHARACTERS_PER_TOKEN > served)


def blame_in(replies: Iterable[ChatReply]) -> Finding | None:
    """Return the first finding of a known fault in `replies`, None when they show none."""
    found = (one for reply in replies for one in reply.findings if one.code == SERVER_FAULT)
    return next(found, None)


def _finding(fault: KnownFault) -> Finding:
    detail = f"{fault.code}, seen before the run: {fault.message}"
    return Finding(code=SERVER_FAULT, detail=detail, blame=fault.blame)


def _too_long(served: int) -> Finding:
    detail = f"the prompt is longer than the {served} tokens of context that the server has"
    return Finding(code=SERVER_FAULT, detail=detail, blame="config")


def _characters(request: ChatRequest) -> int:
    parts = [message.model_dump_json() for message in request.messages]
    parts += [tool.model_dump_json() for tool in request.tools]
    return sum(map(len, parts)) + len(request.system or "")


def _tokens(request: ChatRequest, reply: ChatReply) -> float:
    """Return the size of a prompt: what the server counted, or what was sent, if that is more."""
    return max(reply.usage.input_tokens or 0, _characters(request) / _CHARACTERS_PER_TOKEN)


def _offers_tools(request: ChatRequest) -> bool:
    choice = request.tool_choice
    return bool(request.tools) and (choice is None or choice.mode != "none")


def _requires_call(request: ChatRequest) -> bool:
    return request.tool_choice is not None and request.tool_choice.mode in ("required", "tool")


def _wants_schema(request: ChatRequest) -> bool:
    return request.json_schema is not None


def _nothing(request: ChatRequest, reply: ChatReply) -> bool:
    return not reply.tool_calls and not reply.text.strip()


def _no_call(request: ChatRequest, reply: ChatReply) -> bool:
    return _offers_tools(request) and not reply.tool_calls


def _no_call_in_stream(request: ChatRequest, reply: ChatReply) -> bool:
    return request.stream and _no_call(request, reply)


def _unreadable_call(request: ChatRequest, reply: ChatReply) -> bool:
    return any(call.parse_error for call in reply.tool_calls)


def _silent_with_tools(request: ChatRequest, reply: ChatReply) -> bool:
    return _offers_tools(request) and _nothing(request, reply)


_NEEDS: dict[str, Callable[[ChatRequest], bool]] = {
    "no_tools": _offers_tools,
    "no_tool_parser": _offers_tools,
    "tool_choice_ignored": _requires_call,
    "tool_choice_refused": _requires_call,
    "schema_ignored": _wants_schema,
    "schema_refused": _wants_schema,
}
"""By the code of a fault: whether a request needs what is missing."""

_SYMPTOMS: dict[str, Callable[[ChatRequest, ChatReply], bool]] = {
    "empty_completion": _nothing,
    "empty_on_overflow": _nothing,
    "lost_call": _silent_with_tools,
    "call_in_reasoning": _silent_with_tools,
    "stream_loses_calls": _no_call_in_stream,
    "stream_breaks_arguments": _unreadable_call,
    "calls_merged": _unreadable_call,
}
"""By the code of a fault: whether a reply shows it. Leaked calls and replies cut short are seen
without a preflight, and so is everything that ends in an error.
"""

"""Turns that agents send back: a call with its result, and a system message in the middle."""

from __future__ import annotations

import json
from typing import Any

from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import (
    Block,
    ChatRequest,
    Message,
    TextBlock,
    ToolCall,
    ToolResult,
)
from pytest_agentlimit.endpoints.probing import fixes
from pytest_agentlimit.endpoints.probing.offers import WEATHER
from pytest_agentlimit.endpoints.probing.probe import (
    TEXT_TOKENS,
    Bench,
    Fix,
    Found,
    fault,
    ok,
    unknown,
)
from pytest_agentlimit.endpoints.probing.talk import empty, user
from pytest_agentlimit.errors import EndpointError, HTTPFailure, StreamFailure

_CALL_ID = "call00001"
"""Nine letters and digits: templates of Mistral models take no other id."""


def replay(bench: Bench) -> Found:
    """A call and its result are accepted as a past turn, as agents send them (B11).

    In the openai dialect such a turn has null content and its arguments are a string; when it is
    refused, two variants tell which of these the server cannot bear.
    """
    openai = bench.spec.dialect == "openai"
    try:
        reply = bench.ask("replay", _conversation(bench, ""))
    except (HTTPFailure, StreamFailure) as error:
        if _elsewhere(error):
            raise
        return _why_refused(bench, error)
    bench.facts["arguments"] = "string" if openai else "object"
    bench.facts["null_content"] = True if openai else None
    if empty(reply):
        return unknown("a call and its result are accepted; the model said nothing to them")
    return ok("a call and its result are accepted")


def mid_system(bench: Bench) -> Found:
    """A system message after the first turns is accepted, as Claude Code sends it (B12)."""
    reminder = Message(role="system", blocks=(TextBlock(text="Answer in one word."),))
    answer = Message(role="assistant", blocks=(TextBlock(text="Hello."),))
    request = bench.request(
        max_tokens=TEXT_TOKENS,
        system="You are brief.",
        messages=(user("Hello."), answer, reminder, user("Name a colour.")),
        stream=False,
    )
    try:
        bench.ask("system in the middle", request)
    except (HTTPFailure, StreamFailure) as error:
        if _elsewhere(error):
            raise
        bench.facts["mid_system"] = False
        message = f"a system message in the middle is refused: {fixes.said(error)}"
        return fault("mid_system_refused", message, fix=fixes.template(bench))
    bench.facts["mid_system"] = True
    return ok("a system message in the middle is accepted")


def _why_refused(bench: Bench, error: EndpointError) -> Found:
    if bench.spec.dialect == "openai":
        if _accepted(bench, _conversation(bench, "Let me look.")):
            bench.facts |= {"null_content": False, "arguments": "string"}
            fix = Fix(
                sentence="Send text beside every call, or correct the server's template",
                line="compat.requiresStringContent: true",
            )
            message = f"a past call with null content is refused: {fixes.said(error)}"
            return fault("null_content_refused", message, fix=fix)
        if _accepted(bench, _with_objects(_conversation(bench, "Let me look."))):
            bench.facts["arguments"] = "object"
            message = (
                f"past calls are accepted with arguments as an object only: {fixes.said(error)}"
            )
            return fault("wants_arguments_object", message, fix=fixes.template(bench))
    known = fixes.recognised(error)
    if known is not None:
        fix = known.fix or fixes.template(bench)
        return fault(known.code, fixes.said(error), blame=known.blame, fix=fix)
    fix = Fix(sentence="Correct the chat template, or look at the server's log")
    return fault(
        "replay_refused", f"a call and its result are refused: {fixes.said(error)}", fix=fix
    )


def _accepted(bench: Bench, request: ChatRequest) -> bool:
    try:
        bench.ask("replay variant", request)
    except (HTTPFailure, StreamFailure):
        return False
    return True


def _elsewhere(error: EndpointError) -> bool:
    """Return True for a failure that has nothing to do with the turns of the request."""
    return isinstance(error, HTTPFailure) and error.status in (401, 403, 404, 429, 503)


def _conversation(bench: Bench, said: str) -> ChatRequest:
    call = ToolCall(id=_CALL_ID, name=WEATHER.name, raw_arguments='{"city": "Oslo"}')
    result = ToolResult(call_id=_CALL_ID, name=WEATHER.name, content="Snow, -3 degrees.")
    blocks: tuple[Block, ...] = (TextBlock(text=said), call) if said else (call,)
    turns = (
        user("What is the weather in Oslo?"),
        Message(role="assistant", blocks=blocks),
        Message(role="tool", blocks=(result,)),
    )
    return bench.request(max_tokens=TEXT_TOKENS, messages=turns, tools=(WEATHER,), stream=False)


def _with_objects(request: ChatRequest) -> ChatRequest:
    messages: list[dict[str, Any]] = codec_for("openai").encode_request(request)["messages"]
    for message in messages:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return request.model_copy(update={"extra": {"messages": messages}})

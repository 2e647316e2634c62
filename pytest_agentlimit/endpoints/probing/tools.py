"""Tool calls: bare, in an agent's shape, streamed, required, several at once."""

from __future__ import annotations

import re
from typing import Any

from pytest_agentlimit.chat.messages import ChatReply, ChatRequest, ToolChoice
from pytest_agentlimit.endpoints.probing import fixes
from pytest_agentlimit.endpoints.probing.needle import reading_s
from pytest_agentlimit.endpoints.probing.offers import WEATHER, decoys, instructions
from pytest_agentlimit.endpoints.probing.probe import (
    Bench,
    Fix,
    Found,
    fault,
    ok,
    skipped,
    unknown,
)
from pytest_agentlimit.endpoints.probing.talk import empty, user
from pytest_agentlimit.errors import EndpointError, HTTPFailure

_ONE_CALL = 96
_TWO_CALLS = 128
_BILLED = 8
"""Output tokens of an empty reply that a call may have taken."""
_MARKED = re.compile(r"<tool_call>|<function=|\[TOOL_CALLS\]|<\|python_tag\|>|\bcall:\w")
"""What models write that were trained to call tools, and that engines are there to parse."""
_AGENT_TOKENS = 6000
"""Context that the probe in an agent's shape needs."""
_AGENT_READS = 5000
"""Tokens that are read in that probe, about."""
_TELLING = 400
"""Tokens from which on the time to read a prompt tells how long a larger one takes."""


def _question(bench: Bench, **fields: Any) -> ChatRequest:
    turn = user("What is the weather in Oslo right now? Use the tool get_weather.")
    plain = {"max_tokens": _ONE_CALL, "messages": (turn,), "tools": (WEATHER,), "stream": False}
    return bench.request(**{**plain, **fields})


def bare(bench: Bench) -> Found:
    """One tool, one question: a call comes back as a call."""
    found = _called(bench, bench.ask("tool", _question(bench)))
    toolless = found.verdict == "unknown" and bench.facts["tools_advertised"] is False
    if found.verdict in ("ok", "fault") or toolless:
        bench.facts["tools"] = found.verdict == "ok"
    return found


def agent_shaped(bench: Bench) -> Found:
    """The same call comes back among a dozen tools and 20 KB of instructions (R9, B17)."""
    facts = bench.facts
    served = facts["context_measured"] or facts["context_advertised"] or facts["context_declared"]
    if served is not None and served < _AGENT_TOKENS:
        return skipped(f"needs {_AGENT_TOKENS} tokens of context, there are {served}")
    request = _question(bench, system=instructions(), tools=(*decoys(), WEATHER))
    takes_s, left_s = _reading_s(bench), bench.wire.left_s
    if takes_s > left_s:
        return skipped(f"to read so long a prompt takes {takes_s:.0f} s, and {left_s:.0f} are left")
    try:
        # Reading so long a prompt takes what it takes; this is the last step.
        reply = bench.ask("tool in agent shape", request, bench.wire.budget.total_s)
    except HTTPFailure as error:
        if error.kind == "context_overflow" and served is None:
            return unknown(f"an agent's request does not fit: {fixes.said(error)}")
        raise
    found = _called(bench, reply)
    if found.verdict == "fault":
        return found.model_copy(update={"message": f"only in an agent's shape: {found.message}"})
    return found


def _reading_s(bench: Bench) -> float:
    """Return the seconds to read an agent's prompt, at the pace of the longest so far; 0: unknown.

    It is the least: pace drops as prompts grow.
    """
    longest = max(bench.replies.values(), key=lambda reply: reply.usage.input_tokens or 0)
    fresh = (longest.usage.input_tokens or 0) - (longest.usage.cached_tokens or 0)
    return reading_s(longest) * _AGENT_READS / fresh if fresh >= _TELLING else 0.0


def streamed(bench: Bench) -> Found:
    """A call that comes whole also comes in a stream."""
    whole = bench.replies["tool"]
    if not whole.tool_calls:
        return skipped("there was no call to compare with")
    reply = bench.ask("tool stream", _question(bench, stream=True))
    found = _streamed(bench, reply)
    if found.verdict == "unknown" and reply.stop_reason != "max_tokens" and _only_whole(bench):
        if reply.tool_calls:
            message = "the arguments of a call are whole, and break off in a stream"
            found = fault("stream_breaks_arguments", message, fix=_WHOLE)
        else:
            found = fault("stream_loses_calls", "calls come whole, not in a stream", fix=_WHOLE)
    if found.verdict in ("ok", "fault"):
        bench.facts["stream_equals_whole"] = found.verdict == "ok"
    return found


def required(bench: Bench) -> Found:
    """A required tool choice brings a call, whatever the model would rather say."""
    if bench.spec.dialect == "ollama":
        return skipped("the ollama dialect has no tool choice")
    try:
        reply = _required_reply(bench)
    except HTTPFailure as error:
        if fixes.recognised(error) or error.status in (401, 403, 429, 503):
            raise
        bench.facts["tool_choice"] = False
        return fault(
            "tool_choice_refused", f"a required tool choice is refused: {fixes.said(error)}"
        )
    if reply.tool_calls:
        bench.facts["tool_choice"] = True
        return ok("a required tool choice is enforced")
    if reply.truncated:
        return unknown("the reply to a required tool choice was cut short")
    bench.facts["tool_choice"] = False
    if bench.facts["tools_advertised"] is False:
        return unknown("the template has no tools, so a required choice cannot bring a call")
    fix = Fix(sentence="Let checks use tool_choice=auto, or use an engine that enforces it")
    return fault("tool_choice_ignored", "a required tool choice was accepted and ignored", fix=fix)


def parallel(bench: Bench) -> Found:
    """Two calls in one streamed reply stay two calls."""
    turn = user("What is the weather in Oslo and in Lima? Call get_weather once for each city.")
    allowed = None if bench.spec.dialect == "ollama" else True
    request = _question(
        bench,
        messages=(turn,),
        stream=True,
        max_tokens=_TWO_CALLS,
        parallel_tool_calls=allowed,
    )
    reply = bench.ask("parallel", request)
    codes = {finding.code for finding in reply.findings}
    fix = Fix(sentence="Update the engine; until then allow one call at a time")
    merged = [call for call in reply.tool_calls if re.search(r"\}\s*\{", call.raw_arguments)]
    if "repeated_index" in codes or any(call.parse_error for call in merged):
        bench.facts["parallel_tool_calls"] = False
        return fault("calls_merged", "two calls of one reply share an index", fix=fix)
    if len({call.id for call in reply.tool_calls}) < len(reply.tool_calls):
        bench.facts["parallel_tool_calls"] = False
        return fault("calls_merged", "two calls of one reply share an id", fix=fix)
    if len(reply.tool_calls) > 1:
        bench.facts["parallel_tool_calls"] = True
        return ok("several calls in one reply")
    return unknown("the model did not make two calls in one reply")


_WHOLE = Fix(
    sentence="Update the engine; until then do not stream requests with tools",
    line='params: {"stream": false}',
)


def _streamed(bench: Bench, reply: ChatReply) -> Found:
    """Return what a streamed call shows, the names of faults saying that the stream is at fault."""
    found = _called(bench, reply)
    if found.verdict != "fault":
        return found
    codes = {"leaked_call": "stream_leaks_calls", "lost_call": "stream_loses_calls"}
    code = codes.get(str(found.code), found.code)
    message = f"only in a stream: {found.message}"
    return found.model_copy(update={"code": code, "message": message, "fix": _WHOLE})


def _only_whole(bench: Bench) -> bool:
    """Return True when calls come well whole, twice, and again not in a stream.

    A model may change its mind once.
    """
    if not _well_called(bench.replies["tool"]):
        return False
    whole = bench.ask("tool again", _question(bench))
    stream = bench.ask("tool stream again", _question(bench, stream=True))
    cut = stream.stop_reason == "max_tokens"
    return _well_called(whole) and not _well_called(stream) and not cut


def _well_called(reply: ChatReply) -> bool:
    return bool(reply.tool_calls) and not reply.tool_calls[0].parse_error


def _called(bench: Bench, reply: ChatReply) -> Found:
    """Return what a reply to a question with tools shows about the engine.

    Where the model's template has no tools, nothing but a call that comes shows anything.
    """
    if bench.facts["tools_advertised"] is False and not reply.tool_calls:
        return unknown("the server says that this model's template has no tools", fixes.NO_TOOLS)
    return _seen(bench, reply)


def _seen(bench: Bench, reply: ChatReply) -> Found:
    codes = {finding.code for finding in reply.findings}
    if reply.leaked_calls and not reply.tool_calls:
        return _leaked(bench, reply)
    if reply.truncated:
        return unknown("the reply was cut short before its call was complete")
    if "stop_with_call" in codes:
        fix = Fix(sentence="Update the engine: agents do not run a call that ends in a plain stop")
        return fault("stop_with_call", "a call came with the stop reason of plain text", fix=fix)
    if reply.tool_calls:
        good = not reply.tool_calls[0].parse_error
        return (
            ok("a call comes as a call") if good else unknown("the model's arguments are no JSON")
        )
    if "tool_stop_without_call" in codes:
        message = "the server announced a call and sent none"
        return fault("lost_call", message, fix=fixes.unparsed_calls(bench))
    billed = reply.usage.output_tokens or 0
    if empty(reply) and billed >= _BILLED:
        message = f"an empty reply for which {billed} output tokens are counted: the call was lost"
        return fault("lost_call", message, fix=fixes.unparsed_calls(bench))
    return unknown("the model answered without a call")


def _leaked(bench: Bench, reply: ChatReply) -> Found:
    """Return whose fault a call in the text is: engines parse marked calls, not any JSON.

    JSON without a mark may be a weak model's own idea; an engine that brings a call when one is
    required can parse them.
    """
    fix = fixes.unparsed_calls(bench)
    if not reply.text.strip() and reply.thinking:
        return fault("call_in_reasoning", "a tool call is left inside the reasoning", fix=fix)
    marked = _MARKED.search(reply.text)
    if marked is None and _parses(bench):
        return unknown("the model wrote JSON in place of a call, which no parser looks for")
    message = f"a tool call comes as text: {reply.text.strip()[:80]}"
    return fault("leaked_call", message, fix=fix)


def _parses(bench: Bench) -> bool:
    if bench.spec.dialect == "ollama":
        return False
    try:
        return bool(_required_reply(bench).tool_calls)
    except EndpointError:
        return False


def _required_reply(bench: Bench) -> ChatReply:
    """Return the reply to a request that no model would answer with a call, but one is required."""
    if "tool choice" in bench.replies:
        return bench.replies["tool choice"]
    choice = ToolChoice(mode="required")
    request = _question(bench, messages=(user("Say hello."),), tool_choice=choice)
    return bench.ask("tool choice", request)

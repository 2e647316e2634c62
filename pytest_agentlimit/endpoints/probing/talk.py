"""Plain text: whole and streamed, what it costs, schemas, and two requests at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pytest_agentlimit.chat.messages import ChatReply, ChatRequest, Message, TextBlock
from pytest_agentlimit.endpoints.probing import fixes
from pytest_agentlimit.endpoints.probing.probe import (
    TEXT_TOKENS,
    Bench,
    Fix,
    Found,
    fault,
    ok,
    unknown,
)
from pytest_agentlimit.errors import DeadlineExceeded, EndpointError, HTTPFailure

_BILLED = 2
"""Output tokens of an empty reply that are more than the model's mark of the end."""
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


def user(text: str) -> Message:
    """Return a turn of the user."""
    return Message(role="user", blocks=(TextBlock(text=text),))


def _greeting(bench: Bench, **fields: Any) -> ChatRequest:
    turn = user("Say hello and name one colour, in one short sentence.")
    return bench.request(**{"max_tokens": TEXT_TOKENS, "messages": (turn,), **fields})


def text(bench: Bench) -> Found:
    """A whole reply holds text; a model that thinks has enough tokens left to answer."""
    first = bench.wire.budget.first_s
    reply = bench.ask("text", _greeting(bench, stream=False), first)
    bench.facts["reasoning"] = _reasoning(reply)
    if reply.thinking and not reply.text and reply.truncated:
        again = _greeting(bench, stream=False, max_tokens=bench.room)
        reply = bench.ask("text with room", again)
        if not reply.text and reply.truncated:
            message = f"thinking used up all {bench.room} tokens and left no answer"
            fix = Fix(
                sentence="Raise max_tokens, or turn thinking off",
                line=fixes.setting(bench, "maxTokens", 4 * bench.room),
            )
            return fault("reasoning_eats_budget", message, blame="config", fix=fix)
    return _texted(reply, "the reply holds text")


def stream(bench: Bench) -> Found:
    """The same reply can be streamed, and its text arrives."""
    reply = bench.ask("stream", _greeting(bench, stream=True))
    bench.facts["reasoning"] = bench.facts["reasoning"] or _reasoning(reply)
    if any(finding.code == "stream_ignored" for finding in reply.findings):
        message = "a stream was asked for, and the reply came whole"
        fix = Fix(sentence="Turn off buffering in the server, or in a proxy before it")
        return fault("stream_ignored", message, fix=fix)
    return _texted(reply, "the text arrives in a stream")


def usage(bench: Bench) -> Found:
    """Tokens are counted in whole replies and in streams.

    The stream asked the same prompt again, so its count also tells of a prompt cache.
    """
    cached = bench.replies["stream"].usage.cached_tokens
    bench.facts["prompt_cache"] = None if cached is None else cached > 0
    missing = [
        how
        for how, key in (("whole replies", "text"), ("streams", "stream"))
        if bench.replies[key].usage.input_tokens is None
    ]
    bench.facts["usage_reported"] = not missing
    if missing:
        message = f"no token counts in {' and in '.join(missing)}: clients cannot see the context"
        fix = Fix(
            sentence="Update the server; until then tell OpenClaw not to ask streams for it",
            line="compat.supportsUsageInStreaming: false",
        )
        return fault("usage_missing", message, fix=fix)
    return ok("token counts come with every reply")


def warm(bench: Bench) -> Found:
    """The first call was not slower than the second by the time a model takes to load."""
    first, second = bench.replies["text"].timing, bench.replies["stream"].timing
    told = first.server.load_s if first.server else None
    cold = max(told or 0.0, first.total_s - second.total_s)
    bench.facts["cold_s"] = round(max(cold, 0.0), 3)
    if cold < bench.wire.budget.cold_s:
        return ok("the model was loaded")
    message = f"a cold start: the first call took {cold:.1f} s longer than the second"
    line = "OLLAMA_KEEP_ALIVE=-1" if _is_ollama(bench) else None
    fix = Fix(sentence="Keep the model loaded, or warm it up before anything is timed", line=line)
    return fault("cold_start", message, blame="config", fix=fix)


def json_schema(bench: Bench) -> Found:
    """A schema binds the reply, also when the prompt asks for something else."""
    turn = user("Write one short sentence about the sea, in plain words.")
    request = bench.request(
        max_tokens=TEXT_TOKENS, messages=(turn,), json_schema=_SCHEMA, stream=False
    )
    try:
        reply = bench.ask("schema", request)
    except HTTPFailure as error:
        if fixes.recognised(error) or error.status in (401, 403, 429, 503):
            raise
        bench.facts["json_schema"] = False
        fix = Fix(
            sentence="Use an engine with structured output, or tell OpenClaw that there is none",
            line="compat.supportsJsonSchemaResponseFormat: false",
        )
        return fault("schema_refused", f"a JSON schema is refused: {fixes.said(error)}", fix=fix)
    bench.facts["json_schema"] = _follows(reply.text)
    if bench.facts["json_schema"]:
        return ok("a JSON schema binds the reply")
    if not reply.text.strip() or (reply.truncated and reply.text.lstrip().startswith("{")):
        bench.facts["json_schema"] = None
        return unknown("the reply to a request with a schema broke off too early to tell")
    fix = Fix(
        sentence="Do not rely on schemas here: use an engine that enforces them",
        line="compat.supportsJsonSchemaResponseFormat: false",
    )
    return fault("schema_ignored", "a JSON schema was accepted and ignored", fix=fix)


def two_at_once(bench: Bench) -> Found:
    """Two requests at a time are both answered."""
    request = _greeting(bench, stream=True)
    bench.wire.take(bench.patience_s(request), 2)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(bench.wire.send_counted, request) for _ in range(2)]
    errors: list[EndpointError] = []
    for call in calls:
        try:
            call.result()
        except EndpointError as failed:
            errors.append(failed)
    bench.facts["concurrency"] = not errors
    fix = Fix(sentence="Send one request at a time", line="max_inflight = 1")
    for error in errors:
        late = isinstance(error, DeadlineExceeded) and error.kind != "slow"
        if late and not bench.wire.hurried:
            return fault(
                "concurrency_hang", f"of two requests at once, {fixes.said(error)}", fix=fix
            )
    if errors and not isinstance(errors[0], DeadlineExceeded):
        return fault(
            "concurrency_refused", f"of two requests at once, {fixes.said(errors[0])}", fix=fix
        )
    return unknown("two requests at once were slow") if errors else ok("two at once are answered")


def empty(reply: ChatReply) -> bool:
    """Return True when a reply holds nothing at all."""
    return not (reply.text.strip() or reply.thinking.strip() or reply.tool_calls)


def _texted(reply: ChatReply, good: str) -> Found:
    if reply.text.strip():
        return ok(good)
    if not empty(reply):
        return unknown("the model thought, and gave no answer")
    billed = reply.usage.output_tokens or 0
    if billed > _BILLED:
        message = f"an empty reply for which {billed} output tokens are counted"
        fix = Fix(sentence="Look at the server's log: its parser may have dropped the text")
        return fault("empty_completion", message, fix=fix)
    return unknown("the model ended its reply at once")


def _reasoning(reply: ChatReply) -> str | None:
    if any(finding.code == "think_tags" for finding in reply.findings):
        return "tags"
    return "field" if reply.thinking else None


def _follows(answer: str) -> bool:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value in ({"colour": "red"}, {"colour": "green"})


def _is_ollama(bench: Bench) -> bool:
    return bench.spec.dialect == "ollama" or bench.facts["engine"] == "Ollama"

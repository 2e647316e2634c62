"""How fast the three dialects are read and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from budgets import Ledger

from pytest_agentlimit.agents.shape import agent_shape
from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.assemble import ReplyAssembler, reply_events
from pytest_agentlimit.chat.codecs import Codec, codec_for
from pytest_agentlimit.chat.messages import (
    ChatReply,
    ChatRequest,
    Dialect,
    Message,
    StreamEvent,
    TextBlock,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)

DIALECTS: tuple[Dialect, ...] = ("openai", "anthropic", "ollama")
NETWORK_CHUNK = 4096
CALL = ToolCall(id="call_0", name="get_weather", raw_arguments='{"city": "Oslo", "days": 3}')
REPLY = ChatReply(
    blocks=(TextBlock(text="The quick brown fox jumps over the lazy dog. " * 400), CALL),
    stop_reason="tool_use",
    model="m",
    id="reply-1",
    usage=Usage(input_tokens=3000, output_tokens=4500),
)


def token_events() -> list[StreamEvent]:
    """Return the events of a long reply, four characters of text each, as engines send tokens."""
    events: list[StreamEvent] = []
    for event in reply_events(REPLY):
        if isinstance(event, TextDelta):
            starts = range(0, len(event.text), 4)
            events += [TextDelta(text=event.text[at : at + 4]) for at in starts]
        else:
            events.append(event)
    return events


def long_request() -> ChatRequest:
    """Return an agent's request: 20 KB of system text, a dozen tools, twenty turns."""
    turns = []
    for number in range(10):
        call = CALL.model_copy(update={"id": f"call_{number}"})
        result = ToolResult(call_id=call.id, name=call.name, content="snow, -3 degrees " * 20)
        turns.append(Message(role="assistant", blocks=(TextBlock(text="Let me look."), call)))
        turns.append(Message(role="tool", blocks=(result,)))
    question = Message(role="user", blocks=(TextBlock(text="Weather in Oslo?"),))
    return agent_shape(ChatRequest(model="m", messages=(question, *turns)))


def encoded(codec: Codec, events: list[StreamEvent]) -> bytes:
    encoder = codec.stream_encoder("m")
    return b"".join([*map(encoder.feed, events), encoder.close()])


def decoded(codec: Codec, stream: bytes) -> ChatReply:
    decoder, assembler = codec.stream_decoder(), ReplyAssembler()
    for at in range(0, len(stream), NETWORK_CHUNK):
        for event in decoder.feed(stream[at : at + NETWORK_CHUNK]):
            assembler.add(event)
    for event in decoder.close():
        assembler.add(event)
    return assembler.reply()


def work(dialect: Dialect) -> dict[str, tuple[Callable[[], Any], int]]:
    """Return what is measured for a dialect: a function, and the bytes it handles."""
    codec, events, request = codec_for(dialect), token_events(), long_request()
    stream = encoded(codec, events)
    body = json.dumps(codec.encode_request(request))
    assert decoded(codec, stream).text == REPLY.text
    return {
        "stream decode": (lambda: decoded(codec, stream), len(stream)),
        "stream encode": (lambda: encoded(codec, events), len(stream)),
        "request encode": (lambda: json.dumps(codec.encode_request(request)), len(body)),
        "request decode": (lambda: codec.decode_request(jsontext.parse(body)[0]), len(body)),
    }


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "what", ["stream decode", "stream encode", "request encode", "request decode"]
)
def test_throughput(benchmark: Any, ledger: Ledger, dialect: Dialect, what: str) -> None:
    do, size = work(dialect)[what]
    benchmark.pedantic(do, rounds=20, warmup_rounds=2)
    rates = [size / 1e6 / seconds for seconds in benchmark.stats.stats.data]
    ledger.median(f"{what}, {dialect}, of {size / 1000:.0f} kB", rates, "MB/s")

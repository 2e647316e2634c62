"""Conversations that every dialect can express, for property tests, and stream helpers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.assemble import ReplyAssembler
from pytest_agentlimit.chat.codecs import Codec
from pytest_agentlimit.chat.messages import (
    Block,
    ChatReply,
    ChatRequest,
    Message,
    ServerTimings,
    StreamEvent,
    TextBlock,
    ThinkingBlock,
    Timing,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)

DIALECTS = ("openai", "anthropic", "ollama")
WORDS = {
    "openai": {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length"},
    "anthropic": {"end_turn": "end_turn", "tool_use": "tool_use", "max_tokens": "max_tokens"},
    "ollama": {"end_turn": "stop", "tool_use": "stop", "max_tokens": "length"},
}

WEATHER = Tool(
    "get_weather",
    "Weather of a city",
    {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
)
TIME = Tool("get_time", "The time", {"type": "object", "properties": {}})

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda text: not text.lstrip().startswith("<")
)
visible = texts.filter(lambda text: text.strip() == text)
names = st.from_regex(r"[a-z][a-z_]{0,12}", fullmatch=True)
ids = st.from_regex(r"[a-z]{1,6}_[a-z0-9]{1,8}", fullmatch=True)
scalars = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, values, max_size=3)
raw_arguments = objects.map(jsontext.dumps)
counts = st.integers(1, 10**6)
schemas = st.fixed_dictionaries({"type": st.just("object"), "properties": objects})


@st.composite
def tools(draw: st.DrawFn) -> tuple[Tool, ...]:
    found = draw(st.lists(names, unique=True, max_size=3))
    return tuple(Tool(name, draw(texts | st.just("")), draw(schemas)) for name in found)


@st.composite
def conversations(draw: st.DrawFn, *, several_texts: bool, errors: bool) -> tuple[Message, ...]:
    call_ids = iter(draw(st.lists(ids, min_size=12, max_size=12, unique=True)))
    messages: list[Message] = []
    for _ in range(draw(st.integers(1, 3))):
        most = 2 if several_texts else 1
        said = draw(st.lists(visible, min_size=1, max_size=most))
        messages.append(Message(role="user", blocks=tuple(TextBlock(text=one) for one in said)))
        blocks = _assistant_blocks(draw, draw(st.integers(0, 2)), call_ids)
        messages.append(Message(role="assistant", blocks=blocks))
        calls = [block for block in blocks if isinstance(block, ToolCall)]
        if calls:
            results = tuple(
                ToolResult(
                    call_id=call.id,
                    name=call.name,
                    content=draw(texts | st.just("")),
                    is_error=errors and draw(st.booleans()),
                )
                for call in calls
            )
            messages.append(Message(role="tool", blocks=results))
    return tuple(messages)


def _assistant_blocks(draw: st.DrawFn, calls: int, call_ids: Iterable[str]) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if draw(st.booleans()):
        blocks.append(ThinkingBlock(text=draw(visible)))
    if draw(st.booleans()):
        blocks.append(TextBlock(text=draw(visible)))
    supply = iter(call_ids)
    for _ in range(calls):
        call_id = next(supply)
        blocks.append(ToolCall(id=call_id, name=draw(names), raw_arguments=draw(raw_arguments)))
    return tuple(blocks)


@st.composite
def requests(draw: st.DrawFn, dialect: str) -> ChatRequest:
    anthropic, ollama = dialect == "anthropic", dialect == "ollama"
    choice = None if ollama else draw(st.none() | _choices)
    parallel = None if ollama else draw(st.none() | st.booleans())
    if anthropic and (choice is None or choice.mode == "none"):
        parallel = None
    return ChatRequest(
        model=draw(names),
        messages=draw(conversations(several_texts=anthropic, errors=anthropic)),
        system=draw(st.none() | visible),
        tools=draw(tools()),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        json_schema=draw(st.none() | schemas),
        max_tokens=draw(counts if anthropic else st.none() | counts),
        temperature=draw(st.none() | st.sampled_from([0.0, 0.7, 1.0])),
        top_p=draw(st.none() | st.sampled_from([0.1, 1.0])),
        seed=None if anthropic else draw(st.none() | counts),
        stop=tuple(draw(st.lists(visible, max_size=2))),
        think=draw(st.none() | st.booleans()),
        stream=draw(st.booleans()),
        extra=draw(st.dictionaries(st.sampled_from(["x_one", "x_two"]), values, max_size=2)),
    )


_choices = st.sampled_from(["auto", "none", "required"]).map(
    lambda mode: ToolChoice(mode=mode)
) | names.map(lambda name: ToolChoice(mode="tool", name=name))


@st.composite
def replies(draw: st.DrawFn, dialect: str) -> ChatReply:
    call_ids = draw(st.lists(ids, min_size=3, max_size=3, unique=True))
    blocks = _assistant_blocks(draw, draw(st.integers(0, 3)), call_ids)
    stop = draw(st.sampled_from(["max_tokens", "complete"]))
    called = any(isinstance(block, ToolCall) for block in blocks)
    if stop == "complete":
        stop = "tool_use" if called else "end_turn"
    prompt, answer = draw(counts), draw(counts)
    cached = draw(st.none() | st.integers(0, prompt - 1))
    return ChatReply(
        blocks=blocks,
        stop_reason=stop,
        raw_stop_reason=WORDS[dialect][stop],
        model=draw(names),
        id=None if dialect == "ollama" else draw(ids),
        usage=Usage(
            input_tokens=prompt,
            output_tokens=answer,
            cached_tokens=None if dialect == "ollama" else cached,
            reasoning_tokens=draw(st.none() | counts) if dialect == "openai" else None,
            cache_write_tokens=draw(st.none() | st.just(0)) if dialect == "anthropic" else None,
        ),
        timing=Timing(server=draw(st.none() | _clocks) if dialect == "ollama" else None),
    )


_clocks = st.integers(1, 10**10).map(
    lambda ns: ServerTimings(load_s=ns / 1e9, prompt_s=0.5, predicted_s=2.0, total_s=ns / 1e9)
)


def chunked(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return `data` cut at `cuts`."""
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(edges)]


def decode(codec: Codec, data: bytes, cuts: Iterable[int] = ()) -> list[StreamEvent]:
    """Return every event of a stream that arrives in the given pieces."""
    decoder = codec.stream_decoder()
    events = [event for chunk in chunked(data, cuts) for event in decoder.feed(chunk)]
    return events + decoder.close()


def assembled(codec: Codec, data: bytes, offered: tuple[Tool, ...] = ()) -> ChatReply:
    """Return the reply a stream holds."""
    assembler = ReplyAssembler()
    for event in decode(codec, data):
        assembler.add(event)
    return assembler.reply(offered)


def codes(reply: ChatReply) -> set[str]:
    """Return the codes of the findings."""
    return {finding.code for finding in reply.findings}


def sse(*bodies: Any, done: bool = True, end: str = "\n\n") -> bytes:
    """Return chat completions chunks as an event stream."""
    frames = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
    return "".join(f"data: {frame}{end}" for frame in [*frames, *(["[DONE]"] * done)]).encode()


def events(*bodies: dict[str, Any]) -> bytes:
    """Return Anthropic events as an event stream."""
    return "".join(
        f"event: {body['type']}\ndata: {json.dumps(body)}\n\n" for body in bodies
    ).encode()


def lines(*bodies: Any) -> bytes:
    """Return Ollama lines."""
    return "".join(json.dumps(body) + "\n" for body in bodies).encode()

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from bridge_kit import chunk, entry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_agentlimit.bridge.errors import refusal_for
from pytest_agentlimit.bridge.rules import Rules
from pytest_agentlimit.bridge.translate import Translation
from pytest_agentlimit.chat.messages import ChatRequest, Dialect, Tool
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import EndpointError
from pytest_agentlimit.testing import anthropic_grammar

EXAMPLES = int(os.environ.get("AGENTLIMIT_FUZZ", "60"))
thorough = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
TYPES = {"ollama": "application/x-ndjson"}
REQUEST = ChatRequest(model="m", messages=(), tools=(Tool("read"),))

texts = st.sampled_from(["", "a", "Hé ", "<think>", "</think>", "\ud800", '{"x":1}', "[", "<tool_"])
fragments = st.sampled_from(["", "{", "}", '{"a":', "1}", '{"a": 1}', '"', "[]", "null", "\\"])
maybe_id = st.sampled_from([None, "x", "y", ""])
indexes = st.sampled_from([None, 0, 1, 7, "0"])
odd = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
finishes = st.sampled_from([None, None, "stop", "length", "tool_calls", "content_filter", "abort"])


@st.composite
def openai_chunk(draw: st.DrawFn) -> Any:
    kind = draw(st.integers(0, 7))
    finish = draw(finishes)
    if kind <= 1:
        return chunk({"content": draw(texts)}, finish)
    if kind == 2:
        return chunk({"reasoning_content": draw(texts)}, finish)
    if kind <= 4:
        name = draw(st.sampled_from([None, "read", ""]))
        call = entry(draw(indexes), draw(maybe_id), name, draw(fragments | odd))
        return chunk({"tool_calls": [call]}, finish)
    if kind == 5:
        return {"choices": [], "usage": draw(odd)}
    if kind == 6:
        return draw(st.sampled_from([{"error": {"message": "no"}}, {"choices": [{}]}]))
    return {"choices": draw(odd), "id": draw(odd), "model": draw(odd)}


@st.composite
def anthropic_event(draw: st.DrawFn) -> Any:
    index = {"index": draw(indexes)}
    block = st.sampled_from(
        [
            {"type": "text", "text": ""},
            {"type": "thinking", "thinking": ""},
            {"type": "tool_use", "id": "t", "name": "read", "input": {}},
            {"type": "redacted_thinking", "data": "d"},
        ]
    )
    deltas = st.one_of(
        st.builds(lambda text: {"type": "text_delta", "text": text}, texts),
        st.builds(lambda text: {"type": "thinking_delta", "thinking": text}, texts),
        st.builds(lambda text: {"type": "input_json_delta", "partial_json": text}, fragments | odd),
        st.just({"type": "signature_delta", "signature": "s"}),
    )
    stops = st.sampled_from([None, "end_turn", "tool_use", "max_tokens", "abort"])
    return draw(
        st.one_of(
            st.just({"type": "message_start", "message": {"id": "m", "usage": {}}}),
            st.builds(lambda b: {"type": "content_block_start", "content_block": b} | index, block),
            st.builds(lambda d: {"type": "content_block_delta", "delta": d} | index, deltas),
            st.just({"type": "content_block_stop"} | index),
            st.builds(lambda s: {"type": "message_delta", "delta": {"stop_reason": s}}, stops),
            st.sampled_from([{"type": "message_stop"}, {"type": "ping"}, {"type": "error"}]),
            st.dictionaries(texts, odd, max_size=2),
        )
    )


@st.composite
def ollama_line(draw: st.DrawFn) -> Any:
    call = {"function": {"name": draw(st.sampled_from(["read", ""])), "arguments": draw(odd)}}
    message: dict[str, Any] = {"content": draw(texts | odd)}
    if draw(st.booleans()):
        message["tool_calls"] = [call]
    end = {"done": True, "done_reason": draw(finishes)} if draw(st.booleans()) else {}
    return {"model": "m", "message": message} | end


def frames(dialect: str, objects: list[Any], draw: st.DrawFn) -> bytes:
    out = b""
    for one in objects:
        text = json.dumps(one).encode()
        if dialect == "ollama":
            out += text + b"\n"
        else:
            event = f"event: {one.get('type')}\n".encode() if dialect == "anthropic" else b""
            out += event + b"data: " + text + draw(st.sampled_from([b"\n\n", b"\r\n\r\n"]))
        out += draw(st.sampled_from([b"", b"", b"", b": hi\n\n", b"garbage\n", b"\xff", b"\n"]))
    if dialect == "openai" and draw(st.booleans()):
        out += b"data: [DONE]\n\n"
    return out


KINDS = {"openai": openai_chunk(), "anthropic": anthropic_event(), "ollama": ollama_line()}
STARTS: dict[str, list[Any]] = {
    "openai": [chunk({"role": "assistant"})],
    "anthropic": [{"type": "message_start", "message": {"id": "m", "usage": {}}}],
    "ollama": [],
}
ENDS: dict[str, list[list[Any]]] = {
    "openai": [[chunk(finish=why)] for why in ("stop", "length", "tool_calls")],
    "anthropic": [
        [{"type": "message_delta", "delta": {"stop_reason": why}}, {"type": "message_stop"}]
        for why in ("end_turn", "tool_use", "max_tokens")
    ],
    "ollama": [[{"message": {}, "done": True, "done_reason": why}] for why in ("stop", "length")],
}


@st.composite
def upstream_bytes(draw: st.DrawFn) -> tuple[Dialect, list[bytes]]:
    """A stream of valid and odd frames, cut and torn anywhere."""
    dialect: Dialect = draw(st.sampled_from(["openai", "anthropic", "ollama"]))
    objects = draw(st.lists(KINDS[dialect], max_size=8))
    if draw(st.booleans()):
        objects = [*STARTS[dialect], *objects, *draw(st.sampled_from(ENDS[dialect]))]
    data = frames(dialect, objects, draw)
    data = data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 3)) == 0 else data
    if draw(st.integers(0, 5)) == 0:
        data = draw(st.binary(max_size=60)) + data
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return dialect, [piece for piece in pieces if piece]


def told(dialect: Dialect, pieces: list[bytes], *, recover: bool) -> bytes:
    """What an Anthropic client gets in its stream, as an exchange sends it."""
    spec = EndpointSpec(name="up", dialect=dialect, base_url="http://up", model="m")
    rules = Rules(REQUEST, prompt_tokens=lambda: 1, leaks="recover" if recover else "pass")
    kind = TYPES.get(dialect, "text/event-stream")
    translation = Translation(spec, REQUEST, "anthropic", rules, kind)
    out = b""
    try:
        for piece in pieces:
            out += translation.feed(piece, 0.0)
            if translation.error is not None or translation.complete:
                break
        if translation.error is None:
            out += translation.finish()
    except EndpointError as failure:
        out += translation.passed_on()
        return out + translation.failed(refusal_for(failure).error)
    error = translation.error
    return out if error is None else out + translation.failed(error)


@thorough
@given(upstream_bytes(), st.booleans())
def test_any_upstream_gives_the_grammar_or_one_error(
    sent: tuple[Dialect, list[bytes]], recover: bool
) -> None:
    out = told(*sent, recover=recover)
    assert anthropic_grammar(out) == []


@st.composite
def whole_body(draw: st.DrawFn) -> tuple[Dialect, bytes]:
    """A whole reply of odd parts."""
    dialect: Dialect = draw(st.sampled_from(["openai", "anthropic", "ollama"]))
    call = entry(0, draw(maybe_id), draw(st.sampled_from([None, "read"])), draw(fragments | odd))
    use = {"type": "tool_use", "id": "t", "name": "read", "input": draw(odd)}
    said = {"content": draw(texts | odd), "tool_calls": draw(st.just([call]) | odd)}
    bodies: dict[str, Any] = {
        "openai": {"choices": [{"message": said, "finish_reason": draw(finishes)}]},
        "anthropic": {"content": [use, {"type": "text", "text": "a"}], "stop_reason": draw(odd)},
        "ollama": {"message": said, "done_reason": draw(finishes)},
    }
    body = draw(st.just(bodies[dialect]) | odd)
    return dialect, json.dumps(body).encode()[: draw(st.sampled_from([None, None, 9]))]


@thorough
@given(whole_body(), st.booleans())
def test_any_whole_reply_gives_a_message_or_an_error(
    sent: tuple[Dialect, bytes], streamed: bool
) -> None:
    dialect, body = sent
    asked = REQUEST.model_copy(update={"stream": streamed})
    spec = EndpointSpec(name="up", dialect=dialect, base_url="http://up", model="m")
    rules = Rules(asked, prompt_tokens=lambda: 1)
    translation = Translation(spec, asked, "anthropic", rules, "application/json")
    try:
        out = translation.feed(body, 0.0) + translation.finish()
    except EndpointError:
        return
    if translation.error is not None:
        return
    if streamed:
        assert anthropic_grammar(out) == []
        return
    message = json.loads(out)
    calls = [block for block in message["content"] if block["type"] == "tool_use"]
    assert all(isinstance(one["input"], dict) and one["id"] and one["name"] for one in calls)
    assert message["stop_reason"] in ("end_turn", "tool_use", "max_tokens", "refusal")
    assert (message["stop_reason"] == "tool_use") <= bool(calls)


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([], "ends before it began"),
        ([{"type": "ping"}], "ping before message_start"),
        ([{"type": "error", "error": {}}], "without type and message"),
        ([{"type": "error", "error": {"type": "a", "message": "b"}}, {"type": "ping"}], "after"),
        ([{"type": "message_start", "message": {}}], "content is empty"),
    ],
)
def test_the_checker_finds_what_is_wrong_at_the_start(events: Any, problem: str) -> None:
    assert any(problem in one for one in anthropic_grammar(events))


START: Any = {"type": "message_start", "message": {"id": "m", "content": [], "usage": {}}}
STOP: Any = {"type": "message_stop"}


def text(index: int = 0) -> Any:
    return {"type": "content_block_start", "index": index, "content_block": {"type": "text"}}


def block(kind: str, **fields: Any) -> Any:
    return {"type": "content_block_start", "index": 0, "content_block": {"type": kind} | fields}


def delta(kind: str, index: int = 0, **fields: Any) -> Any:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind} | fields}


def close(index: int = 0) -> Any:
    return {"type": "content_block_stop", "index": index}


def end(stop: str | None = "end_turn", usage: Any = None) -> Any:
    return {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": usage or {}}


USE = block("tool_use", id="t", name="read", input={})


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([START, START], "message_start came twice"),
        ([text(1)], "block 1 where 0 is next"),
        ([text(), text(1)], "another block is open"),
        ([delta("text_delta", text="a")], "without an open block"),
        ([text(), delta("thinking_delta", thinking="a")], "thinking_delta in a text block"),
        ([text(), delta("text_delta", 1, text="a")], "without an open block 1"),
        ([text(), delta("text_delta", text=None)], "is no text"),
        ([block("thinking"), close()], "without signature"),
        ([block("tool_use", id="t", name="", input={})], "needs id, name"),
        ([USE, delta("input_json_delta", partial_json='{"a'), close()], "no JSON object"),
        ([USE, delta("input_json_delta", partial_json={"a": 1})], "is no text"),
        ([text(), end()], "message_delta while a block is open"),
        ([end(), end()], "message_delta came twice"),
        ([end(), text()], "after message_delta"),
        ([end(None)], "unknown stop_reason"),
        ([end("tool_use")], "without a tool_use block"),
        ([USE, close(), end("end_turn")], "end_turn after a tool_use"),
        ([STOP], "without message_delta"),
        ([end(), STOP, STOP], "after the end"),
        ([close()], "without an open block"),
        ([{"type": "wonder"}], "unknown event"),
        ([text(), close()], "without message_stop"),
    ],
)
def test_the_checker_finds_what_is_wrong(events: Any, problem: str) -> None:
    assert any(problem in one for one in anthropic_grammar([START, *events]))


def test_the_checker_accepts_what_is_right() -> None:
    events = [
        START,
        {"type": "ping"},
        block("thinking"),
        delta("thinking_delta", thinking="hm"),
        delta("signature_delta", signature="s"),
        close(),
        text(1),
        delta("text_delta", 1, text="a"),
        close(1),
        USE | {"index": 2},
        delta("input_json_delta", 2, partial_json="{}"),
        close(2),
        end("tool_use"),
        STOP,
    ]
    assert anthropic_grammar(events) == []
    written = b"".join(
        f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events
    )
    assert anthropic_grammar(b": hello\n\n" + written) == []
    unnamed = written.replace(b"event: ping\n", b"")
    assert anthropic_grammar(unnamed) == ["event: None does not name ping"]
    assert "the last frame has no end" in anthropic_grammar(written[:-1])

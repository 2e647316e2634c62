from __future__ import annotations

import json
from typing import Any

import pytest
from chat_strategies import assembled, codes, decode, events
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentlimit.chat import anthropic
from pytest_agentlimit.chat.assemble import ReplyAssembler
from pytest_agentlimit.chat.messages import (
    ChatReply,
    Finding,
    StreamError,
    StreamEvent,
    StreamFinding,
    StreamStart,
    StreamStop,
    StreamUsage,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    WireError,
)

START = {
    "type": "message_start",
    "message": {"id": "m1", "model": "m", "usage": {"input_tokens": 5, "output_tokens": 1}},
}
STOP = {"type": "message_stop"}


def end(reason: str | None = "end_turn", **usage: int) -> dict[str, Any]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7} | usage}


def begin(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def tool(index: int, call_id: str = "a", name: str = "f") -> dict[str, Any]:
    return begin(index, type="tool_use", id=call_id, name=name, input={})


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind} | fields}


def arguments(index: int, text: Any) -> dict[str, Any]:
    return delta(index, "input_json_delta", partial_json=text)


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def test_a_normal_stream_has_no_findings() -> None:
    reply = assembled(
        anthropic,
        events(
            START,
            {"type": "ping"},
            begin(0, type="thinking", thinking="", signature=""),
            delta(0, "thinking_delta", thinking="hm"),
            delta(0, "signature_delta", signature="sig"),
            stop(0),
            begin(1, type="text", text=""),
            delta(1, "text_delta", text="hi"),
            delta(1, "citations_delta", citation={}),
            stop(1),
            tool(2),
            arguments(2, ""),
            arguments(2, '{"x"'),
            arguments(2, ":1}"),
            stop(2),
            tool(3, "b", "g"),
            arguments(3, ""),
            stop(3),
            end("tool_use"),
            STOP,
        ),
    )
    assert reply.findings == ()
    assert reply.blocks[0] == ThinkingBlock(text="hm", signature="sig")
    assert reply.text == "hi"
    assert [one.arguments for one in reply.tool_calls] == [{"x": 1}, {}]
    assert [one.raw_arguments for one in reply.tool_calls] == ['{"x":1}', "{}"]
    assert (reply.id, reply.stop_reason) == ("m1", "tool_use")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (5, 7)


def test_the_prompt_is_fresh_plus_cached_plus_written_tokens() -> None:
    usage = {"input_tokens": 1, "cache_read_input_tokens": 174, "cache_creation_input_tokens": 3}
    reply = anthropic.decode_reply(
        {"content": [], "stop_reason": "end_turn", "usage": usage | {"output_tokens": 2}}
    )
    expected = Usage(input_tokens=178, cached_tokens=174, cache_write_tokens=3, output_tokens=2)
    assert reply.usage == expected
    assert anthropic.encode_reply(reply)["usage"]["input_tokens"] == 1


def test_a_prompt_counted_only_at_the_end_is_read_there() -> None:
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 0}}}
    reply = assembled(anthropic, events(start, end(input_tokens=9), STOP))
    assert reply.usage.input_tokens == 9
    assert codes(reply) == set()


def test_a_zero_at_the_end_does_not_undo_the_count_of_the_start() -> None:
    reply = assembled(anthropic, events(START, end(input_tokens=0), STOP))
    assert reply.usage.input_tokens == 5


def test_missing_usage_is_recorded_and_not_zero() -> None:
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 0}}}
    last = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    reply = assembled(anthropic, events(start, last, STOP))
    assert codes(reply) == {"usage_missing"}
    assert reply.usage == Usage()


@pytest.mark.parametrize(
    ("word", "stop_reason"),
    [
        ("end_turn", "end_turn"),
        ("max_tokens", "max_tokens"),
        ("stop_sequence", "stop_sequence"),
        ("refusal", "refusal"),
        ("pause_turn", "pause"),
        ("model_context_window_exceeded", "context_overflow"),
    ],
)
def test_stop_reasons_both_ways(word: str, stop_reason: str) -> None:
    reply = assembled(anthropic, events(START, end(word), STOP))
    assert (reply.stop_reason, reply.raw_stop_reason) == (stop_reason, word)
    assert anthropic.encode_reply(reply)["stop_reason"] == word


def test_a_stream_without_message_stop_is_complete_when_it_gave_a_reason() -> None:
    assert codes(assembled(anthropic, events(START, end()))) == {"missing_done"}


def test_a_stream_without_a_reason_was_cut() -> None:
    stream = events(START, begin(0, type="text", text=""), delta(0, "text_delta", text="hi"))
    reply = assembled(anthropic, stream)
    assert (codes(reply), reply.verdict) == ({"cut_stream"}, "truncated")


def test_message_stop_without_a_reason_is_no_clean_end() -> None:
    reply = assembled(anthropic, events(START, end(None), STOP))
    assert (codes(reply), reply.stop_reason) == ({"missing_stop_reason"}, "unknown")


def test_end_turn_with_a_call_is_tool_use() -> None:
    reply = assembled(anthropic, events(START, tool(0), stop(0), end("end_turn"), STOP))
    assert (codes(reply), reply.stop_reason) == ({"stop_with_call"}, "tool_use")


def test_tool_use_without_a_call() -> None:
    reply = assembled(anthropic, events(START, end("tool_use"), STOP))
    assert codes(reply) == {"tool_stop_without_call"}


def test_two_open_calls_are_interleaved() -> None:
    reply = assembled(
        anthropic,
        events(
            *(START, tool(0), tool(1, "b", "g"), arguments(0, '{"x"'), arguments(1, '{"y":2}')),
            *(arguments(0, ":1}"), stop(0), stop(1), end("tool_use"), STOP),
        ),
    )
    assert codes(reply) == {"interleaved_calls"}
    assert [one.arguments for one in reply.tool_calls] == [{"x": 1}, {"y": 2}]


def test_an_index_that_comes_back_is_a_new_call() -> None:
    reply = assembled(
        anthropic,
        events(
            *(START, tool(0), arguments(0, '{"x":1}'), stop(0)),
            *(tool(0, "b", "g"), arguments(0, '{"y":2}'), stop(0), end("tool_use"), STOP),
        ),
    )
    assert codes(reply) == {"repeated_index"}
    assert [one.arguments for one in reply.tool_calls] == [{"x": 1}, {"y": 2}]


@pytest.mark.parametrize(
    "odd",
    [
        [START],
        [begin(0, type="text", text=""), delta(0, "thinking_delta", thinking=""), stop(0)],
        [delta(3, "text_delta", text="")],
        [stop(3)],
        [begin(0, type="text", text=""), begin(1, type="text", text=""), stop(0), stop(1)],
    ],
)
def test_events_out_of_order_are_tolerated_and_recorded(odd: list[dict[str, Any]]) -> None:
    assert codes(assembled(anthropic, events(START, *odd, end(), STOP))) == {"bad_grammar"}


def test_frames_without_an_event_line_are_recorded() -> None:
    stream = "".join(f"data: {json.dumps(body)}\n\n" for body in (START, end(), STOP)).encode()
    assert codes(assembled(anthropic, stream)) == {"missing_event_line"}


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ([tool(0, ""), stop(0)], "missing_call_id"),
        ([tool(0), arguments(0, {"x": 1}), stop(0)], "arguments_object"),
        ([tool(0), arguments(0, '{"x": "O'), stop(0)], "truncated_arguments"),
        ([tool(0), arguments(0, "nope"), stop(0)], "malformed_arguments"),
        ([begin(0, type="tool_use", id="a", name="f", input="{}"), stop(0)], "arguments_string"),
        ([tool(0), arguments(0, 7), stop(0)], "bad_shape"),
    ],
)
def test_calls_that_deviate(broken: list[dict[str, Any]], code: str) -> None:
    reply = assembled(anthropic, events(START, *broken, end("tool_use"), STOP))
    assert codes(reply) == {code}
    assert len(reply.tool_calls) == 1


@pytest.mark.parametrize(
    "error",
    [
        {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
        {"type": "", "error": {"type": "overloaded_error", "message": "busy"}},
    ],
)
def test_an_error_event_ends_the_stream(error: dict[str, Any]) -> None:
    found = decode(anthropic, events(START, error, end(), STOP))
    assert found[-1] == StreamError(error=WireError(kind="overloaded", message="busy"))


def test_redacted_thinking_comes_back_as_it_went() -> None:
    block = {"type": "redacted_thinking", "data": "secret"}
    body = {"content": [block], "stop_reason": "end_turn", "usage": {"output_tokens": 1}}
    reply = anthropic.decode_reply(body)
    assert reply.thinking == ""
    assert anthropic.encode_reply(reply)["content"] == [block]
    streamed = assembled(anthropic, events(START, begin(0, **block), stop(0), end(), STOP))
    assert streamed.blocks == reply.blocks


@pytest.mark.parametrize("body", [{}, {"error": {"message": "x"}}, {"content": "text"}])
def test_a_body_that_is_no_reply_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not a reply|no list of content"):
        anthropic.decode_reply(body)


# The grammar of the encoder, for any events in any order.

indexes = st.integers(0, 2)
any_event = st.one_of(
    st.sampled_from(["a", "b", ""]).map(lambda text: TextDelta(text=text)),
    st.builds(
        ThinkingDelta, text=st.sampled_from(["h", ""]), signature=st.sampled_from([None, "s"])
    ),
    st.builds(ToolCallStart, index=indexes, id=st.sampled_from(["i", "j"]), name=st.just("f")),
    st.builds(
        ToolCallDelta, index=indexes, fragment=st.sampled_from(["{", "}", '"', '{"x":1}', ""])
    ),
    st.just(StreamUsage(usage=Usage(input_tokens=3, output_tokens=4))),
    st.just(StreamFinding(finding=Finding(code="crlf"))),
    st.just(StreamStart(id="m9", model="m")),
)


def wire(found: list[StreamEvent]) -> list[dict[str, Any]]:
    encoder = anthropic.stream_encoder("m")
    sent = b"".join(encoder.feed(event) for event in found) + encoder.close()
    bodies = []
    for frame in sent.decode().split("\n\n")[:-1]:
        event_line, data_line = frame.split("\n")
        body = json.loads(data_line.removeprefix("data: "))
        assert event_line == f"event: {body['type']}"
        bodies.append(body)
    return bodies


def check_grammar(bodies: list[dict[str, Any]]) -> None:
    kinds = [body["type"] for body in bodies]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    opened: str | None = None
    signed = False
    following = 0
    for body in bodies[1:-2]:
        assert body["index"] == following
        if body["type"] == "content_block_start":
            assert opened is None
            opened, signed = body["content_block"]["type"], False
        elif body["type"] == "content_block_delta":
            allowed = {
                "text": {"text_delta"},
                "thinking": {"thinking_delta", "signature_delta"},
                "tool_use": {"input_json_delta"},
            }
            assert opened is not None
            assert body["delta"]["type"] in allowed[opened]
            assert not signed
            signed = body["delta"]["type"] == "signature_delta"
        else:
            assert body["type"] == "content_block_stop"
            assert opened is not None
            assert opened != "thinking" or signed
            opened, following = None, following + 1
    assert opened is None


@settings(max_examples=100, deadline=None)
@given(found=st.lists(any_event, max_size=14))
def test_the_encoder_keeps_the_grammar_whatever_comes(found: list[StreamEvent]) -> None:
    check_grammar(wire([*found, StreamStop(stop_reason="end_turn")]))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), count=st.integers(1, 3))
def test_interleaved_calls_arrive_whole_and_in_order(data: st.DataObject, count: int) -> None:
    raws = [json.dumps({"x": "{é]" * number, "y": [number]}) for number in range(count)]
    left = [list(raw) for raw in raws]
    found: list[StreamEvent] = [TextDelta(text="hi")]
    found += [ToolCallStart(index=n, id=f"id{n}", name="f") for n in range(count)]
    while any(left):
        index = data.draw(st.sampled_from([n for n in range(count) if left[n]]))
        size = data.draw(st.integers(1, 9))
        piece, left[index] = left[index][:size], left[index][size:]
        found.append(ToolCallDelta(index=index, fragment="".join(piece)))
    bodies = wire([*found, StreamStop(stop_reason="tool_use")])
    check_grammar(bodies)
    assembler = ReplyAssembler()
    for event in decode(anthropic, events(*bodies)):
        assembler.add(event)
    reply = assembler.reply()
    assert [one.raw_arguments for one in reply.tool_calls] == raws
    assert not codes(reply) & {"interleaved_calls", "bad_grammar", "repeated_index"}


def test_a_second_call_streams_at_once_when_the_first_is_complete() -> None:
    encoder = anthropic.stream_encoder("m")
    encoder.feed(ToolCallStart(index=0, id="a", name="f"))
    encoder.feed(ToolCallDelta(index=0, fragment='{"x":1}'))
    encoder.feed(ToolCallStart(index=1, id="b", name="g"))
    assert b'partial_json":"{' in encoder.feed(ToolCallDelta(index=1, fragment="{"))


def test_a_reply_that_was_not_completed_gets_no_end() -> None:
    bodies = [body["type"] for body in wire([TextDelta(text="hi")])]
    assert bodies == ["message_start", "content_block_start", "content_block_delta"]


def test_nothing_follows_an_error() -> None:
    error = StreamError(error=WireError(status=529, kind="overloaded", message="busy"))
    kinds = [body["type"] for body in wire([TextDelta(text="hi"), error, TextDelta(text="more")])]
    assert kinds[-1] == "error"
    assert kinds.count("content_block_delta") == 1


def test_thinking_without_a_signature_is_sent_with_one_and_comes_back_without() -> None:
    reply = ChatReply(blocks=(ThinkingBlock(text="hm"), ToolCall(id="a", name="f")))
    sent = anthropic.encode_reply(reply)
    assert sent["content"][0]["signature"]
    assert anthropic.decode_reply(sent).blocks == reply.blocks

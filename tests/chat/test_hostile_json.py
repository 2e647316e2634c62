from __future__ import annotations

import json
from typing import Any

import pytest
from chat_strategies import assembled, codes, events, lines, sse
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentlimit.chat import anthropic, findings, jsontext, ollama, openai
from pytest_agentlimit.chat.jsontext import MAX_DEPTH, Nesting
from pytest_agentlimit.chat.messages import ChatReply, ToolCall

LONE = "a\ud800b"


def openai_reply(message: Any) -> ChatReply:
    return openai.decode_reply({"choices": [{"message": message, "finish_reason": "stop"}]})


def test_lone_surrogates_are_replaced_and_recorded_in_every_dialect() -> None:
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    delta = {"type": "text_delta", "text": LONE}
    replies = [
        openai_reply({"content": LONE}),
        assembled(
            openai, sse({"choices": [{"delta": {"content": LONE}, "finish_reason": "stop"}]})
        ),
        anthropic.decode_reply({"content": [{"type": "text", "text": LONE}]}),
        assembled(
            anthropic, events({"type": "content_block_delta", "index": 0, "delta": delta}, stop)
        ),
        ollama.decode_reply({"message": {"content": LONE}}),
        assembled(ollama, lines({"message": {"content": LONE}, "done": True})),
    ]
    for reply in replies:
        assert reply.text == "a\ufffdb"
        assert "lone_surrogate" in codes(reply)
        json.dumps(reply.model_dump(mode="json"), ensure_ascii=False).encode()


def test_lone_surrogates_escaped_inside_arguments_are_replaced_when_they_are_read() -> None:
    function = {"name": "f", "arguments": '{"x": "a\\ud800b", "\\udc00": 1}'}
    reply = openai_reply({"tool_calls": [{"id": "a", "function": function}]})
    assert "lone_surrogate" in codes(reply)
    assert reply.tool_calls[0].arguments == {"x": "a\ufffdb", "\ufffd": 1}


def test_a_surrogate_pair_is_a_character() -> None:
    call = ToolCall(id="a", name="f", raw_arguments='{"x": "\\ud83d\\ude00"}')
    assert call.arguments == {"x": "\U0001f600"}


def test_a_lone_surrogate_goes_out_as_its_escape() -> None:
    assert json.loads(jsontext.wire({"x": LONE})) == {"x": LONE}


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 100_000])
def test_frames_nested_too_deeply_are_bad_frames(depth: int) -> None:
    deep = '{"choices":' + "[" * depth + "]" * depth + "}"
    stream = sse(deep, {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]})
    reply = assembled(openai, stream)
    assert "bad_frame" in codes(reply)
    assert reply.text == "hi"


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 100_000])
def test_arguments_nested_too_deeply_cannot_be_read_and_do_no_harm(depth: int) -> None:
    raw = '{"x":' * depth + "1" + "}" * depth
    reply = openai_reply({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": raw}}]})
    assert "malformed_arguments" in codes(reply)
    assert reply.tool_calls[0].arguments == {}
    assert "deep" in str(reply.tool_calls[0].parse_error)


def test_a_whole_body_nested_too_deeply_is_no_reply() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    for codec, body in (
        (openai, {"choices": [], "x": deep}),
        (anthropic, {"content": [deep]}),
        (ollama, {"message": {"content": "", "x": deep}}),
    ):
        with pytest.raises(ValueError, match="nested deeper"):
            codec.decode_reply(body)


def test_huge_numbers_are_no_counts() -> None:
    usage = {"prompt_tokens": 10**400, "completion_tokens": 1e300}
    reply = openai.decode_reply(
        {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": usage}
    )
    assert {"bad_shape", "usage_missing"} <= codes(reply)
    function = {"name": "f", "arguments": '{"x": ' + "9" * 10_000 + "}"}
    reply = openai_reply({"tool_calls": [{"id": "a", "function": function}]})
    assert reply.tool_calls[0].parse_error is not None


@pytest.mark.parametrize("raw", ['{"x": NaN}', '{"x": Infinity}', '{"x": -Infinity}'])
def test_numbers_json_does_not_have_are_refused_in_arguments(raw: str) -> None:
    assert "is not JSON" in str(ToolCall(id="a", name="f", raw_arguments=raw).parse_error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(
    value=st.lists(json_values) | st.dictionaries(st.text(max_size=4), json_values), data=st.data()
)
def test_nesting_finds_the_end_of_a_value_in_any_pieces(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    nesting = Nesting()
    cut = data.draw(st.integers(0, len(text) - 1))
    assert nesting.feed(text[:cut]) is None
    assert not nesting.complete
    assert nesting.feed(text[cut:] + " and more {") == len(text) - cut


@settings(max_examples=100, deadline=None)
@given(value=json_values)
def test_parsing_agrees_with_the_standard_library(value: Any) -> None:
    text = json.dumps(value)
    assert jsontext.parse(text, strict=True) == (json.loads(text), False)


PIECES = [
    *('{"a":', "[", "{", "}", "]", ",", ":", " ", "\n", '"b"', '"\\n"', '"\\/"', '"\t"', '"\x7f"'),
    *('"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\x"', '"é"', "'c'", "\ufeff", "nul", "null"),
    *("true", "True", "1", "-0", "-", "01", "1.", ".5", "1.5", "1e5", "1E-7", "1e999", "0x1", "٣"),
    *("NaN", "Infinity", "-Infinity", "nan", "inf", "1" * 400, "1" * 5000, "1_0", "0.1", "//"),
]


@settings(max_examples=300, deadline=None)
@given(text=st.lists(st.sampled_from(PIECES), max_size=6).map("".join), strict=st.booleans())
def test_what_parses_is_what_the_standard_library_parses(text: str, strict: bool) -> None:
    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        wanted = json.loads(text, parse_constant=refuse if strict else None)
    except ValueError:
        with pytest.raises(ValueError, match="."):
            jsontext.parse(text, strict=strict)
        return
    value, replaced = jsontext.parse(text, strict=strict)
    assert replaced == ("\ud800" in repr(wanted) or "\\ud800" in repr(wanted))
    assert repr(value) == repr(wanted).replace("\\ud800", "\ufffd")


@settings(max_examples=100, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(LONE),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_what_goes_out_can_be_read_back(value: Any) -> None:
    assert repr(json.loads(jsontext.wire(value))) == repr(value)


def test_every_code_has_a_meaning_and_the_table_has_no_other() -> None:
    assert set(findings.MEANING) == findings.CODES

from __future__ import annotations

import pytest
from chat_strategies import DIALECTS, chunked, decode
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentlimit.chat import framing
from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.framing import Frame, Framer, NDJSONFramer, SSEFramer
from pytest_agentlimit.chat.messages import Finding

# Bytes that look enough like a stream to reach every branch of the framers and decoders.
pieces = st.sampled_from(
    [
        *(b"data: ", b"data:", b"event: x", b"event: message_start", b": c", b"\n", b"\r", b"\r\n"),
        *(b"\n\n", b"[DONE]", b"{}", b"[]", b'"', b"null", b"1e999", b"\xff", b"\xc3", b"\xa9"),
        *(b'{"choices":[{"delta":{"content":"<think>a"}}]}', b'{"choices":[]}', b"\xef\xbb\xbf"),
        b'{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]}}]}',
        *(b'{"choices":{"a":1}}', b'{"choices":[{"delta":[],"finish_reason":7}],"usage":[]}'),
        *(b'{"type":"content_block_start","index":"0","content_block":{"type":"tool_use"}}',),
        *(b'{"type":"content_block_delta","delta":{"type":"text_delta","text":[]}}',),
        *(
            b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":-1}}',
        ),
        *(b'{"message":{"tool_calls":[1,{"function":{"arguments":[]}}]}}', b'{"error":[]}'),
        *(b'{"done":true,"done_reason":7}', b'{"error":{"message":7}}', b'{"error":"x"}'),
    ]
) | st.binary(max_size=6)
streams = st.lists(pieces, max_size=12).map(b"".join)


def frames(framer: Framer, *chunks: bytes) -> list[Frame | Finding]:
    found = [frame for chunk in chunks for frame in framer.feed(chunk)]
    return found + framer.close()


def data(found: list[Frame | Finding]) -> list[str]:
    return [frame.data for frame in found if isinstance(frame, Frame)]


def codes(found: list[Frame | Finding]) -> set[str]:
    return {frame.code for frame in found if isinstance(frame, Finding)}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_end_in_a_blank_line_of_any_kind(end: str) -> None:
    stream = end.join(["data: a", "", "data: b", "", ""]).encode()
    found = frames(SSEFramer(), stream)
    assert data(found) == ["a", "b"]
    assert codes(found) == (set() if end == "\n" else {"crlf"})


def test_a_crlf_cut_between_two_chunks_is_one_line_end() -> None:
    assert data(frames(SSEFramer(), b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n")) == ["a\nb"]


def test_data_lines_are_joined_and_the_event_is_named() -> None:
    found = frames(SSEFramer(), b"event: x\ndata: a\ndata:b\nid: 1\nretry: 2\n\n")
    assert found == [Frame(data="a\nb", event="x")]


def test_comments_are_passed_over_and_recorded() -> None:
    found = frames(SSEFramer(), b": ping\n\ndata: a\n\n")
    assert data(found) == ["a"]
    assert codes(found) == {"sse_comment"}


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert frames(SSEFramer(), b"\xef\xbb", b"\xbfdata: a\n\n") == [Frame(data="a")]
    assert frames(NDJSONFramer(), b"\xef\xbb\xbf{}\n") == [Frame(data="{}")]


def test_a_character_cut_between_two_chunks_is_whole() -> None:
    assert frames(SSEFramer(), b"data: \xc3", b"\xa9\n\n") == [Frame(data="é")]


def test_bytes_that_are_not_utf8_are_replaced_and_recorded() -> None:
    found = frames(NDJSONFramer(), b"a\xffb\n")
    assert data(found) == ["a\ufffdb"]
    assert codes(found) == {"invalid_utf8"}


def test_a_last_frame_without_an_end_is_marked() -> None:
    assert frames(SSEFramer(), b"data: a") == [Frame(data="a", complete=False)]
    assert frames(NDJSONFramer(), b"{}") == [Frame(data="{}", complete=False)]


def test_a_line_that_is_no_field_is_recorded() -> None:
    assert codes(frames(SSEFramer(), b"<html>\n\n")) == {"bad_frame"}


def test_blank_lines_between_json_lines_are_passed_over() -> None:
    assert data(frames(NDJSONFramer(), b"{}\n\n \n[]\n")) == ["{}", "[]"]


@pytest.mark.parametrize("framer", [SSEFramer, NDJSONFramer])
def test_a_frame_over_the_limit_is_dropped_and_the_next_one_is_read(
    framer: type[Framer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "MAX_FRAME", 100)
    under_test = framer()
    found = [item for _ in range(50) for item in under_test.feed(b"data: " + b"x" * 20)]
    found += under_test.feed(b"\n\ndata: a\n\n") + under_test.close()
    assert codes(found) == {"frame_too_large"}
    assert [text.removeprefix("data: ") for text in data(found)] == ["a"]


def test_many_data_lines_of_one_event_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_FRAME", 100)
    found = frames(SSEFramer(), b"data: xxxxxxxxxxxxxxxxxxxx\n" * 9, b"\ndata: a\n\n")
    assert data(found) == ["a"]
    assert codes(found) == {"frame_too_large"}


@settings(max_examples=100, deadline=None)
@given(stream=streams, cuts=st.lists(st.integers(0, 200), max_size=10))
def test_frames_do_not_depend_on_how_the_bytes_arrive(stream: bytes, cuts: list[int]) -> None:
    for framer in (SSEFramer, NDJSONFramer):
        whole = frames(framer(), stream)
        assert frames(framer(), *chunked(stream, cuts)) == whole
        assert frames(framer(), *chunked(stream, range(len(stream)))) == whole


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=100, deadline=None)
@given(stream=streams)
def test_a_decoder_takes_any_bytes_in_any_pieces(dialect: str, stream: bytes) -> None:
    codec = codec_for(dialect)
    assert decode(codec, stream, range(len(stream))) == decode(codec, stream)

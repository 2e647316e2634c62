from __future__ import annotations

from typing import Any

import pytest
from chat_strategies import assembled, codes, decode, lines

from pytest_agentlimit.chat import ollama
from pytest_agentlimit.chat.messages import StreamError, WireError


def line(content: str = "", **message: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": content} | message}


def last(reason: str | None = "stop", **others: Any) -> dict[str, Any]:
    counts = {"prompt_eval_count": 3, "eval_count": 2}
    return line() | counts | {"done": True, "done_reason": reason} | others


def call(arguments: Any, **others: Any) -> dict[str, Any]:
    return {"function": {"index": 0, "name": "f", "arguments": arguments}} | others


def test_a_normal_stream_has_no_findings_though_ids_are_missing_and_the_reason_is_stop() -> None:
    stream = lines(
        line(thinking="hm"),
        line("hi"),
        line(tool_calls=[call({"x": 1})]),
        line(tool_calls=[call({})]),
        last(),
    )
    reply = assembled(ollama, stream)
    assert reply.findings == ()
    assert (reply.thinking, reply.text) == ("hm", "hi")
    assert [(one.id, one.arguments) for one in reply.tool_calls] == [
        ("call_0", {"x": 1}),
        ("call_1", {}),
    ]
    assert (reply.stop_reason, reply.raw_stop_reason) == ("tool_use", "stop")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (3, 2)


def test_the_servers_clocks_are_nanoseconds_on_the_wire_and_seconds_here() -> None:
    clocks = {
        "load_duration": 2_000_000_000,
        "prompt_eval_duration": 500_000_000,
        "eval_duration": 1_000_000_000,
        "total_duration": 3_500_000_000,
    }
    server = assembled(ollama, lines(last(**clocks))).timing.server
    assert server is not None
    assert (server.load_s, server.prompt_s, server.predicted_s, server.total_s) == (2, 0.5, 1, 3.5)


def test_length_is_truncation() -> None:
    reply = assembled(ollama, lines(line("hi"), last("length")))
    assert (reply.stop_reason, reply.verdict) == ("max_tokens", "truncated")


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (lines(line("hi")), {"cut_stream"}),
        (lines(line("hi"), last() | {"done": False}), {"missing_done"}),
        (lines(line("hi"), last(None)), {"missing_stop_reason"}),
        (lines(line("hi"), last("unload")), {"unknown_stop_reason"}),
        (lines(line("hi"), line() | {"done": True, "done_reason": "stop"}), {"usage_missing"}),
        (lines(line("<think>a</think>hi"), last()), {"think_tags"}),
        (lines(line("hi", tool_calls=None), last()), {"null_tool_calls"}),
        (lines(line("hi", tool_calls=["f"]), last()), {"bad_shape"}),
        (lines(line("hi", tool_calls=[call('{"x":1}')]), last()), {"arguments_string"}),
        (
            lines(line("hi", tool_calls=[call('{"x":')]), last()),
            {"arguments_string", "truncated_arguments"},
        ),
        (lines(line("hi", tool_calls=[call([1])]), last()), {"malformed_arguments"}),
        (b"<html>\n" + lines(line("hi"), last()), {"bad_frame"}),
        (lines(line("hi"), last()).replace(b"\n", b"\r\n"), {"crlf"}),
        (lines(line("hi"), last(eval_count="2")), {"bad_shape"}),
        (b"data: [DONE]\n" + lines(line("hi"), last()), {"bad_frame"}),
    ],
)
def test_deviations_are_tolerated_and_recorded(stream: bytes, expected: set[str]) -> None:
    reply = assembled(ollama, stream)
    assert codes(reply) == expected
    assert reply.text == "hi"


def test_an_error_line_ends_the_stream() -> None:
    found = decode(ollama, lines(line("hi"), {"error": "model runner has stopped"}, last()))
    error = WireError(kind="server_error", message="model runner has stopped")
    assert found[-1] == StreamError(error=error)


@pytest.mark.parametrize("body", [{}, {"error": "x"}, {"response": "generate, not chat"}])
def test_a_body_that_is_no_reply_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not a reply|no message"):
        ollama.decode_reply(body)


def test_the_encoder_sends_whole_calls_before_the_last_line_and_no_end_for_a_cut_reply() -> None:
    found = decode(ollama, lines(line(tool_calls=[call({"x": 1})]), last()))
    encoder = ollama.stream_encoder("m")
    sent = [encoder.feed(event) for event in found]
    assert b"tool_calls" in b"".join(sent)
    assert b'"done":true' in encoder.close()
    cut = ollama.stream_encoder("m")
    cut.feed(found[0])
    assert cut.close() == b""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_strategies import assembled, codes, decode, sse

from pytest_agentlimit.chat import openai
from pytest_agentlimit.chat.messages import ChatReply, StreamError, StreamStop

USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


def chunk(delta: Any = None, finish: str | None = None, **others: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "c1", "model": "m", "choices": [choice]} | others


def counted() -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [], "usage": USAGE}


def call(
    index: Any = 0, call_id: str | None = None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    given = {"id": call_id, "index": index}
    function = {"name": name, "arguments": arguments}
    entry = {key: value for key, value in given.items() if value is not None}
    return entry | {
        "function": {key: value for key, value in function.items() if value is not None}
    }


def streamed_calls(*entries: dict[str, Any], finish: str = "tool_calls") -> ChatReply:
    deltas = [chunk({"tool_calls": [entry]}) for entry in entries]
    return assembled(openai, sse(*deltas, chunk(finish=finish), counted()))


def whole(message: dict[str, Any], finish: str | None = "stop", **others: Any) -> ChatReply:
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}
    return openai.decode_reply({"id": "c1", "choices": [choice], "usage": USAGE} | others)


def test_a_normal_stream_has_no_findings() -> None:
    reply = assembled(
        openai,
        sse(
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "Hel"}),
            chunk({"content": "lo"}),
            chunk({"tool_calls": [call(0, "a", "f", "")]}),
            chunk({"tool_calls": [call(0, arguments='{"x"')]}),
            chunk({"tool_calls": [call(0, arguments=":1}")]}),
            chunk(finish="tool_calls"),
            counted(),
        ),
    )
    assert reply.findings == ()
    assert reply.text == "Hello"
    assert reply.tool_calls[0].arguments == {"x": 1}
    assert (reply.stop_reason, reply.raw_stop_reason) == ("tool_use", "tool_calls")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (3, 2)


def test_arguments_as_an_object() -> None:
    entry = call(0, "a", "f", {"x": 1})
    for reply in (streamed_calls(entry), whole({"tool_calls": [entry]}, "tool_calls")):
        assert codes(reply) == {"arguments_object"}
        assert reply.tool_calls[0].arguments == {"x": 1}


def test_empty_arguments_become_an_empty_object() -> None:
    entry = call(0, "a", "f", "")
    for reply in (streamed_calls(entry), whole({"tool_calls": [entry]}, "tool_calls")):
        assert codes(reply) == {"arguments_empty"}
        assert reply.tool_calls[0].raw_arguments == "{}"


def test_a_missing_id_is_invented() -> None:
    entry = call(0, None, "f", "{}")
    for reply in (streamed_calls(entry), whole({"tool_calls": [entry]}, "tool_calls")):
        assert codes(reply) == {"missing_call_id"}
        assert reply.tool_calls[0].id == "call_0"


def test_the_same_index_with_a_new_id_is_a_new_call() -> None:
    reply = streamed_calls(call(0, "a", "f", '{"x":1}'), call(0, "b", "f", '{"x":2}'))
    assert codes(reply) == {"repeated_index"}
    assert [one.arguments["x"] for one in reply.tool_calls] == [1, 2]
    assert [one.id for one in reply.tool_calls] == ["a", "b"]


def test_the_same_index_without_ids_is_a_new_call_once_the_first_is_complete() -> None:
    reply = streamed_calls(call(0, None, "f", '{"x":1}'), call(0, None, "f", '{"x":2}'))
    assert codes(reply) == {"repeated_index", "missing_call_id"}
    assert [one.arguments["x"] for one in reply.tool_calls] == [1, 2]


def test_a_name_repeated_on_every_fragment_is_one_call() -> None:
    reply = streamed_calls(call(0, "a", "f", '{"x"'), call(0, "a", "f", ":1}"))
    assert [one.arguments for one in reply.tool_calls] == [{"x": 1}]
    assert reply.tool_calls[0].name == "f"


def test_interleaved_fragments_go_to_their_calls() -> None:
    reply = streamed_calls(
        call(0, "a", "f", '{"x"'),
        call(1, "b", "g", '{"y"'),
        call(0, arguments=":1}"),
        call(1, arguments=":2}"),
    )
    assert codes(reply) == {"interleaved_calls"}
    assert [one.arguments for one in reply.tool_calls] == [{"x": 1}, {"y": 2}]


def test_a_call_without_an_index_continues_the_last_one() -> None:
    reply = streamed_calls(call(None, "a", "f", '{"x"'), call(None, arguments=":1}"))
    assert codes(reply) == {"bad_shape"}
    assert reply.tool_calls[0].arguments == {"x": 1}


def test_a_name_that_comes_after_the_arguments_is_waited_for() -> None:
    reply = streamed_calls(call(0, "a", None, '{"x":1}'), call(0, None, "f"))
    assert [(one.name, one.arguments) for one in reply.tool_calls] == [("f", {"x": 1})]


@pytest.mark.parametrize("nothing", [None, []])
def test_tool_calls_that_hold_nothing(nothing: list[Any] | None) -> None:
    streamed = sse(chunk({"content": "hi", "tool_calls": nothing}), chunk(finish="stop"), counted())
    for reply in (assembled(openai, streamed), whole({"content": "hi", "tool_calls": nothing})):
        assert codes(reply) == {"null_tool_calls"}
        assert reply.text == "hi"


def test_empty_choices_that_are_not_the_usage_chunk() -> None:
    stream = sse({"id": "c1", "choices": []}, chunk({"content": "hi"}, "stop"), counted())
    assert codes(assembled(openai, stream)) == {"empty_choices"}
    assert codes(openai.decode_reply({"choices": []})) >= {"empty_choices", "usage_missing"}


def test_usage_that_is_missing_or_in_the_last_chunk() -> None:
    assert codes(assembled(openai, sse(chunk({"content": "hi"}, "stop")))) == {"usage_missing"}
    in_last = assembled(openai, sse(chunk({"content": "hi"}, "stop", usage=USAGE)))
    assert in_last.findings == ()
    assert in_last.usage.input_tokens == 3


def test_cached_and_reasoning_tokens_are_read() -> None:
    usage = USAGE | {
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    reply = whole({"content": "hi"}, usage=usage)
    assert (reply.usage.cached_tokens, reply.usage.reasoning_tokens) == (1, 2)


def test_the_clocks_of_llama_cpp_are_read() -> None:
    timings = {"cache_n": 174, "prompt_ms": 20.5, "predicted_ms": 1000, "predicted_per_second": 9.5}
    reply = whole({"content": "hi"}, timings=timings)
    assert reply.usage.cached_tokens == 174
    server = reply.timing.server
    assert server is not None
    assert (server.prompt_s, server.predicted_s) == (0.0205, 1.0)


def test_no_done_after_a_finish_reason_is_complete() -> None:
    reply = assembled(openai, sse(chunk({"content": "hi"}, "stop"), counted(), done=False))
    assert codes(reply) == {"missing_done"}
    assert reply.stop_reason == "end_turn"


def test_no_finish_reason_is_not_a_clean_end() -> None:
    reply = assembled(openai, sse(chunk({"content": "hi"}), counted()))
    assert codes(reply) == {"missing_stop_reason"}
    assert reply.stop_reason == "unknown"
    assert codes(whole({"content": "hi"}, None)) == {"missing_stop_reason"}


def test_a_stream_that_ends_without_either_was_cut() -> None:
    stream = sse(chunk({"content": "hi"}), done=False)
    reply = assembled(openai, stream)
    assert codes(reply) == {"cut_stream"}
    assert (reply.verdict, reply.text) == ("truncated", "hi")
    assert not any(isinstance(event, StreamStop) for event in decode(openai, stream))


def test_a_stream_cut_inside_a_frame_was_cut() -> None:
    stream = sse(chunk({"content": "hi"}), chunk({"content": "there"}), done=False)
    assert codes(assembled(openai, stream[:-20])) == {"cut_stream"}


def test_a_stream_of_nothing_was_cut() -> None:
    assert codes(assembled(openai, b"")) == {"cut_stream"}


def test_crlf_and_comments_are_recorded_once() -> None:
    stream = b": hello\n\n: again\n\n" + sse(chunk({"content": "hi"}, "stop"), counted())
    reply = assembled(openai, stream.replace(b"\n", b"\r\n"))
    assert [finding.code for finding in reply.findings] == ["crlf", "sse_comment"]
    assert reply.text == "hi"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_both_names_of_the_reasoning_field_are_normal(field: str) -> None:
    stream = sse(chunk({field: "hm"}), chunk({"content": "<think>"}, "stop"), counted())
    for reply in (assembled(openai, stream), whole({field: "hm", "content": "<think>"})):
        assert reply.findings == ()
        assert (reply.thinking, reply.text) == ("hm", "<think>")


@pytest.mark.parametrize("size", [1, 3, 100])
def test_think_tags_become_thinking(size: int) -> None:
    content = "\n<think>\nhm </thi\n</think>\n\nanswer <think>"
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    stream = sse(*(chunk({"content": part}) for part in parts), chunk(finish="stop"), counted())
    for reply in (assembled(openai, stream), whole({"content": content})):
        assert codes(reply) == {"think_tags"}
        assert (reply.thinking, reply.text) == ("\nhm </thi\n", "answer <think>")


def test_a_think_tag_that_is_never_closed_leaves_no_text() -> None:
    reply = assembled(openai, sse(chunk({"content": "<think>hm </th"}, "length"), counted()))
    assert (reply.thinking, reply.text, reply.verdict) == ("hm </th", "", "truncated")


@pytest.mark.parametrize("content", ["<thin", " <", "  ", "<b>x</b>", " " * 90 + "<think>"])
def test_text_that_only_begins_like_a_tag_is_text(content: str) -> None:
    reply = assembled(
        openai, sse(*(chunk({"content": one}) for one in content), chunk(finish="stop"), counted())
    )
    assert (reply.text, reply.findings) == (content, ())


def test_an_error_object_in_a_stream() -> None:
    error = {"error": {"message": "out of memory\x1b[31m", "type": "server_error", "code": 500}}
    found = decode(openai, sse(chunk({"content": "hi"}), error, done=False))
    last = found[-1]
    assert isinstance(last, StreamError)
    assert (last.error.kind, last.error.status) == ("server_error", 500)
    assert last.error.message == "out of memory\\x1b[31m"


def test_arguments_that_break_off_are_truncation_whatever_the_finish_reason() -> None:
    for broken in ('{"x": "Os', '{"x": tru', "{"):
        reply = streamed_calls(call(0, "a", "f", broken))
        assert codes(reply) == {"truncated_arguments"}
        assert reply.verdict == "truncated"
        assert reply.tool_calls[0].parse_error


@pytest.mark.parametrize("odd", ["[1]", "not json", "{'x': 1}", '{"x": NaN}', '"x"'])
def test_arguments_that_are_complete_and_wrong_are_the_models_and_no_truncation(odd: str) -> None:
    reply = streamed_calls(call(0, "a", "f", odd))
    assert [(one.code, one.blame) for one in reply.findings] == [("malformed_arguments", "model")]
    assert reply.verdict == "call"


def test_a_plain_finish_with_a_call_is_tool_use() -> None:
    reply = streamed_calls(call(0, "a", "f", "{}"), finish="stop")
    assert codes(reply) == {"stop_with_call"}
    assert (reply.stop_reason, reply.raw_stop_reason) == ("tool_use", "stop")


def test_a_finish_for_tools_without_a_call() -> None:
    assert codes(whole({"content": ""}, "tool_calls")) == {"tool_stop_without_call"}


def test_a_length_finish_with_a_call_stays_truncated() -> None:
    reply = streamed_calls(call(0, "a", "f", "{}"), finish="length")
    assert (reply.stop_reason, reply.verdict) == ("max_tokens", "truncated")


def test_an_unknown_finish_reason_is_kept_raw() -> None:
    reply = whole({"content": "hi"}, "because")
    assert codes(reply) == {"unknown_stop_reason"}
    assert (reply.stop_reason, reply.raw_stop_reason) == ("unknown", "because")


def test_a_refusal_is_text_and_a_stop_reason() -> None:
    reply = whole({"content": None, "refusal": "I will not"})
    assert (reply.text, reply.stop_reason) == ("I will not", "refusal")


def test_frames_that_are_not_json_are_passed_over() -> None:
    reply = assembled(openai, sse("what?", chunk({"content": "hi"}, "stop"), "[1]", counted()))
    assert codes(reply) == {"bad_frame"}
    assert reply.text == "hi"


@pytest.mark.parametrize(
    "body",
    [
        chunk({"content": 7}),
        chunk({"tool_calls": {"a": 1}}),
        chunk({"tool_calls": ["f"]}),
        chunk([1]),
        {"choices": ["x"]},
        {"choices": [{"delta": {}}], "usage": {"prompt_tokens": "many"}},
        {"choices": [{"delta": {}}], "usage": {"prompt_tokens": True}},
        {"choices": [{"delta": {}}], "timings": {"prompt_ms": float("nan")}},
        {"choices": [{"delta": {}}], "id": 7},
    ],
)
def test_wrong_types_are_tolerated_and_recorded(body: dict[str, Any]) -> None:
    reply = assembled(openai, sse(body, chunk({"content": "hi"}, "stop"), counted()))
    assert codes(reply) == {"bad_shape"}
    assert (reply.text, reply.usage.input_tokens) == ("hi", 3)


def test_content_as_a_list_of_parts_is_joined() -> None:
    reply = whole({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})
    assert (reply.text, codes(reply)) == ("ab", {"bad_shape"})


def test_nothing_after_done_counts() -> None:
    stream = sse(chunk({"content": "hi"}, "stop"), counted()) + sse(chunk({"content": "more"}))
    assert assembled(openai, stream).text == "hi"


@pytest.mark.parametrize(
    "body", [{}, {"error": {"message": "x"}}, {"choices": 7}, {"choices": [], "error": "x"}]
)
def test_a_body_that_is_no_reply_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not a reply|no list of choices"):
        openai.decode_reply(body)


def test_the_stream_encoder_never_completes_a_reply_that_was_not_complete() -> None:
    for event in decode(openai, sse(chunk({"content": "hi"}), done=False)):
        encoder = openai.stream_encoder()
        sent = encoder.feed(event) + encoder.close()
        assert b"[DONE]" not in sent
        assert b'"finish_reason":"' not in sent


def test_an_error_survives_the_stream() -> None:
    event = StreamError(error=openai.decode_error(503, "busy"))
    encoder = openai.stream_encoder()
    assert decode(openai, encoder.feed(event) + encoder.close()) == [event]


def test_whole_bodies_are_json() -> None:
    json.dumps(openai.encode_reply(ChatReply()))

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from bridge_kit import (
    TOOL,
    Stage,
    called,
    chunk,
    entry,
    events_of,
    message_of,
    raw,
    stream,
    whole,
)

from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.testing import Scripted, anthropic_grammar, http_error

TEXT = ("text", "Hello wörld")
A = ("read", {"path": "a.txt"})
B = ("read", {"path": "b.txt"})
ARGS_A, ARGS_B = '{"path":"a.txt"}', '{"path":"b.txt"}'
CALL = {"id": "c9", "type": "function", "function": {"name": "read", "arguments": ARGS_A}}
SAID = chunk({"content": "Hello wörld"})
LEAK = '<tool_call>{"name": "read", "arguments": {"path": "a.txt"}}</tool_call>'


class Told(NamedTuple):
    """What a client must be told: its blocks, why the reply ended, or an error."""

    blocks: Sequence[tuple[Any, ...]] = ()
    stop: str | None = None
    error: str | None = None


ONE = [called(entry(0, "c9", "read", "")), called(entry(0, None, None, ARGS_A))]

# name, streamed, whole, what either must become
QUIRKS: list[tuple[str, Scripted | None, Scripted | None, Told]] = [
    (
        "ok text",
        stream(SAID, chunk(finish="stop")),
        whole({"content": "Hello wörld"}),
        Told([TEXT], "end_turn"),
    ),
    (
        "ok tool",
        stream(*ONE, chunk(finish="tool_calls")),
        whole({"content": None, "tool_calls": [CALL]}, "tool_calls"),
        Told([A], "tool_use"),
    ),
    (
        "text, then tool",
        stream(SAID, *ONE, chunk(finish="tool_calls")),
        whole({"content": "Hello wörld", "tool_calls": [CALL]}, "tool_calls"),
        Told([TEXT, A], "tool_use"),
    ),
    (
        "parallel, in order",
        stream(
            called(entry(0, "x", "read", ARGS_A)),
            called(entry(1, "y", "read", ARGS_B)),
            chunk(finish="tool_calls"),
        ),
        whole(
            {
                "content": None,
                "tool_calls": [entry(0, "x", "read", ARGS_A), entry(1, "y", "read", ARGS_B)],
            },
            "tool_calls",
        ),
        Told([A, B], "tool_use"),
    ),
    (
        "parallel, interleaved fragments",
        stream(
            called(entry(0, "x", "read", '{"path":')),
            called(entry(1, "y", "read", '{"path":')),
            called(entry(0, None, None, '"a.txt"}')),
            called(entry(1, None, None, '"b.txt"}')),
            chunk(finish="tool_calls"),
        ),
        None,
        Told([A, B], "tool_use"),
    ),
    (
        "parallel, interleaved, the second complete first",
        stream(
            called(entry(0, "x", "read", '{"path":')),
            called(entry(1, "y", "read", ARGS_B)),
            called(entry(0, None, None, '"a.txt"}')),
            chunk(finish="tool_calls"),
        ),
        None,
        Told([A, B], "tool_use"),
    ),
    (
        "parallel, all at index 0",
        stream(
            called(entry(0, "x", "read", ARGS_A)),
            called(entry(0, "y", "read", ARGS_B)),
            chunk(finish="tool_calls"),
        ),
        whole(
            {"tool_calls": [entry(0, "x", "read", ARGS_A), entry(0, "y", "read", ARGS_B)]},
            "tool_calls",
        ),
        Told([A, B], "tool_use"),
    ),
    (
        "no tool id",
        stream(called(entry(0, None, "read", ARGS_A)), chunk(finish="tool_calls")),
        whole({"tool_calls": [entry(0, None, "read", ARGS_A)]}, "tool_calls"),
        Told([A], "tool_use"),
    ),
    (
        "arguments as an object",
        stream(called(entry(0, "x", "read", {"path": "a.txt"})), chunk(finish="tool_calls")),
        whole({"tool_calls": [entry(0, "x", "read", {"path": "a.txt"})]}, "tool_calls"),
        Told([A], "tool_use"),
    ),
    (
        "empty arguments",
        stream(called(entry(0, "x", "read", "")), chunk(finish="tool_calls")),
        whole({"tool_calls": [entry(0, "x", "read", "")]}, "tool_calls"),
        Told([("read", {})], "tool_use"),
    ),
    (
        "truncated arguments, finish length",
        stream(SAID, called(entry(0, "x", "read", '{"path": "a')), chunk(finish="length")),
        whole(
            {"content": "Hello wörld", "tool_calls": [entry(0, "x", "read", '{"path": "a')]},
            "length",
        ),
        Told([TEXT], "max_tokens"),
    ),
    (
        "truncated arguments, finish tool_calls",
        stream(called(entry(0, "x", "read", '{"path": "a')), chunk(finish="tool_calls")),
        whole({"tool_calls": [entry(0, "x", "read", '{"path": "a')]}, "tool_calls"),
        Told([], "max_tokens"),
    ),
    (
        "one call whole, the next truncated",
        stream(
            called(entry(0, "x", "read", ARGS_A)),
            called(entry(1, "y", "read", '{"pa')),
            chunk(finish="tool_calls"),
        ),
        whole(
            {"tool_calls": [entry(0, "x", "read", ARGS_A), entry(1, "y", "read", '{"pa')]},
            "tool_calls",
        ),
        Told([A], "max_tokens"),
    ),
    (
        "arguments that are no JSON",
        stream(called(entry(0, "x", "read", "{'path': 1}")), chunk(finish="tool_calls")),
        whole({"tool_calls": [entry(0, "x", "read", "{'path': 1}")]}, "tool_calls"),
        Told(error="api_error"),
    ),
    (
        "something after the arguments",
        stream(
            called(entry(0, "x", "read", ARGS_A)),
            called(entry(0, None, None, "}")),
            chunk(finish="tool_calls"),
        ),
        whole({"tool_calls": [entry(0, "x", "read", ARGS_A + "}")]}, "tool_calls"),
        Told([A], error="api_error"),
    ),
    (
        "finish stop with a call",
        stream(*ONE, chunk(finish="stop")),
        whole({"tool_calls": [CALL]}, "stop"),
        Told([A], "tool_use"),
    ),
    (
        "finish length with a whole call",
        stream(*ONE, chunk(finish="length")),
        whole({"tool_calls": [CALL]}, "length"),
        Told([A], "tool_use"),
    ),
    (
        "finish tool_calls without a call",
        stream(SAID, chunk(finish="tool_calls")),
        whole({"content": "Hello wörld"}, "tool_calls"),
        Told([TEXT], error="api_error"),
    ),
    (
        "a call written as text",
        stream(chunk({"content": LEAK}), chunk(finish="stop")),
        whole({"content": LEAK}),
        Told([("text", LEAK)], "end_turn"),
    ),
    (
        "reasoning_content",
        stream(chunk({"reasoning_content": "Hm."}), SAID, chunk(finish="stop")),
        whole({"content": "Hello wörld", "reasoning_content": "Hm."}),
        Told([("thinking", "Hm."), TEXT], "end_turn"),
    ),
    (
        "reasoning",
        stream(chunk({"reasoning": "Hm."}), SAID, chunk(finish="stop")),
        whole({"content": "Hello wörld", "reasoning": "Hm."}),
        Told([("thinking", "Hm."), TEXT], "end_turn"),
    ),
    (
        "think tags",
        stream(
            chunk({"content": "<thi"}),
            chunk({"content": "nk>Hm.</think>"}),
            SAID,
            chunk(finish="stop"),
        ),
        whole({"content": "<think>Hm.</think>Hello wörld"}),
        Told([("thinking", "Hm."), TEXT], "end_turn"),
    ),
    (
        "reasoning, then a call",
        stream(chunk({"reasoning": "Hm."}), *ONE, chunk(finish="tool_calls")),
        whole({"reasoning": "Hm.", "tool_calls": [CALL]}, "tool_calls"),
        Told([("thinking", "Hm."), A], "tool_use"),
    ),
    (
        "cut in the middle",
        stream(SAID, done=False, usage=False),
        raw(b'{"id": "c1", "choices": [{"mess'),
        Told([TEXT], error="api_error"),
    ),
    (
        "cut after a whole call",
        stream(*ONE, done=False, usage=False),
        None,
        Told([A], error="api_error"),
    ),
    (
        "no finish reason",
        stream(SAID),
        whole({"content": "Hello wörld"}, None),
        Told([TEXT], error="api_error"),
    ),
    (
        "an unknown finish reason",
        stream(SAID, chunk(finish="abort")),
        whole({"content": "Hello wörld"}, "abort"),
        Told([TEXT], error="api_error"),
    ),
    (
        "an error in the stream",
        stream(SAID, {"error": {"message": "out of memory", "code": 500}}),
        raw(b'{"error": {"message": "out of memory", "code": 500}}'),
        Told([TEXT], error="api_error"),
    ),
    (
        "no [DONE]",
        stream(SAID, chunk(finish="stop"), done=False),
        None,
        Told([TEXT], "end_turn"),
    ),
    (
        "CRLF",
        stream(SAID, chunk(finish="stop"), newline="\r\n"),
        None,
        Told([TEXT], "end_turn"),
    ),
    (
        "split anywhere, UTF-8 too",
        stream(SAID, *ONE, chunk(finish="tool_calls")).with_(chunk_bytes=1),
        whole({"content": "Hello wörld", "tool_calls": [CALL]}).with_(chunk_bytes=1),
        Told([TEXT, A], "tool_use"),
    ),
    (
        "comments",
        raw(
            b": one\n\n" + (stream(SAID, chunk(finish="stop")).body or b"") + b": two\n\n",
            "text/event-stream",
        ),
        None,
        Told([TEXT], "end_turn"),
    ),
    (
        "tool_calls null",
        stream(chunk({"content": "Hello wörld", "tool_calls": None}), chunk(finish="stop")),
        whole({"content": "Hello wörld", "tool_calls": None}),
        Told([TEXT], "end_turn"),
    ),
    (
        "tool_calls empty",
        stream(chunk({"content": "Hello wörld", "tool_calls": []}), chunk(finish="stop")),
        whole({"content": "Hello wörld", "tool_calls": []}),
        Told([TEXT], "end_turn"),
    ),
    (
        "content filter",
        stream(SAID, chunk(finish="content_filter")),
        whole({"content": "Hello wörld"}, "content_filter"),
        Told([TEXT], "refusal"),
    ),
    (
        "empty completion",
        stream(chunk(finish="stop")),
        whole({"content": ""}),
        Told([], "end_turn"),
    ),
    (
        "the other form",
        whole({"content": "Hello wörld", "tool_calls": [CALL]}, "tool_calls"),
        stream(SAID, *ONE, chunk(finish="tool_calls")),
        Told([TEXT, A], "tool_use"),
    ),
    ("HTTP 400", http_error(400), http_error(400), Told(error="invalid_request_error")),
    ("HTTP 429", http_error(429), http_error(429), Told(error="rate_limit_error")),
    ("HTTP 500", http_error(500), http_error(500), Told(error="api_error")),
]


def blocks_of(message: dict[str, Any]) -> list[tuple[Any, ...]]:
    shown: list[tuple[Any, ...]] = []
    for block in message["content"]:
        if block["type"] == "tool_use":
            assert block["id"]
            shown.append((block["name"], block["input"]))
        else:
            assert block["type"] == "text" or block["signature"]
            shown.append((block["type"], block[block["type"]]))
    return shown


@pytest.mark.parametrize(
    ("played", "told"),
    [pytest.param(streamed, told, id=name) for name, streamed, _, told in QUIRKS if streamed],
)
def test_a_quirk_comes_out_right_in_a_stream(stage: Stage, played: Scripted, told: Told) -> None:
    stage.next = played
    response = stage.messages(stream=True, tools=[TOOL])
    if response.status_code != 200:
        assert response.json()["error"]["type"] == told.error
        assert not told.blocks
        return
    assert anthropic_grammar(response.content) == []
    message = message_of(events_of(response))
    assert blocks_of(message) == list(told.blocks)
    assert message["stop_reason"] == told.stop
    assert (message["error"] or {}).get("type") == told.error


@pytest.mark.parametrize(
    ("played", "told"),
    [pytest.param(body, told, id=name) for name, _, body, told in QUIRKS if body],
)
def test_a_quirk_comes_out_right_in_one_piece(stage: Stage, played: Scripted, told: Told) -> None:
    stage.next = played
    response = stage.messages(tools=[TOOL])
    body = response.json()
    if told.error:
        assert response.status_code >= 400
        assert body["error"]["type"] == told.error
        return
    assert response.status_code == 200
    assert blocks_of(body) == list(told.blocks)
    assert body["stop_reason"] == told.stop
    assert body["usage"] == {"input_tokens": 7, "output_tokens": 3}


@pytest.mark.parametrize("streamed", [True, False])
def test_counts_nobody_made_are_marked_as_estimates(stage: Stage, streamed: bool) -> None:
    stage.next = (
        stream(SAID, chunk(finish="stop"), usage=False)
        if streamed
        else whole({"content": "Hello wörld"}, usage=False)
    )
    response = stage.messages(stream=streamed)
    message = message_of(events_of(response)) if streamed else response.json()
    assert message["usage"] == {"input_tokens": 1, "output_tokens": 3, "estimated": True}


def test_ids_that_nobody_sent_differ_from_turn_to_turn(stage: Stage) -> None:
    stage.next = whole({"tool_calls": [entry(0, None, "read", ARGS_A)]}, "tool_calls")
    first = stage.messages(tools=[TOOL]).json()["content"][0]
    again = stage.messages(tools=[TOOL]).json()["content"][0]
    result = {"type": "tool_result", "tool_use_id": first["id"], "content": "text"}
    talk = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [first]},
        {"role": "user", "content": [result]},
    ]
    later = stage.messages(tools=[TOOL], messages=talk).json()["content"][0]
    assert first["id"] == again["id"] != later["id"]
    assert stage.sent["messages"][-1]["tool_call_id"] == first["id"]


@pytest.mark.parametrize(
    "name", ["truncated arguments, finish tool_calls", "finish stop with a call"]
)
def test_a_chat_completions_client_is_told_the_same(stage: Stage, name: str) -> None:
    ((_, streamed, body, told),) = (quirk for quirk in QUIRKS if quirk[0] == name)
    assert streamed is not None
    assert body is not None
    finish = {"max_tokens": "length", "tool_use": "tool_calls"}[str(told.stop)]
    stage.next = streamed
    events = events_of(stage.chat(stream=True))
    assert [event["choices"][0]["finish_reason"] for event in events][-1] == finish
    stage.next = body
    choice = stage.chat().json()["choices"][0]
    assert choice["finish_reason"] == finish
    given = [
        json.loads(call["function"]["arguments"])
        for call in choice["message"].get("tool_calls", [])
    ]
    assert given == [values for _, values in told.blocks]


@pytest.mark.parametrize("streamed", [True, False])
def test_a_call_that_breaks_off_can_be_an_error(streamed: bool) -> None:
    cut = next(quirk for quirk in QUIRKS if quirk[0] == "truncated arguments, finish length")
    with Stage(policy=Policy(cut_calls="error")).open() as stage:
        played = cut[1] if streamed else cut[2]
        assert played is not None
        stage.next = played
        response = stage.messages(stream=streamed, tools=[TOOL])
    if not streamed:
        assert response.status_code == 502
        assert "in the middle of a tool call" in response.json()["error"]["message"]
        return
    assert anthropic_grammar(response.content) == []
    message = message_of(events_of(response))
    assert blocks_of(message) == [TEXT]
    assert "in the middle of a tool call" in message["error"]["message"]

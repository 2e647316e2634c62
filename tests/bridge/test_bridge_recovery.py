from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from bridge_kit import TOOL, Stage, chunk, events_of, message_of, stream, whole

from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.bridge.recover import may_be_calls, recovered_calls
from pytest_agentlimit.chat.messages import Tool
from pytest_agentlimit.testing import anthropic_grammar

READ = Tool("read", "", {"type": "object", "properties": {"path": {"type": "string"}}})
ONE = '{"name": "read", "arguments": {"path": "a"}}'

WHOLE = {
    "bare": ONE,
    "spaced": f"\n  {ONE}\n",
    "two": f"{ONE}\n{ONE}",
    "list": f"[{ONE}, {ONE}]",
    "fenced": f"```json\n{ONE}\n```",
    "tagged": f"<tool_call>\n{ONE}\n</tool_call>",
    "two tagged": f"<tool_call>{ONE}</tool_call>\n<tool_call>{ONE}</tool_call>",
    "elements": "<function=read><parameter=path>a</parameter></function>",
    "tagged elements": (
        "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n</function>\n</tool_call>"
    ),
}
NOT = {
    "prose before": f"I call {ONE}",
    "prose after": f"{ONE} should do it.",
    "prose between": f"{ONE} and {ONE}",
    "another tool": ONE.replace("read", "write"),
    "one of two is another tool": f"{ONE}{ONE.replace('read', 'write')}",
    "broken off": ONE[:-3],
    "never closed": f"<tool_call>{ONE}",
    "no arguments": '{"name": "read"}',
    "arguments are no object": '{"name": "read", "arguments": [1]}',
    "not quite JSON": "{'name': 'read', 'arguments': {'path': 'a'}}",
    "NaN": '{"name": "read", "arguments": {"path": NaN}}',
    "after the fence": f"```json\n{ONE}\n``` done",
    "an answer": '{"path": "a"}',
    "a declaration": '{"name": "read", "description": "Read", "parameters": {"path": "a"}}',
    "nothing": "",
    "an empty fence": "```json\n\n```",
}


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_a_reply_that_is_only_calls_is_recovered(text: str) -> None:
    calls = recovered_calls(text, [READ])
    assert len(calls) == max(1, text.count('"name"'))
    assert {(call.name, call.arguments["path"]) for call in calls} == {("read", "a")}
    assert all(may_be_calls(text[:end]) for end in range(len(text)))


@pytest.mark.parametrize("text", NOT.values(), ids=NOT)
def test_anything_else_is_left_alone(text: str) -> None:
    assert recovered_calls(text, [READ]) == ()
    assert recovered_calls(ONE, []) == ()


def test_prose_is_not_held_back() -> None:
    assert not may_be_calls("I")
    assert not may_be_calls("  Sure: {")
    assert not may_be_calls("{" * 200_000)


@pytest.fixture(scope="module")
def recovering() -> Iterator[Stage]:
    with Stage(policy=Policy(recover_leaks=True)).open() as stage:
        yield stage


def test_a_recovered_stream_says_so(recovering: Stage) -> None:
    pieces = [chunk({"content": ONE[at : at + 5]}) for at in range(0, len(ONE), 5)]
    recovering.next = stream(*pieces, chunk(finish="stop"))
    response = recovering.messages(stream=True, tools=[TOOL])
    assert anthropic_grammar(response.content) == []
    assert ": x-agentlimit-recovered: 1\n" in response.text
    message = message_of(events_of(response))
    (block,) = message["content"]
    assert (block["name"], block["input"]) == ("read", {"path": "a"})
    assert message["stop_reason"] == "tool_use"


def test_a_recovered_reply_says_so(recovering: Stage) -> None:
    recovering.next = whole({"content": f"{ONE}{ONE}"})
    response = recovering.messages(tools=[TOOL])
    assert response.headers["x-agentlimit-recovered"] == "2"
    ids = [block["id"] for block in response.json()["content"]]
    assert len(set(ids)) == 2
    choice = recovering.chat(
        tools=[{"type": "function", "function": {"name": "read", "parameters": {}}}]
    ).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert not choice["message"]["content"]


@pytest.mark.parametrize("text", [NOT["prose after"], NOT["broken off"], "Hello.", "{"])
@pytest.mark.parametrize("streamed", [True, False])
def test_text_that_is_no_call_arrives_whole(recovering: Stage, text: str, streamed: bool) -> None:
    pieces: list[Any] = [chunk({"content": part}) for part in (text[:1], text[1:]) if part]
    recovering.next = (
        stream(*pieces, chunk(finish="stop")) if streamed else whole({"content": text})
    )
    response = recovering.messages(stream=streamed, tools=[TOOL])
    assert "x-agentlimit-recovered" not in response.headers
    message = message_of(events_of(response)) if streamed else response.json()
    assert [block["text"] for block in message["content"]] == [text]
    assert message["stop_reason"] == "end_turn"


def test_a_real_call_beside_the_text_leaves_it_text(recovering: Stage) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    recovering.next = whole({"content": ONE, "tool_calls": [call]}, "tool_calls")
    blocks = recovering.messages(tools=[TOOL]).json()["content"]
    assert sorted(block["type"] for block in blocks) == ["text", "tool_use"]


def test_without_the_option_nothing_is_recovered(stage: Stage) -> None:
    stage.next = whole({"content": ONE})
    response = stage.messages(tools=[TOOL])
    assert json.loads(response.json()["content"][0]["text"])["name"] == "read"
    assert "x-agentlimit-recovered" not in response.headers

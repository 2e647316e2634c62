from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from bridge_kit import HI, TOOL, Stage, chunk, events_of, message_of, stream

from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.bridge.serve import Bridge
from pytest_agentlimit.chat.messages import ChatRequest, Dialect
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, anthropic_grammar, say

CALL = {"name": "read", "arguments": {"path": "a.txt"}}
ONE = json.dumps({"tool_calls": [CALL]})
FUNCTION: Any = {
    "type": "function",
    "function": {"name": "read", "parameters": TOOL["input_schema"]},
}
_TOOL_KEYS = {"tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"}

both_forms = pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])


@pytest.fixture(scope="module", params=["openai", "anthropic", "ollama"])
def emulating(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A bridge that emulates tools, to an upstream of each dialect."""
    dialect: Dialect = request.param
    with Stage(dialect, Policy(tools="emulate")).open() as stage:
        yield stage
        for one in stage.upstream.requests:
            assert not _TOOL_KEYS & set(one.body)
            assert {turn["role"] for turn in one.body["messages"]} <= {
                "system",
                "user",
                "assistant",
            }


@pytest.fixture
def claude(emulating: Stage) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=emulating.bridge.url, api_key="k", max_retries=0) as client:
        yield client


def ask(client: anthropic.Anthropic, streamed: bool, **fields: Any) -> anthropic.types.Message:
    given: dict[str, Any] = {"tools": [TOOL]} | HI | fields
    if not streamed:
        message: anthropic.types.Message = client.messages.create(**given)
        return message
    with client.messages.stream(**given) as events:
        return events.get_final_message()


@both_forms
def test_a_conversation_with_a_tool(
    emulating: Stage, claude: anthropic.Anthropic, streamed: bool
) -> None:
    emulating.next = say(ONE, thinking="I read it.")
    message = ask(claude, streamed, system="Be kind.")
    thought, block = message.content
    assert thought.type == "thinking"
    assert block.type == "tool_use"
    assert (block.name, block.input) == ("read", {"path": "a.txt"})
    assert message.stop_reason == "tool_use"
    asked = emulating.upstream.chat_requests[-1]
    assert asked.system is not None
    assert asked.system.startswith("Be kind.\n\n")
    assert "Read a file." in asked.system
    assert asked.json_schema is not None

    result = {"type": "tool_result", "tool_use_id": block.id, "content": "42", "is_error": True}
    emulating.next = say('{"answer": "It says \\"42\\"."}')
    talk = [
        *HI["messages"],
        {"role": "assistant", "content": [block]},
        {"role": "user", "content": [result, {"type": "text", "text": "And?"}]},
    ]
    answer = ask(claude, streamed, messages=talk)
    (text,) = answer.content
    assert text.type == "text"
    assert text.text == 'It says "42".'
    assert answer.stop_reason == "end_turn"
    told = emulating.upstream.chat_requests[-1].messages
    assert [turn.role for turn in told] == ["user", "assistant", "user"]
    assert json.loads(told[1].text) == {"tool_calls": [CALL]}
    assert f"[result of read, call {block.id}, an error]\n42" in told[2].text
    assert told[2].text.endswith("And?")


@both_forms
def test_parallel_calls_have_ids_of_their_own(
    emulating: Stage, claude: anthropic.Anthropic, streamed: bool
) -> None:
    emulating.next = say(json.dumps({"tool_calls": [CALL, CALL]}))
    blocks = ask(claude, streamed).content
    assert [block.type for block in blocks] == ["tool_use", "tool_use"]
    assert len({block.id for block in blocks if block.type == "tool_use"}) == 2


def test_the_other_client_is_served_as_well(emulating: Stage) -> None:
    emulating.next = say(ONE)
    url = f"{emulating.bridge.url}/v1"
    messages: Any = HI["messages"]
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        reply = client.chat.completions.create(
            model="m", messages=messages, tools=[FUNCTION], tool_choice="required"
        )
    (choice,) = reply.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (called,) = choice.message.tool_calls
    assert called.type == "function"
    assert json.loads(called.function.arguments) == {"path": "a.txt"}
    schema = emulating.upstream.chat_requests[-1].json_schema
    assert schema is not None
    assert list(schema["properties"]) == ["tool_calls"]


@both_forms
def test_every_emulated_call_is_counted(emulating: Stage, streamed: bool) -> None:
    emulating.next = say(json.dumps({"tool_calls": [CALL, CALL]}))
    response = emulating.messages(stream=streamed, tools=[TOOL])
    if streamed:
        assert anthropic_grammar(response.content) == []
        assert ": x-agentlimit-emulated: 2\n" in response.text
    else:
        assert response.headers["x-agentlimit-emulated"] == "2"
    emulating.next = say('{"answer":"no"}')
    response = emulating.messages(stream=streamed, tools=[TOOL])
    assert "x-agentlimit-emulated" not in response.headers
    assert "x-agentlimit-emulated" not in response.text


TEXTS = {
    "prose": "Hello.",
    "prose and a call": f"I read it: {ONE}",
    "another tool": ONE.replace("read", "write"),
    "broken off": ONE[:-4],
}


@both_forms
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_not_of_the_form_arrives_as_text(
    emulating: Stage, text: str, streamed: bool
) -> None:
    emulating.next = say(text)
    response = emulating.messages(stream=streamed, tools=[TOOL])
    message = message_of(events_of(response)) if streamed else response.json()
    assert [block["text"] for block in message["content"]] == [text]
    assert message["stop_reason"] == "end_turn"
    assert "x-agentlimit-emulated" not in response.headers


@both_forms
def test_a_call_that_was_cut_short_is_none(emulating: Stage, streamed: bool) -> None:
    emulating.next = say(ONE[:-4], stop_reason="max_tokens")
    response = emulating.messages(stream=streamed, tools=[TOOL])
    message = message_of(events_of(response)) if streamed else response.json()
    assert [block["type"] for block in message["content"]] == ["text"]
    assert message["stop_reason"] == "max_tokens"


def test_an_answer_streams() -> None:
    words = ['{"ans', 'wer": "It ', "is \\ud8", '3d\\ude00."', "}"]
    with Stage(policy=Policy(tools="emulate")).open() as stage:
        stage.next = stream(*(chunk({"content": word}) for word in words), chunk(finish="stop"))
        events = events_of(stage.messages(stream=True, tools=[TOOL]))
    deltas = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert deltas == ["It ", "is ", "😀."]


def test_recovery_is_off_where_answers_may_hold_calls() -> None:
    answer = json.dumps({"name": "read", "arguments": {}})
    with Stage(policy=Policy(tools="emulate", recover_leaks=True)).open() as stage:
        stage.next = say(json.dumps({"answer": answer}))
        (block,) = stage.messages(tools=[TOOL]).json()["content"]
    assert block == {"type": "text", "text": answer}


def test_the_capture_says_what_was_odd(tmp_path: Path) -> None:
    texts = iter([ONE, f"I read it: {ONE}", '{"answer":"x"}'])

    def reply(request: ChatRequest) -> Scripted:
        return say(next(texts))

    file = tmp_path / "wire.jsonl"
    with (
        ScriptedEndpoint(reply) as upstream,
        Bridge(upstream.endpoint(), Policy(tools="emulate"), capture=file) as bridge,
        httpx.Client(base_url=bridge.url, trust_env=False) as http,
    ):
        for _ in range(3):
            http.post("/v1/messages", json=HI | {"tools": [TOOL]}).raise_for_status()
    received = [json.loads(line)["received"] for line in file.read_text().splitlines()]
    assert [one["leaked_calls"] for one in received] == [[], [], []]
    assert [[odd["code"] for odd in one["findings"]] for one in received] == [
        [],
        ["emulation_unparsed"],
        [],
    ]


def test_the_endpoints_own_setting_counts_unless_tools_are_stripped() -> None:
    for policy, offered in ((Policy(), True), (Policy(tools="strip"), False)):
        with (
            ScriptedEndpoint([say(ONE)]) as upstream,
            Bridge(upstream.endpoint(tools="emulate"), policy) as bridge,
        ):
            body = HI | {"tools": [TOOL]}
            reply = httpx.post(f"{bridge.url}/v1/messages", json=body, trust_env=False).json()
            (asked,) = upstream.requests
        assert "tools" not in asked.body
        assert ("Read a file." in json.dumps(asked.body)) is offered
        assert reply["content"][0]["type"] == ("tool_use" if offered else "text")

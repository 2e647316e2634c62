from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from pytest_agentlimit.chat.messages import (
    ChatReply,
    ChatRequest,
    Message,
    TextBlock,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.endpoints.literals import null_spec
from pytest_agentlimit.endpoints.nulls import NULL_MODELS, null_reply
from pytest_agentlimit.endpoints.timing import Exchange

WEATHER = Tool(
    "get_weather",
    "The weather in a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "note": {"type": "string"},
        },
        "required": ["city", "days", "unit"],
    },
)
CLOCK = Tool("get_time", "The time.", {"type": "object", "properties": {}})


def user(text: str) -> Message:
    return Message(role="user", blocks=(TextBlock(text=text),))


def asked(*messages: Message | str, **fields: Any) -> ChatRequest:
    turns = [user(turn) if isinstance(turn, str) else turn for turn in messages]
    return ChatRequest.model_validate({"model": "", "messages": turns, **fields})


def call_of(reply: ChatReply) -> ToolCall:
    (call,) = reply.tool_calls
    assert call.parse_error is None
    return call


def test_there_are_the_nine_of_the_method() -> None:
    assert NULL_MODELS == (
        "mute",
        "echo",
        "parrot",
        "refuser",
        "first-tool",
        "every-tool",
        "wrong-json",
        "stale-context",
        "fabricator",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mute", ""),
        ("echo", "What is 6 times 7?"),
        ("parrot", "42"),
        ("first-tool", "42"),
        ("every-tool", "42"),
        ("stale-context", "6"),
    ],
)
def test_without_tools_the_answer_is_text(name: str, text: str) -> None:
    reply = null_reply(name, asked("What is 6 times 7?"))
    assert reply.text == text
    assert not reply.tool_calls
    assert reply.stop_reason == "end_turn"


def test_the_refuser_refuses_whatever_it_is_offered() -> None:
    assert "can't help" in null_reply("refuser", asked("Hi", tools=(WEATHER,))).text


def test_first_tool_takes_names_and_numbers_from_the_prompt_and_keeps_to_the_schema() -> None:
    request = asked(
        "I was in Rome. What is the weather in Oslo for 9 days?", tools=(WEATHER, CLOCK)
    )
    call = call_of(null_reply("first-tool", request))
    assert call.name == "get_weather"
    assert call.arguments == {"city": "Oslo", "days": 7, "unit": "celsius"}


def test_every_tool_calls_each_one_once_with_its_own_id() -> None:
    calls = null_reply("every-tool", asked("Go", tools=(WEATHER, CLOCK))).tool_calls
    assert [call.name for call in calls] == ["get_weather", "get_time"]
    assert calls[1].arguments == {}
    assert len({call.id for call in calls}) == 2


def test_ids_stay_unique_over_the_turns_of_a_conversation() -> None:
    first = null_reply("first-tool", asked("Go", tools=(CLOCK,)))
    second = null_reply(
        "first-tool",
        asked(
            "Go",
            Message(role="assistant", blocks=first.blocks),
            Message(role="tool", blocks=(ToolResult(call_id="call_0", content="noon"),)),
            tools=(CLOCK,),
        ),
    )
    assert call_of(first).id != call_of(second).id


@pytest.mark.parametrize("name", ["first-tool", "every-tool", "stale-context"])
def test_a_tool_choice_is_obeyed(name: str) -> None:
    tools = (WEATHER, CLOCK)
    forced = ToolChoice(mode="tool", name="get_time")
    assert (
        call_of(null_reply(name, asked("Go", tools=tools, tool_choice=forced))).name == "get_time"
    )
    never = ToolChoice(mode="none")
    assert not null_reply(name, asked("Go", tools=tools, tool_choice=never)).tool_calls


def test_wrong_json_is_valid_under_the_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 0},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "home": {"$ref": "#/$defs/place"},
            "kind": {"enum": ["a", "b"]},
            "maybe": {"anyOf": [{"type": "number"}, {"type": "null"}]},
            "fixed": {"const": 3},
        },
        "required": ["name", "age", "tags", "home", "kind", "maybe", "fixed"],
        "$defs": {
            "place": {"type": "object", "properties": {"street": {"type": ["null", "string"]}}}
        },
    }
    value = json.loads(null_reply("wrong-json", asked("Who?", json_schema=schema)).text)
    jsonschema.validate(value, schema)
    assert value["name"] == "wrong"


def test_wrong_json_without_a_schema_has_the_keys_that_the_prompt_quotes() -> None:
    reply = null_reply("wrong-json", asked('Answer in JSON with "city" and `days`.'))
    assert json.loads(reply.text) == {"city": "wrong", "days": "wrong"}
    assert isinstance(json.loads(null_reply("wrong-json", asked("Hi")).text), dict)


def test_stale_context_answers_from_the_oldest_turn() -> None:
    turns = ("The code is 7731.", "Now the code is 9954.", "What is the code?")
    assert null_reply("stale-context", asked(*turns)).text == "7731"


def test_stale_context_calls_with_the_oldest_values_that_fit() -> None:
    request = asked(
        "Remember 3 days and `Bergen`.", "Weather in Oslo for 5 days?", tools=(WEATHER,)
    )
    call = call_of(null_reply("stale-context", request))
    assert call.arguments == {"city": "Bergen", "days": 3, "unit": "celsius"}


def test_the_fabricator_claims_success_and_calls_nothing() -> None:
    reply = null_reply("fabricator", asked("Add 19 to the file.", tools=(CLOCK,)))
    assert reply.text.startswith("Done.")
    assert "19" in reply.text
    assert not reply.tool_calls


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"properties": {"a": {"$ref": "#/nowhere"}}},
        {"properties": {"a": True, "b": {"type": "array"}}, "required": "a"},
        {"properties": {"a": {"$ref": "#"}}},
        {"type": "array"},
    ],
)
@pytest.mark.parametrize("name", NULL_MODELS)
def test_odd_schemas_and_prompts_do_not_break_them(name: str, parameters: dict[str, Any]) -> None:
    prompt = "9" * 5000 + ' "' + "`" * 50 + " \ud83d"
    reply = null_reply(name, asked(prompt, "", tools=(Tool("t", "", parameters),)))
    assert all(call.parse_error is None for call in reply.tool_calls)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", NULL_MODELS)
def test_the_client_sees_what_the_null_model_said(name: str, stream: bool) -> None:
    request = asked("Weather in Oslo?", tools=(WEATHER, CLOCK), stream=stream)
    seen: list[Exchange] = []
    with open_client(null_spec(name), on_exchange=seen.append) as client:
        reply = client.send(request)
    expected = null_reply(name, request)
    assert reply.blocks == expected.blocks
    assert reply.stop_reason == expected.stop_reason
    assert reply.findings == ()
    assert len(seen) == 1


def test_a_null_model_lists_itself() -> None:
    with open_client(null_spec("parrot")) as client:
        assert client.get_json("/models")["data"][0]["id"] == "parrot"

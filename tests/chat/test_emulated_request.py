from __future__ import annotations

import json
from typing import Any

import jsonschema
from chat_strategies import TIME, WEATHER

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.emulation import answer_schema, emulated_request
from pytest_agentlimit.chat.messages import (
    ChatRequest,
    Message,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

CALL = {"name": "get_weather", "arguments": {"city": "Oslo"}}
OTHER = {"name": "get_time", "arguments": {}}
HI = (Message(role="user", blocks=(TextBlock(text="hi"),)),)


def asked(**fields: Any) -> ChatRequest:
    return ChatRequest(**{"model": "m", "messages": HI, "tools": (WEATHER, TIME)} | fields)


def test_the_request_has_no_tools_but_in_its_prompt() -> None:
    extra = {"functions": [], "response_format": {"type": "json_object"}, "keep": 1}
    request = emulated_request(
        asked(
            system="Be kind.",
            tool_choice=ToolChoice(mode="auto"),
            parallel_tool_calls=True,
            extra=extra,
        )
    )
    assert (request.tools, request.tool_choice, request.parallel_tool_calls) == ((), None, None)
    assert request.extra == {"keep": 1}
    assert request.messages == HI
    assert request.system is not None
    assert request.system.startswith("Be kind.\n\n")
    for tool in (WEATHER, TIME):
        assert tool.description in request.system
        assert jsontext.dumps(tool.parameters) in request.system


def test_a_request_without_tools_gets_no_word_about_them() -> None:
    for fields in ({"tools": ()}, {"tool_choice": ToolChoice(mode="none")}):
        request = emulated_request(asked(system="Be kind.", **fields))
        assert (request.system, request.json_schema, request.tools) == ("Be kind.", None, ())
        assert request.tool_choice is None


def test_calls_and_results_of_the_past_are_text() -> None:
    calls = (
        ThinkingBlock(text="hm", signature="s"),
        TextBlock(text="I look."),
        ToolCall(id="c1", name="get_weather", raw_arguments='{"city": "Oslo"}'),
        ToolCall(id="c2", name="get_time", raw_arguments="broken"),
    )
    results = (
        ToolResult(call_id="c1", content="Snow.\nCold."),
        ToolResult(call_id="c2", name="get_time", content="no clock", is_error=True),
    )
    talk = (
        *HI,
        Message(role="assistant", blocks=calls),
        Message(role="tool", blocks=results),
        Message(role="user", blocks=(TextBlock(text="And?"),)),
        Message(role="assistant", blocks=(TextBlock(text="Cold."),)),
    )
    request = emulated_request(asked(messages=talk))
    first, called, told, last = request.messages
    assert (first, last) == (HI[0], talk[-1])
    assert called.blocks[0] == calls[0]
    text, _, written = called.text.partition("\n\n")
    assert text == "I look."
    assert json.loads(written) == {
        "tool_calls": [
            {"name": "get_weather", "arguments": {"city": "Oslo"}},
            {"name": "get_time", "arguments": {}},
        ]
    }
    assert told.role == "user"
    assert [block.text for block in told.blocks if isinstance(block, TextBlock)] == [
        "[result of get_weather, call c1]\nSnow.\nCold.",
        "[result of get_time, call c2, an error]\nno clock",
        "And?",
    ]
    assert emulated_request(asked(messages=talk, tools=())).messages == request.messages


def valid(value: Any, **fields: Any) -> bool:
    schema = answer_schema(asked(**fields))
    return jsonschema.Draft202012Validator(schema).is_valid(value)


def test_the_schema_takes_what_the_reader_takes() -> None:
    assert valid({"tool_calls": [CALL, OTHER]})
    assert valid({"answer": "x"})
    for wrong in (
        {},
        {"answer": 1},
        {"tool_calls": []},
        {"tool_calls": [{"name": "rm", "arguments": {}}]},
        {"tool_calls": [CALL | {"id": "1"}]},
        {"tool_calls": [{"name": "get_weather", "arguments": {"city": 3}}]},
        {"answer": "x", "tool_calls": [CALL]},
    ):
        assert not valid(wrong)
    assert not valid({"tool_calls": [CALL, CALL]}, parallel_tool_calls=False)


def test_a_required_call_leaves_no_room_for_an_answer() -> None:
    required = {"tool_choice": ToolChoice(mode="required")}
    assert not valid({"answer": "x"}, **required)
    assert valid({"tool_calls": [CALL, OTHER]}, **required)
    named = {"tool_choice": ToolChoice(mode="tool", name="get_time")}
    assert valid({"tool_calls": [OTHER]}, **named)
    assert not valid({"tool_calls": [CALL]}, **named)
    system = emulated_request(asked(**named)).system
    assert system is not None
    assert '"answer"' not in system
    assert 'You must call the tool "get_time" now' in system


def test_schemas_with_references_stay_valid_where_they_are_put() -> None:
    tree = {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/node"}, "title": {"type": "string"}},
        "required": ["root"],
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
    }
    tools = (Tool("grow", "", tree), WEATHER)

    def grown(value: Any) -> bool:
        call = {"name": "grow", "arguments": {"root": value}}
        return valid({"tool_calls": [call]}, tools=tools)

    assert grown({"next": {"next": {}}})
    assert not grown({"next": {"next": 3}})
    assert valid({"answer": {"root": {}}}, json_schema=tree)
    assert not valid({"answer": {"root": 3}}, json_schema=tree)


def test_what_grammars_choke_on_stays_in_the_prompt() -> None:
    parameters = {
        "type": "object",
        "properties": {"pattern": {"type": "string", "pattern": "^a$", "maxLength": 9999}},
        "required": ["pattern"],
        "format": "x",
    }
    request = emulated_request(asked(tools=(Tool("find", "", parameters),)))
    assert request.json_schema is not None
    assert request.system is not None
    calls = request.json_schema["anyOf"][0]["properties"]["tool_calls"]
    assert calls["items"]["properties"]["arguments"] == {
        "type": "object",
        "properties": {"pattern": {"type": "string"}},
        "required": ["pattern"],
    }
    assert jsontext.dumps(parameters) in request.system

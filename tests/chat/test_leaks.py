from __future__ import annotations

import json
from typing import Any

import pytest
from chat_strategies import TIME, WEATHER, assembled, lines, sse

from pytest_agentlimit.chat import jsontext, leaks, ollama, openai
from pytest_agentlimit.chat.leaks import find_leaked_calls
from pytest_agentlimit.chat.messages import Tool, ToolCall

TOOLS = (WEATHER, TIME)
OSLO = {"name": "get_weather", "arguments": {"city": "Oslo"}}
JSON = json.dumps(OSLO)


def found(text: str, *tools: Tool) -> list[tuple[str, Any]]:
    calls = find_leaked_calls(text, tools or TOOLS)
    return [(call.name, dict(call.arguments)) for call in calls]


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>\n{JSON}\n</tool_call>",
        f"Let me look.\n<tool_call>{JSON}",
        "<tool_call>[" + JSON + "]</tool_call>",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>",
        "<function=get_weather><parameter=city>Oslo</parameter></function>",
        "<function=get_weather>\n<parameter=city>\nOslo\n",
        JSON,
        f"Sure! I will call {JSON} now.",
        f"```json\n{json.dumps(OSLO, indent=2)}\n```",
        f"[{JSON}]",
        '{"name": "get_weather", "parameters": {"city": "Oslo"}}',
        '{"tool": "get_weather", "input": {"city": "Oslo"}}',
        '{"name": "get_weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}',
        '{"type": "function", "function": ' + JSON + "}",
        '{"tool_calls": [{"function": ' + JSON + "}]}",
        'call:get_weather{city:<|"|>Oslo<|"|>}',
        '<|tool_call>call:get_weather{"city": "Oslo"}<tool_call|>',
        f"[tool]{JSON}[END_TOOL_REQUEST]",
        f"[TOOL_REQUEST]{JSON}[END_TOOL_REQUEST]",
        '[get_weather]{"city": "Oslo"}[END_TOOL_REQUEST]',
        f"[TOOL_CALLS][{JSON}]",
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}',
        '[TOOL_CALLS]get_weather[CALL_ID]abc[ARGS]{"city": "Oslo"}',
    ],
)
def test_every_known_form_is_found(text: str) -> None:
    assert found(text) == [("get_weather", {"city": "Oslo"})]


def test_several_calls_are_found_in_order() -> None:
    second = '{"name": "get_time", "arguments": {}}'
    assert [name for name, _ in found(f"{JSON}\n{second}\n{JSON}")] == [
        "get_weather",
        "get_time",
        "get_weather",
    ]
    assert [name for name, _ in found(f"[{JSON}, {second}]")] == ["get_weather", "get_time"]


def test_parameters_get_their_declared_types() -> None:
    body = (
        "<parameter=city>5</parameter><parameter=days>3</parameter><parameter=other>[1]</parameter>"
    )
    assert found(f"<function=get_weather>{body}</function>") == [
        ("get_weather", {"city": "5", "days": 3, "other": [1]})
    ]


def test_a_call_that_breaks_off_inside_its_tag_is_a_leak_with_what_there_is() -> None:
    text = '<tool_call>{"name": "get_weather", "arguments": {"city": "Os'
    (call,) = find_leaked_calls(text, TOOLS)
    assert (call.name, call.raw_arguments) == ("get_weather", '{"city": "Os')


def test_a_call_without_arguments_counts_inside_its_tag_only() -> None:
    assert found('<tool_call>{"name": "get_time"}</tool_call>') == [("get_time", {})]
    assert found('{"name": "get_time"}') == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I could use get_weather to find out, it takes a city.",
        "get_weather(city='Oslo')",
        '{"name": "other_tool", "arguments": {"city": "Oslo"}}',
        '<tool_call>{"name": "other_tool", "arguments": {}}</tool_call>',
        "<function=other_tool><parameter=city>Oslo</parameter></function>",
        'call:other{"city": "get_weather"}',
        '{"city": "Oslo", "source": "get_weather"}',
        '{"name": "get_weather", "reason": "it fits"}',
        '{"name": "get_weather", "input": "Oslo"}',
        '{"answer": {"name": "get_weather", "arguments": {}}}',
        '[{"name": "get_weather", "arguments": {}}, {"name": "Oslo"}]',
        json.dumps({"name": "get_weather", "description": "x", "parameters": WEATHER.parameters}),
        json.dumps({"name": "get_weather", "parameters": WEATHER.parameters}),
        '{"name": "get_weather", "description": "x", "parameters": {"city": "a city"}}',
        json.dumps(
            [
                {
                    "type": "function",
                    "function": {"name": "get_weather", "parameters": WEATHER.parameters},
                }
            ]
        ),
        "see [get_weather] for details",
    ],
)
def test_prose_and_answers_are_no_leak(text: str) -> None:
    assert found(text) == []


def test_nothing_leaks_when_no_tool_was_offered() -> None:
    assert find_leaked_calls(JSON, ()) == ()


def test_leaks_are_found_in_text_and_in_thinking_of_any_reply() -> None:
    message = {"role": "assistant", "reasoning": JSON, "content": f"So: {JSON}"}
    stream = sse({"choices": [{"delta": message, "finish_reason": "stop"}]})
    reply = assembled(openai, stream, TOOLS)
    assert [(call.id, call.name) for call in reply.leaked_calls] == [
        ("leaked_0", "get_weather"),
        ("leaked_1", "get_weather"),
    ]
    assert reply.verdict == "leaked"
    assert reply.tool_calls == ()


def test_a_truncated_reply_with_a_leak_is_truncated_first() -> None:
    last = {"message": {"content": JSON}, "done": True, "done_reason": "length"}
    assert assembled(ollama, lines(last), TOOLS).verdict == "truncated"


NASTY = [
    "{",
    '{"',
    '{"a',
    '{"name": "get_weather", "arguments": ',
    '{"a": {"b": [',
    '{"a":[{',
    "<tool_call>",
    "<tool_call>{",
    '<tool_call>{"name": "get_weather" ',
    "<function=get_weather>",
    "<function=get_weather><parameter=",
    "call:get_weather{",
    "[TOOL_CALLS]",
    "[get_weather]{",
    "[TOOL_CALLS]get_weather[CALL_ID]",
    "[ [ {",
    '"' * 3 + "{",
    "\\",
    "call:" + " " * 19,
    '{"a": "' + "\\\\" * 50,
    "{ " + " " * 150,
]


@pytest.mark.parametrize("piece", NASTY)
def test_the_work_stays_linear_on_hostile_text(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    feed = jsontext.Nesting.feed

    def counting(self: Any, text: str, start: int = 0, stop: int | None = None) -> int | None:
        nonlocal read
        end = feed(self, text, start, stop)
        read += (end or min(len(text), len(text) if stop is None else stop)) - start
        return end

    monkeypatch.setattr(jsontext.Nesting, "feed", counting)
    text = "get_weather " + piece * (1_000_000 // len(piece))
    calls = find_leaked_calls(text, TOOLS)
    assert len(calls) <= 64
    assert all(len(call.raw_arguments) <= 200_000 for call in calls)
    assert read <= 5 * len(text) + 400_000


def test_a_call_after_a_megabyte_of_prose_is_found() -> None:
    assert found("The weather is { fine }. " * 40_000 + JSON) == [("get_weather", {"city": "Oslo"})]


def test_a_call_with_far_too_long_arguments_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_LONGEST_CALL", 100)
    assert found(json.dumps({"name": "get_weather", "arguments": {"city": "O" * 200}})) == []


def test_names_are_taken_literally() -> None:
    odd = Tool("a.b(c", "", {})
    assert found('{"name": "a.b(c", "arguments": {}}', odd) == [("a.b(c", {})]
    assert found('call:a.b(c{"x": 1}', odd) == [("a.b(c", {"x": 1})]
    assert isinstance(find_leaked_calls('call:a.b(c{"x": 1}', [odd])[0], ToolCall)

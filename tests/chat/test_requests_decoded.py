from __future__ import annotations

from typing import Any

import pytest
from chat_strategies import DIALECTS, TIME, WEATHER
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentlimit.chat import anthropic, ollama, openai
from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import (
    ChatRequest,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCall,
    ToolChoice,
    ToolResult,
)


def user(*texts: str) -> Message:
    return Message(role="user", blocks=tuple(TextBlock(text=text) for text in texts))


def tool_turn(**result: Any) -> tuple[Message, ...]:
    call = ToolCall(id="a", name="get_time", raw_arguments='{"zone":"CET"}')
    given = {"call_id": "a", "name": "get_time", "content": "noon"} | result
    return (
        user("time?"),
        Message(role="assistant", blocks=(call,)),
        Message(role="tool", blocks=(ToolResult(**given),)),
    )


def asking(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=messages or (user("hi"),), **fields)


# OpenAI


def test_openai_replays_calls_as_strings_and_results_as_strings() -> None:
    body = openai.encode_request(asking(*tool_turn(), tools=(TIME,)))
    _, assistant, result = body["messages"]
    assert assistant["content"] is None
    assert assistant["tool_calls"][0]["function"]["arguments"] == '{"zone":"CET"}'
    assert result == {"role": "tool", "tool_call_id": "a", "content": "noon"}


def test_openai_asks_for_usage_when_it_streams_only() -> None:
    assert openai.encode_request(asking())["stream_options"] == {"include_usage": True}
    assert "stream_options" not in openai.encode_request(asking(stream=False))


def test_openai_sends_only_what_was_set() -> None:
    body = openai.encode_request(asking(stream=False))
    assert body == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False}


def test_openai_tool_choice_and_schema() -> None:
    choice = ToolChoice(mode="tool", name="get_time")
    body = openai.encode_request(asking(tool_choice=choice, json_schema={"type": "object"}))
    assert body["tool_choice"] == {"type": "function", "function": {"name": "get_time"}}
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert body["response_format"]["json_schema"]["strict"] is True


def test_openai_thinking_switch_joins_other_template_arguments() -> None:
    body = openai.encode_request(asking(think=False, extra={"chat_template_kwargs": {"x": 1}}))
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "x": 1}
    decoded = openai.decode_request(body)
    assert (decoded.think, decoded.extra) == (False, {"chat_template_kwargs": {"x": 1}})


def test_openai_errors_of_tools_are_said_in_the_text() -> None:
    body = openai.encode_request(asking(*tool_turn(is_error=True, content="no such zone")))
    assert body["messages"][-1]["content"] == "Error: no such zone"


def test_openai_decodes_what_other_clients_send() -> None:
    decoded = openai.decode_request(
        {
            "model": "m",
            "max_completion_tokens": 9,
            "stop": "END",
            "store": False,
            "tool_choice": None,
            "messages": [
                {"role": "developer", "content": "be brief"},
                {"role": "system", "content": [{"type": "text", "text": "be kind"}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "look"},
                        {"type": "image_url", "image_url": {"url": "data:…"}},
                        {"type": "input_audio", "input_audio": {}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "reasoning": "hm",
                    "tool_calls": [
                        {"function": {"name": "f", "arguments": {"x": 1}}},
                        {"id": "b", "function": {"name": "g", "arguments": ""}},
                    ],
                },
                {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "2"}]},
                {"role": "tool", "content": "1"},
                {"role": "system", "content": "now hurry"},
            ],
        }
    )
    assert decoded.system == "be brief\n\nbe kind"
    assert (decoded.max_tokens, decoded.stop, decoded.stream) == (9, ("END",), False)
    assert decoded.extra == {"store": False}
    look, assistant, results, hurry = decoded.messages
    assert look == user("look", "[image]", "[input_audio]")
    assert assistant.blocks == (
        ThinkingBlock(text="hm"),
        ToolCall(id="call_0", name="f", raw_arguments='{"x":1}'),
        ToolCall(id="b", name="g", raw_arguments="{}"),
    )
    assert results.blocks == (
        ToolResult(call_id="b", name="g", content="2"),
        ToolResult(call_id="call_0", name="f", content="1"),
    )
    assert hurry.role == "system"


# Anthropic


def test_anthropic_puts_results_before_the_text_of_the_same_turn() -> None:
    body = anthropic.encode_request(asking(*tool_turn(is_error=True), user("and now?")))
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    results = body["messages"][-1]["content"]
    assert [part["type"] for part in results] == ["tool_result", "text"]
    assert results[0]["is_error"] is True
    assert body["messages"][1]["content"][0]["input"] == {"zone": "CET"}


@pytest.mark.parametrize(
    ("mode", "wire"), [("auto", "auto"), ("required", "any"), ("none", "none")]
)
def test_anthropic_has_its_own_words_for_tool_choice(mode: Any, wire: str) -> None:
    body = anthropic.encode_request(asking(tool_choice=ToolChoice(mode=mode)))
    assert body["tool_choice"] == {"type": wire}


def test_anthropic_says_no_parallel_calls_inside_the_tool_choice() -> None:
    body = anthropic.encode_request(asking(parallel_tool_calls=False))
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


def test_anthropic_schema_joins_other_output_settings() -> None:
    body = anthropic.encode_request(
        asking(json_schema={"type": "object"}, extra={"output_config": {"effort": "high"}})
    )
    assert body["output_config"] == {
        "effort": "high",
        "format": {"type": "json_schema", "schema": {"type": "object"}},
    }
    decoded = anthropic.decode_request(body)
    assert decoded.json_schema == {"type": "object"}
    assert decoded.extra == {"output_config": {"effort": "high"}}


def test_anthropic_decodes_what_other_clients_send() -> None:
    decoded = anthropic.decode_request(
        {
            "model": "m",
            "max_tokens": 9,
            "system": [{"type": "text", "text": "be brief", "cache_control": {}}],
            "metadata": {"user_id": "u"},
            "output_format": {"type": "json_schema", "schema": {"type": "array"}},
            "thinking": {"type": "adaptive", "display": "omitted"},
            "tools": [
                {"name": "f", "input_schema": {"$schema": "x"}, "defer_loading": True},
                {"type": "web_search_20250305", "name": "web_search"},
            ],
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "look"}, {"type": "image", "source": {}}],
                },
                {"role": "system", "content": "inline"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "and then"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "a",
                            "content": [
                                {"type": "text", "text": "one"},
                                {"type": "json", "value": {"y": 2}},
                                {"type": "image", "source": {}},
                            ],
                        },
                    ],
                },
            ],
        }
    )
    assert decoded.system == "be brief"
    assert decoded.extra == {"metadata": {"user_id": "u"}}
    assert decoded.json_schema == {"type": "array"}
    assert decoded.think is True
    assert [tool.name for tool in decoded.tools] == ["f"]
    look, inline, assistant, results, then = decoded.messages
    assert look == user("look", "[image]")
    assert (inline.role, inline.text) == ("system", "inline")
    assert assistant.blocks[0] == ThinkingBlock(text="hm", signature="s")
    assert results.blocks == (
        ToolResult(call_id="a", name="f", content='one\n\n{"y":2}\n\n[image]'),
    )
    assert then == user("and then")


# Ollama


def test_ollama_replays_arguments_as_objects_and_names_the_tool() -> None:
    body = ollama.encode_request(asking(*tool_turn()))
    _, assistant, result = body["messages"]
    assert assistant["tool_calls"][0]["function"]["arguments"] == {"zone": "CET"}
    assert result["tool_name"] == "get_time"
    assert result["content"] == "noon"


def test_ollama_sends_an_empty_object_for_arguments_that_do_not_parse() -> None:
    broken = ToolCall(id="a", name="f", raw_arguments='{"x": ')
    body = ollama.encode_request(asking(Message(role="assistant", blocks=(broken,))))
    assert body["messages"][0]["tool_calls"][0]["function"]["arguments"] == {}


def test_ollama_options_hold_the_sampling_and_whatever_was_added() -> None:
    request = asking(
        max_tokens=5, temperature=0.5, seed=1, stop=("END",), extra={"options": {"num_ctx": 8192}}
    )
    body = ollama.encode_request(request)
    assert body["options"] == {
        "num_predict": 5,
        "temperature": 0.5,
        "seed": 1,
        "stop": ["END"],
        "num_ctx": 8192,
    }
    assert ollama.decode_request(body) == request


def test_ollama_has_no_tool_choice() -> None:
    choice = ToolChoice(mode="required")
    request = asking(tools=(WEATHER,), tool_choice=choice, parallel_tool_calls=False)
    assert set(ollama.encode_request(request)) == {"model", "messages", "stream", "tools"}


def test_ollama_ids_are_invented_by_order_and_results_find_their_calls() -> None:
    decoded = ollama.decode_request(
        {
            "model": "m",
            "keep_alive": -1,
            "messages": [
                {"role": "user", "content": "hi", "images": ["aGk="]},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"function": {"name": "f", "arguments": {}}},
                        {"function": {"name": "g", "arguments": {}}},
                    ],
                },
                {"role": "tool", "tool_name": "g", "content": "2"},
                {"role": "tool", "content": "1"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"function": {"name": "f", "arguments": {}}}],
                },
                {"role": "tool", "tool_name": "f", "content": "3"},
            ],
        }
    )
    assert decoded.stream is True
    assert decoded.extra == {"keep_alive": -1}
    assert decoded.messages[0] == user("hi", "[image]")
    found = [
        (block.call_id, block.content)
        for message in decoded.messages
        for block in message.blocks
        if isinstance(block, ToolResult)
    ]
    assert found == [("call_1", "2"), ("call_0", "1"), ("call_2", "3")]


def test_ollama_refuses_arguments_as_a_string_in_the_servers_words() -> None:
    call = {"function": {"name": "f", "arguments": '{"x":1}'}}
    with pytest.raises(ValueError, match="closing '}'"):
        ollama.decode_request(
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [call]}]}
        )


# All

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.floats(allow_nan=True),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "tool_calls", "function", "name"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
keys = st.sampled_from(
    [
        "model",
        "messages",
        "tools",
        "tool_choice",
        "stop",
        "stream",
        "options",
        "format",
        "think",
        "system",
        "thinking",
        "max_tokens",
        "temperature",
        "response_format",
        "output_config",
        "stop_sequences",
        "seed",
    ]
)


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=100, deadline=None)
@given(body=st.dictionaries(keys, anything, max_size=6))
def test_a_body_is_decoded_or_refused_with_a_value_error(dialect: str, body: Any) -> None:
    try:
        request = codec_for(dialect).decode_request(body)
    except ValueError:
        return
    assert isinstance(request, ChatRequest)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_unknown_role_is_refused(dialect: str) -> None:
    body = {"model": "m", "messages": [{"role": "wizard", "content": "hi"}]}
    with pytest.raises(ValueError, match="wizard"):
        codec_for(dialect).decode_request(body)

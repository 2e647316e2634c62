from __future__ import annotations

from typing import Any

import pytest
from bridge_kit import TOOL, Stage

from pytest_agentlimit.bridge.policy import Policy, upstream_request
from pytest_agentlimit.chat import anthropic, codecs, openai
from pytest_agentlimit.chat.messages import Dialect
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.testing import say

USER = {"role": "user", "content": "one"}
ASSISTANT = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "t1", "name": "read", "input": {"path": "a"}}],
}
RESULT = {
    "role": "user",
    "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42", "is_error": True}],
}
NOTE = {"role": "system", "content": "Be brief."}


def sent(body: dict[str, Any], dialect: Dialect = "openai", **policy: Any) -> dict[str, Any]:
    """What an Anthropic request becomes at an upstream of `dialect`."""
    spec = EndpointSpec(name="up", dialect=dialect, base_url="http://127.0.0.1:9", model="")
    body = {"model": "m", "max_tokens": 9} | body
    request = anthropic.decode_request(body)
    asked = upstream_request(request, body, Policy(**policy), "anthropic", spec)
    return codecs.codec_for(dialect).encode_request(asked)


def test_a_real_agents_request_holds_nothing_a_strict_server_refuses() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "$schema": {"type": "string", "cache_control": {"type": "ephemeral"}},
            "kind": {"enum": [{"$schema": 1}], "pattern": "^a", "maxLength": 3},
        },
    }
    body = sent(
        {
            "messages": [USER],
            "context_management": {"edits": []},
            "metadata": {"user_id": "u"},
            "output_config": {"effort": "high"},
            "thinking": {"type": "adaptive", "display": "omitted"},
            "system": [
                {"type": "text", "text": "x-anthropic-billing-header: v=1; cch=abc;"},
                {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}},
            ],
            "tools": [
                {"name": "read", "input_schema": schema, "defer_loading": True},
                {"type": "web_search_20250305", "name": "web_search"},
            ],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            "stop_sequences": ["END"],
            "stream": True,
        }
    )
    properties = {
        "$schema": {"type": "string"},
        "kind": {"enum": [{"$schema": 1}], "pattern": "^a", "maxLength": 3},
    }
    function = {
        "name": "read",
        "description": "",
        "parameters": {"type": "object", "properties": properties},
    }
    assert body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "one"},
        ],
        "max_tokens": 9,
        "parallel_tool_calls": False,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "required",
        "stop": ["END"],
    }


def test_a_system_prompt_that_is_only_the_billing_line_is_gone() -> None:
    body = sent({"messages": [USER], "system": "x-anthropic-billing-header: cch=1"})
    assert [message["role"] for message in body["messages"]] == ["user"]


@pytest.mark.parametrize(
    ("turns", "wanted"),
    [
        ([USER, NOTE], [("user", "one\n\nBe brief.")]),
        ([USER, NOTE, NOTE], [("user", "one\n\nBe brief.\n\nBe brief.")]),
        (
            [USER, ASSISTANT, RESULT, NOTE],
            [("user", "one"), ("assistant", None), ("tool", "Error: 42\n\nBe brief.")],
        ),
        (
            [USER, ASSISTANT, RESULT, NOTE, USER],
            [
                ("user", "one"),
                ("assistant", None),
                ("tool", "Error: 42"),
                ("user", "Be brief.\n\none"),
            ],
        ),
        (
            [USER, {"role": "assistant", "content": "two"}, NOTE],
            [("user", "one"), ("assistant", "two"), ("user", "Be brief.")],
        ),
    ],
)
def test_system_messages_in_the_middle_are_folded_into_a_neighbour(
    turns: list[dict[str, Any]], wanted: list[tuple[str, str | None]]
) -> None:
    body = sent({"messages": turns})
    assert [(turn["role"], turn["content"]) for turn in body["messages"]] == wanted


def test_system_messages_can_go_to_the_head_or_stay() -> None:
    given = {"messages": [USER, NOTE, USER], "system": "Be kind."}
    hoisted = sent(given, system="hoist")["messages"]
    assert [turn["role"] for turn in hoisted] == ["system", "user", "user"]
    assert hoisted[0]["content"] == "Be kind.\n\nBe brief."
    kept = sent(given, system="keep")["messages"]
    assert [turn["role"] for turn in kept] == ["system", "user", "system", "user"]


def test_tools_can_be_stripped() -> None:
    choice = {"type": "any", "disable_parallel_tool_use": True}
    body = sent({"messages": [USER], "tools": [TOOL], "tool_choice": choice}, tools="strip")
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body)


def test_an_overflow_of_ollama_is_asked_to_be_an_error() -> None:
    body = sent({"messages": [USER]}, "ollama")
    assert (body["truncate"], body["shift"]) == (False, False)
    assert body["options"] == {"num_predict": 9}


def test_what_the_dialect_knows_stays_within_it() -> None:
    thinking = {"type": "enabled", "budget_tokens": 2000}
    body = {"messages": [USER], "metadata": {"user_id": "u"}, "thinking": thinking}
    same = sent(body, "anthropic")
    assert (same["metadata"], same["thinking"]) == ({"user_id": "u"}, thinking)
    other = sent(body, "openai")
    assert other["chat_template_kwargs"] == {"enable_thinking": True}
    assert "metadata" not in other


def test_the_endpoints_own_settings_fill_the_gaps() -> None:
    spec = EndpointSpec(
        name="up",
        base_url="http://127.0.0.1:9/v1",
        model="qwen",
        temperature=0.2,
        extra_body={"top_k": 5},
    )
    given = {"model": "m", "messages": [USER], "stream_options": {"include_usage": False}}
    request = openai.decode_request(given)
    asked = openai.encode_request(upstream_request(request, given, Policy(), "openai", spec))
    assert (asked["model"], asked["temperature"], asked["top_k"]) == ("qwen", 0.2, 5)
    assert "max_tokens" not in asked
    warm = request.model_copy(update={"temperature": 0.9, "stream": True})
    asked = openai.encode_request(upstream_request(warm, given, Policy(), "openai", spec))
    assert asked["temperature"] == 0.9
    assert asked["stream_options"] == {"include_usage": True}


def test_thinking_goes_back_to_the_model_that_thought_it(stage: Stage) -> None:
    stage.next = say("Yes.", thinking="Hm.")
    said = stage.messages().json()["content"]
    turns = [USER, {"role": "assistant", "content": said}, USER]
    stage.messages(messages=turns)
    assert stage.sent["messages"][1] == {
        "role": "assistant",
        "content": "Yes.",
        "reasoning_content": "Hm.",
    }


def test_odd_tool_results_arrive_as_text(stage: Stage) -> None:
    content = [{"type": "json", "value": {"a": 1}}, {"type": "image", "source": {}}]
    result = {"type": "tool_result", "tool_use_id": "t1", "content": content}
    turns = [USER, ASSISTANT, {"role": "user", "content": [result]}]
    assert stage.messages(messages=turns).status_code == 200
    assert stage.sent["messages"][-1]["content"] == '{"a":1}\n\n[image]'

from __future__ import annotations

from typing import Any

import pytest

from pytest_agentlimit.chat.findings import found
from pytest_agentlimit.chat.messages import ChatReply, TextBlock, ThinkingBlock, ToolCall, Usage
from pytest_agentlimit.errors import ExpectationFailed, UsageProblem

OSLO = ToolCall(id="a", name="get_weather", raw_arguments='{"city":"Oslo"}')
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def reply(*blocks: Any, **fields: Any) -> ChatReply:
    defaults = {"stop_reason": "end_turn", "curl": "curl http://127.0.0.1/v1 -d @-"}
    return ChatReply(blocks=blocks, **defaults | fields)


def text(said: str, **fields: Any) -> ChatReply:
    return reply(TextBlock(text=said), **fields)


def failure(call: Any, *args: Any) -> ExpectationFailed:
    with pytest.raises(ExpectationFailed) as caught:
        call(*args)
    return caught.value


def test_the_one_call_is_returned() -> None:
    assert reply(OSLO).expect_tool_call("get_weather").arguments["city"] == "Oslo"


def test_a_missing_argument_is_a_failed_expectation() -> None:
    with pytest.raises(ExpectationFailed, match="no argument 'country'"):
        reply(OSLO).expect_tool_call("get_weather").arguments["country"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (text("It is sunny."), "nothing was called"),
        (reply(), "nothing: no text and no call"),
        (reply(OSLO, OSLO), "there were 2 calls"),
        (reply(ToolCall(id="a", name="other")), "another tool was called"),
        (reply(ToolCall(id="a", name="get_weather", raw_arguments="[1]")), "cannot be read"),
    ],
)
def test_what_the_model_did_wrong_is_the_models(given: ChatReply, said: str) -> None:
    error = failure(given.expect_tool_call, "get_weather")
    assert error.blame == "model"
    assert said in str(error)


def test_a_leaked_call_is_the_engines() -> None:
    error = failure(text("{…}", leaked_calls=(OSLO,)).expect_tool_call, "get_weather")
    assert error.blame == "engine"
    assert "the model decided right, the server did not parse it" in str(error)
    assert "get_weather" in str(error)


def test_a_call_the_server_announced_and_lost_is_the_engines() -> None:
    given = reply(findings=(found("tool_stop_without_call"),), stop_reason="tool_use")
    assert failure(given.expect_tool_call, "get_weather").blame == "engine"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (text("It i", stop_reason="max_tokens"), "raise max_tokens"),
        (reply(OSLO, stop_reason="max_tokens"), "cut short"),
        (reply(ThinkingBlock(text="hm"), stop_reason="max_tokens"), "thinking used up"),
        (text("It i", stop_reason="context_overflow"), "context window is full"),
        (reply(OSLO, findings=(found("truncated_arguments"),)), "raise max_tokens"),
    ],
)
def test_a_reply_that_was_cut_short_is_the_configurations(given: ChatReply, said: str) -> None:
    error = failure(given.expect_tool_call, "get_weather")
    assert error.blame == "config"
    assert said in str(error)


def test_a_stream_that_was_cut_is_not_the_configurations() -> None:
    given = text("It i", findings=(found("cut_stream"),))
    assert failure(given.expect_tool_call, "get_weather").blame == "engine"


def test_no_call_is_no_call() -> None:
    text("fine").expect_no_tool_call()
    assert failure(reply(OSLO).expect_no_tool_call).blame == "model"
    assert failure(text("{…}", leaked_calls=(OSLO,)).expect_no_tool_call).blame == "model"


def test_json_is_returned_parsed() -> None:
    given = text('\n {"name": "Ada", "age": 36}\n')
    assert given.expect_json(PERSON) == {"name": "Ada", "age": 36}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('```json\n{"name": "Ada", "age": 36}\n```', "not JSON"),
        ('Here: {"name": "Ada", "age": 36}', "not JSON"),
        ('{"name": "Ada", "age": 36} done', "not JSON"),
        ('{"name": "Ada", "age": NaN}', "NaN is not JSON"),
        ('{"name": "Ada", "age": 1, "age": 2}', "'age' is repeated"),
        ('{"name": "\\ud800", "age": 1}', "surrogate"),
        ("", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 300 + "]" * 300, "nested deeper"),
        ("9" * 10_000, "not JSON"),
        ('{"name": "Ada"}', "'age' is a required property"),
        ('{"name": "Ada", "age": "36"}', "$.age"),
        ('{"name": "Ada", "age": 1, "x": 2}', "'x' was unexpected"),
        ("[]", "not of type 'object'"),
    ],
)
def test_anything_but_strict_json_of_the_schema_fails(said: str, why: str) -> None:
    error = failure(text(said).expect_json, PERSON)
    assert error.blame == "model"
    assert why in str(error)


def test_json_that_was_cut_short_is_the_configurations() -> None:
    given = text('{"name": "A', stop_reason="max_tokens")
    assert failure(given.expect_json, PERSON).blame == "config"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"properties": 7},
        {"$ref": "http://127.0.0.1:9/nowhere.json"},
        {"$ref": "#/$defs/nowhere"},
        "object",
        None,
    ],
)
def test_a_schema_that_is_wrong_is_the_authors(schema: Any) -> None:
    with pytest.raises(UsageProblem, match="schema given to expect_json"):
        text("{}").expect_json(schema)


def test_a_failure_shows_everything_needed_to_act() -> None:
    given = text(
        "no\x1b[31m" + "x" * 5000,
        raw_stop_reason="stop",
        usage=Usage(input_tokens=12, output_tokens=3, reasoning_tokens=1),
        findings=(found("missing_done"),),
    )
    message = str(failure(given.expect_tool_call, "get_weather"))
    assert "expected exactly one call of the tool 'get_weather'" in message
    assert "blame: model" in message
    assert "stop reason: end_turn (sent as 'stop'), 12 tokens in and 3 tokens out" in message
    assert "findings: missing_done" in message
    assert message.splitlines()[-1] == "repeat it: curl http://127.0.0.1/v1 -d @-"
    assert "\x1b" not in message
    assert len(message) < 1500


def test_counts_that_were_not_reported_are_said_to_be_missing() -> None:
    assert "token counts not reported" in str(failure(text("no").expect_tool_call, "f"))

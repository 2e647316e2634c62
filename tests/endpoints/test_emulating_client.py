from __future__ import annotations

import json

import pytest

from pytest_agentlimit.chat.messages import (
    ChatRequest,
    Message,
    TextBlock,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.known_faults import KnownFault, KnownFaults, Preflight
from pytest_agentlimit.endpoints.resolve import resolve
from pytest_agentlimit.endpoints.timing import Exchange
from pytest_agentlimit.errors import StreamFailure, UsageProblem
from pytest_agentlimit.testing import ScriptedEndpoint, say

WEATHER = Tool("get_weather", "Weather of a city", {"type": "object", "properties": {}})
CALL = {"name": "get_weather", "arguments": {"city": "Oslo"}}
ONE = json.dumps({"tool_calls": [CALL]})
DIALECTS = ["openai", "anthropic", "ollama"]

both_forms = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def ask(*more: Message, **fields: object) -> ChatRequest:
    user = Message(role="user", blocks=(TextBlock(text="hi"),))
    given = {"model": "", "messages": (user, *more), "tools": (WEATHER,), **fields}
    return ChatRequest.model_validate(given)


@both_forms
@every_dialect
def test_calls_are_made_out_and_the_evidence_is_kept(dialect, stream):
    exchanges: list[Exchange] = []
    with (
        ScriptedEndpoint([say(ONE, thinking="It is Oslo.")], dialect=dialect) as server,
        EndpointClient(server.endpoint(tools="emulate"), on_exchange=exchanges.append) as client,
    ):
        reply = client.send(ask(stream=stream))
        (sent,) = server.requests
    call = reply.expect_tool_call("get_weather")
    assert call.arguments == {"city": "Oslo"}
    assert (reply.stop_reason, reply.verdict) == ("tool_use", "call")
    assert (reply.text, reply.thinking, reply.findings) == ("", "It is Oslo.", ())
    assert "tools" not in sent.body
    assert "Weather of a city" in json.dumps(sent.body)
    assert b"tool_calls" in reply.raw
    assert "Weather of a city" in reply.curl
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (10, 5)
    assert reply.timing.first_tool_s is None
    assert (reply.timing.ttft_s is not None) is stream
    (exchange,) = exchanges
    assert exchange.reply == reply
    assert exchange.request is not None
    assert exchange.request.tools == (WEATHER,)


@every_dialect
def test_a_second_turn_tells_the_result_as_text(dialect):
    call = ToolCall(id="c1", name="get_weather", raw_arguments='{"city": "Oslo"}')
    past = (
        Message(role="assistant", blocks=(call,)),
        Message(role="tool", blocks=(ToolResult(call_id="c1", content="Snow."),)),
    )
    with (
        ScriptedEndpoint([say('{"answer":"It snows."}')], dialect=dialect) as server,
        EndpointClient(server.endpoint(tools="emulate")) as client,
    ):
        reply = client.send(ask(*past))
        (seen,) = server.chat_requests
    assert (reply.text, reply.stop_reason, reply.tool_calls) == ("It snows.", "end_turn", ())
    assert [turn.role for turn in seen.messages] == ["user", "assistant", "user"]
    assert json.loads(seen.messages[1].text) == {"tool_calls": [CALL]}
    assert seen.messages[2].text == "[result of get_weather, call c1]\nSnow."


@both_forms
def test_a_call_in_prose_is_none_and_a_quoted_one_is_an_answer(stream):
    replies = [say(f"I call {json.dumps(CALL)}"), say(json.dumps({"answer": json.dumps(CALL)}))]
    with (
        ScriptedEndpoint(replies) as server,
        EndpointClient(server.endpoint(tools="emulate")) as client,
    ):
        prose, quoted = client.send(ask(stream=stream)), client.send(ask(stream=stream))
    assert prose.verdict == "no_call"
    assert [finding.code for finding in prose.findings] == ["emulation_unparsed"]
    assert [finding.blame for finding in prose.findings] == ["model"]
    assert (quoted.verdict, quoted.text) == ("no_call", json.dumps(CALL))


def test_a_reply_that_was_cut_short_is_no_call():
    with (
        ScriptedEndpoint([say(ONE[:-3], stop_reason="max_tokens")]) as server,
        EndpointClient(server.endpoint(tools="emulate")) as client,
    ):
        reply = client.send(ask())
    assert (reply.verdict, reply.tool_calls, reply.text) == ("truncated", (), ONE[:-3])


def test_a_stream_that_breaks_leaves_its_text_and_no_call():
    call = say(ONE, piece_chars=500).with_(cut_after=1)
    answer = say('{"answer":"It is cold"}', piece_chars=16).with_(cut_after=1)
    partial = []
    with (
        ScriptedEndpoint([call, answer]) as server,
        EndpointClient(server.endpoint(tools="emulate")) as client,
    ):
        for _ in range(2):
            with pytest.raises(StreamFailure) as broken:
                client.send(ask())
            partial.append(broken.value.partial)
    assert [reply.tool_calls for reply in partial] == [(), ()]
    assert [reply.text for reply in partial] == [ONE, "It is"]


def test_without_tools_to_call_the_request_stays_what_it_was():
    with (
        ScriptedEndpoint([say(ONE)]) as server,
        EndpointClient(server.endpoint(tools="emulate")) as emulating,
        EndpointClient(server.endpoint()) as native,
    ):
        reply = emulating.send(ask(tools=(), system="Be kind."))
        native.send(ask(tools=(), system="Be kind."))
        none = emulating.send(ask(tool_choice=ToolChoice(mode="none")))
        first, second, third = server.requests
    assert first.body == second.body
    assert (reply.text, none.text, none.tool_calls) == (ONE, ONE, ())
    assert not {"tools", "tool_choice", "response_format"} & set(third.body)


def test_the_model_table_has_the_key(tmp_path):
    table = '[models.weak]\nbase_url = "http://127.0.0.1:9/v1"\n'
    file = tmp_path / "agentlimit.toml"
    file.write_text(f'{table}tools = "emulate"\n')
    assert resolve("weak", root=tmp_path, environ={}, probes=[]).tools == "emulate"
    file.write_text(table)
    assert resolve("weak", root=tmp_path, environ={}, probes=[]).tools == "native"
    file.write_text(f'{table}tools = "pretend"\n')
    with pytest.raises(UsageProblem, match="tools: Input should be 'native' or 'emulate'"):
        resolve("weak", root=tmp_path, environ={}, probes=[])


def test_a_server_known_to_refuse_schemas_is_sent_none():
    fault = KnownFault(
        step="json schema", code="schema_refused", blame="engine", message="HTTP 400"
    )
    with (
        ScriptedEndpoint([say(ONE)]) as server,
        EndpointClient(server.endpoint(tools="emulate")) as client,
    ):
        client.send(ask())
        client.known_faults = KnownFaults(Preflight(mode="quick", faults=(fault,)), pytest.fail)
        client.send(ask()).expect_tool_call("get_weather")
    assert ["response_format" in request.body for request in server.requests] == [True, False]

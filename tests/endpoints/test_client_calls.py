from __future__ import annotations

import json
import threading

import pytest

from pytest_agentlimit.chat.messages import ChatRequest, Message, TextBlock, Tool
from pytest_agentlimit.endpoints.client import EndpointClient, complete_request
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.endpoints.timing import Exchange
from pytest_agentlimit.errors import HTTPFailure, StreamFailure, UsageProblem
from pytest_agentlimit.testing import (
    INVALID_UTF8,
    ScriptedEndpoint,
    call,
    calls,
    drop,
    http_error,
    raw,
    say,
)

DIALECTS = ["openai", "anthropic", "ollama"]
WEATHER = Tool("get_weather", "Weather of a city", {"type": "object", "properties": {}})


def ask(text: str = "hi", **fields: object) -> ChatRequest:
    user = Message(role="user", blocks=(TextBlock(text=text),))
    return ChatRequest.model_validate({"model": "", "messages": (user,), **fields})


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_text_thinking_and_usage_come_through(dialect, stream):
    said = say("Grüße aus Oslo, wo es schneit.", thinking="Where is the user? Oslo, it seems.")
    with (
        ScriptedEndpoint([said], dialect=dialect) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        reply = client.send(ask(stream=stream))
    assert reply.text == "Grüße aus Oslo, wo es schneit."
    assert reply.thinking == "Where is the user? Oslo, it seems."
    assert reply.stop_reason == "end_turn"
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (10, 5)
    assert reply.findings == ()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_parallel_calls_come_through(dialect, stream):
    script = calls(("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Bergen"}))
    with (
        ScriptedEndpoint([script], dialect=dialect) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        reply = client.send(ask(tools=(WEATHER,), stream=stream))
        (request,) = server.chat_requests
    assert [one.arguments["city"] for one in reply.tool_calls] == ["Oslo", "Bergen"]
    assert reply.stop_reason == "tool_use"
    assert request.tools[0].name == "get_weather"
    assert request.stream is stream


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_split_of_the_stream_reads_the_same(dialect):
    said = say("naïve – 東京 🌍", thinking="…")
    with (
        ScriptedEndpoint([said, said.with_(chunk_bytes=1)], dialect=dialect) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        first, second = client.send(ask()), client.send(ask())
    assert second.blocks == first.blocks
    assert second.raw == first.raw


def test_sampling_is_always_sent():
    spec = EndpointSpec(name="m", base_url="http://x/v1", model="m", max_tokens=77)
    sent = complete_request(spec, ask())
    assert (sent.model, sent.max_tokens, sent.temperature, sent.top_p) == ("m", 77, 0.7, 1.0)


def test_anthropic_gets_no_top_p_unless_it_is_asked_for():
    spec = EndpointSpec(name="m", base_url="http://x", model="m", dialect="anthropic")
    assert complete_request(spec, ask()).top_p is None
    assert complete_request(spec.model_copy(update={"top_p": 0.5}), ask()).top_p == 0.5


def test_the_request_wins_over_the_spec_and_zero_is_a_temperature():
    spec = EndpointSpec(
        name="m",
        base_url="http://x/v1",
        model="m",
        temperature=0.3,
        top_p=0.9,
        extra_body={"a": 1, "b": 1},
    )
    sent = complete_request(
        spec, ask(model="other", temperature=0.0, top_p=0.1, max_tokens=5, extra={"b": 2})
    )
    assert (sent.model, sent.temperature, sent.top_p, sent.max_tokens) == ("other", 0.0, 0.1, 5)
    assert sent.extra == {"a": 1, "b": 2}


def test_extra_body_reaches_the_wire():
    with (
        ScriptedEndpoint([say("ok")]) as server,
        EndpointClient(server.endpoint(extra_body={"num_ctx": 4096})) as client,
    ):
        client.send(ask())
        assert server.requests[0].body["num_ctx"] == 4096


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_that_the_server_ignores_is_read_and_found(dialect):
    with (
        ScriptedEndpoint([say("whole", stream=False)], dialect=dialect) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        reply = client.send(ask(stream=True))
    assert reply.text == "whole"
    assert [finding.code for finding in reply.findings] == ["stream_ignored"]
    assert reply.timing.ttft_s is None


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_nobody_asked_for_is_read_and_found(dialect):
    with (
        ScriptedEndpoint([say("in pieces", stream=True)], dialect=dialect) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        reply = client.send(ask(stream=False))
    assert reply.text == "in pieces"
    assert "stream_unasked" in [finding.code for finding in reply.findings]


def test_a_stream_with_the_wrong_content_type_is_known_by_its_first_bytes():
    script = say("sniffed", content_type="text/plain")
    with (
        ScriptedEndpoint([script]) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        assert client.send(ask()).text == "sniffed"


def test_ollama_lines_under_the_type_of_a_whole_reply_are_a_stream():
    script = say("line by line, however it is called", content_type="application/json")
    with (
        ScriptedEndpoint([script], dialect="ollama") as server,
        EndpointClient(server.endpoint()) as client,
    ):
        reply = client.send(ask())
    assert reply.text == "line by line, however it is called"
    assert reply.timing.ttft_s is not None


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_invalid_utf8_is_a_finding_and_no_crash(dialect, stream):
    with (
        ScriptedEndpoint([say(f"caf{INVALID_UTF8}!")], dialect=dialect) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        reply = client.send(ask(stream=stream))
    assert reply.text == "caf\ufffd!"
    assert "invalid_utf8" in [finding.code for finding in reply.findings]
    assert b"caf\xff!" in reply.raw


def test_lone_surrogates_in_a_reply_can_be_encoded_again():
    body = (
        rb'{"choices":[{"message":{"role":"assistant","content":"a\ud800b"},"finish_reason":"stop"'
        rb'}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
    )
    with ScriptedEndpoint([raw(body)]) as server, EndpointClient(server.endpoint()) as client:
        reply = client.send(ask(stream=False))
    assert reply.text == "a\ufffdb"
    assert json.loads(reply.model_dump_json())["blocks"][0]["text"] == "a\ufffdb"


def test_a_connection_is_used_again():
    with (
        ScriptedEndpoint([say("one"), say("two")]) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        first, second = client.send(ask()), client.send(ask(stream=False))
        assert server.connections == 1
    assert first.timing.connect_s is not None
    assert second.timing.connect_s is None


@pytest.mark.parametrize("stream", [True, False])
def test_a_pooled_connection_that_was_dead_is_not_the_servers_failure(stream, caplog):
    seen = []
    with (
        ScriptedEndpoint([say("one"), drop(), say("two")]) as server,
        EndpointClient(server.endpoint(), on_exchange=seen.append) as client,
    ):
        assert client.send(ask(stream=stream)).text == "one"
        assert client.send(ask(stream=stream)).text == "two"
        assert server.connections == 2
    assert [exchange.attempts for exchange in seen] == [1, 2]
    assert "sending again on a new connection" in caplog.text


def test_a_server_that_drops_every_call_is_said_at_once():
    with (
        ScriptedEndpoint([say("one"), drop()]) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        client.send(ask())
        with pytest.raises(StreamFailure, match="without an answer"):
            client.send(ask())
        assert len(server.requests) == 3


def test_several_threads_share_a_client():
    texts: list[str] = []
    with (
        ScriptedEndpoint(lambda request: say(request.messages[-1].text, first_delay_s=0.05)) as s,
        EndpointClient(s.endpoint()) as client,
    ):
        threads = [
            threading.Thread(target=lambda n=n: texts.append(client.send(ask(f"{n}")).text))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(texts) == ["0", "1", "2", "3"]


def test_a_proxy_variable_does_not_swallow_local_calls(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with ScriptedEndpoint([say("direct")]) as server, EndpointClient(server.endpoint()) as client:
        assert client.send(ask()).text == "direct"


def test_an_exchange_is_reported_once_for_success_and_for_failure():
    seen: list[Exchange] = []
    with (
        ScriptedEndpoint([call("get_weather", city="Oslo"), http_error(500)]) as server,
        EndpointClient(server.endpoint(), on_exchange=seen.append) as client,
    ):
        reply = client.send(ask())
        with pytest.raises(HTTPFailure) as failure:
            client.send(ask())
    good, bad = seen
    assert good.reply == reply
    assert good.error is None
    assert good.timing == reply.timing
    assert good.duration_s == pytest.approx(reply.timing.total_s)
    assert good.request.max_tokens == 1024
    assert bad.error is failure.value
    assert bad.reply is None
    assert bad.timing.first_byte_s is not None
    assert bad.ended > bad.started >= good.ended


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "ftp://x/v1", "http://", "http://a:b:c/v1"])
def test_a_base_url_that_is_no_address_is_a_usage_problem(url):
    with pytest.raises(UsageProblem, match="is no http:// or https:// address"):
        EndpointClient(EndpointSpec(name="m", base_url=url, model="m"))


def test_a_password_in_a_base_url_is_refused_and_not_repeated():
    with pytest.raises(UsageProblem, match="api_key_env") as problem:
        EndpointClient(EndpointSpec(name="m", base_url="http://me:hunter2@x/v1", model="m"))
    assert "hunter2" not in str(problem.value)


@pytest.mark.parametrize("value", ["a\r\nx: y", "naïve"])
def test_a_header_that_http_cannot_carry_is_refused(value):
    spec = EndpointSpec(name="m", base_url="http://x/v1", model="m", headers={"x-team": value})
    with pytest.raises(UsageProblem, match="header 'x-team'"):
        EndpointClient(spec)


def test_a_proxy_that_cannot_be_used_is_a_usage_problem(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "nonsense://proxy:1")
    with pytest.raises(UsageProblem, match=r"proxy or certificate settings.*NO_PROXY"):
        EndpointClient(EndpointSpec(name="m", base_url="http://remote.example/v1", model="m"))


def test_evidence_is_bounded_to_both_ends():
    text = "a" * 400_000
    with (
        ScriptedEndpoint([say(text, piece_chars=50_000)]) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        reply = client.send(ask())
    assert reply.text == text
    assert len(reply.raw) < 140_000
    assert b"[...]" in reply.raw
    assert reply.raw.rstrip().endswith(b"[DONE]")


def test_json_probes_read_and_post():
    routes = {"/props": raw(b'{"n_ctx": 8192}'), "/api/show": raw(b'{"ok": true}')}
    with (
        ScriptedEndpoint([say("ok")], routes=routes) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        assert client.get_json("/models")["data"][0]["id"] == "scripted"
        assert client.get_json("/props", from_root=True) == {"n_ctx": 8192}
        assert client.get_json("/api/show", from_root=True, body={"model": "m"}) == {"ok": True}
        assert server.requests[-1].body == {"model": "m"}

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from bridge_kit import HI, TOOL, chunk, stream
from chain_kit import BAD_CALL, SHORT, chained, way

from pytest_agentlimit.bridge.capture import Seen
from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.bridge.serve import Bridge, upstream_spec
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.testing import ScriptedEndpoint, hang, http_error, raw, say


def test_every_endpoint_is_asked_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"A_KEY": "sk-the-key-of-a-0123456789", "B_KEY": "sk-the-key-of-b-0123456789"}
    for variable, key in keys.items():
        monkeypatch.setenv(variable, key)
    specs: list[dict[str, Any]] = [
        {"model": "gpt-a", "api_key_env": "A_KEY", "headers": {"x-team": "red"}},
        {"model": "claude-b", "dialect": "anthropic", "api_key_env": "B_KEY"},
        {"model": "", "dialect": "ollama", "max_tokens": 9},
    ]
    with chained(http_error(500), http_error(500), say("From c."), specs=specs) as chain:
        for path in ("/v1/messages", "/v1/chat/completions"):
            response, _ = chain.ask(path, thinking={"type": "enabled", "budget_tokens": 7})
            assert "From c." in response.text
    paths = [{one.path for one in server.requests} for server in chain.servers]
    assert paths == [{"/v1/chat/completions"}, {"/v1/messages"}, {"/api/chat"}]
    models = [{one.body["model"] for one in server.requests} for server in chain.servers]
    assert models == [{"gpt-a"}, {"claude-b"}, {"m"}]
    first, second, third = (server.requests[0].headers for server in chain.servers)
    assert first["authorization"] == f"Bearer {keys['A_KEY']}"
    assert second["x-api-key"] == keys["B_KEY"]
    for headers, foreign in [(first, "B_KEY"), (second, "A_KEY"), (third, "A_KEY")]:
        assert keys[foreign] not in str(headers)
    assert "x-team" not in second | third
    assert not {"authorization", "x-api-key"} & set(third)


def test_the_capture_and_the_log_tell_of_every_switch_and_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agentlimit")
    keys = {"A_KEY": "sk-the-key-of-a-0123456789", "B_KEY": "sk-the-key-of-b-0123456789"}
    for variable, key in keys.items():
        monkeypatch.setenv(variable, key)
    specs = [{"api_key_env": "A_KEY"}, {"api_key_env": "B_KEY"}]
    echo = f"I know {keys['A_KEY']} and {keys['B_KEY']}"
    replies = [http_error(503, echo), say(echo)]
    capture = tmp_path / "wire.jsonl"
    prompt = [{"role": "user", "content": echo}]
    with chained(*replies, specs=specs, capture=capture) as chain:
        for path in ("/v1/messages", "/v1/chat/completions"):
            chain.ask(path, messages=prompt, streamed=False)
        chain.servers[1].close()
        chain.ask(messages=prompt)
    text = capture.read_text()
    for key in keys.values():
        assert key not in text + caplog.text
    records = [json.loads(line) for line in text.splitlines()]
    assert [one["served_by"] for one in records] == ["b", "b", None]
    assert [(one["name"], one["kind"]) for one in records[0]["attempts"]] == [
        ("a", "overloaded"),
        ("b", None),
    ]
    assert "I know $A_KEY and $B_KEY" in text
    lines = [record.getMessage() for record in caplog.records]
    assert "served by b (a overloaded)" in lines[0]
    assert "served by nobody (a overloaded, b refused)" in lines[2]


def test_names_fit_into_a_header_and_differ(tmp_path: Path) -> None:
    specs = [{"name": "ollama/qwen3:4b\r\nx: y"}, {"name": "ollama/qwen3:4b\r\nx: y"}]
    with chained(http_error(500), say("x"), specs=specs) as chain:
        response, seen = chain.ask()
    assert response.headers["x-agentlimit-served-by"] == "ollama-qwen3-4b-x-y-2"
    assert [name for name, _ in way(seen)] == ["ollama-qwen3-4b-x-y", "ollama-qwen3-4b-x-y-2"]
    spec = upstream_spec("openai+http://127.0.0.1:8001/v1", root=tmp_path, environ={})
    assert (spec.name, spec.model) == ("127.0.0.1-8001", "")


def test_a_bridge_without_fallbacks_says_nothing_of_a_chain() -> None:
    with chained([say("Hi."), http_error(500, "no")]) as chain:
        response, seen = chain.ask()
        assert "x-agentlimit-served-by" not in response.headers
        assert (way(seen), seen.record.served_by) == ([("a", None)], "a")
        response, seen = chain.ask()
        assert response.json()["error"]["message"] == "no"


def test_a_fallback_that_cannot_be_asked_is_said_before_anything_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("B_KEY", raising=False)
    with ScriptedEndpoint([say("x")]) as server:
        spec = server.endpoint()
        with pytest.raises(UsageProblem, match="B_KEY is not set"):
            Bridge(spec, None, [server.endpoint(api_key_env="B_KEY")])
        null = EndpointSpec(name="n", kind="null", base_url="null:", model="parrot")
        with pytest.raises(UsageProblem, match="no address"):
            Bridge(spec, None, [null])


def test_the_models_are_those_of_the_first_that_answers() -> None:
    with chained([hang(), say("x")], say("y")) as chain:
        chain.servers[1].model = "second"
        url = f"{chain.bridge.url}/v1/models"
        assert httpx.get(url).json()["data"][0]["id"] == "scripted"
        chain.ask()
        assert httpx.get(url).json()["data"][0]["id"] == "second"
        assert chain.servers[0].requests[-1].path == "/v1/chat/completions"
        chain.servers[1].close()
        assert httpx.get(url).json()["data"][0]["id"] == "scripted"
        chain.servers[0].close()
        assert httpx.get(url).status_code == 502


def test_the_primarys_tokenizer_counts_and_only_while_it_is_sound() -> None:
    routes = {"/tokenize": raw(b'{"count": 78}')}
    with (
        ScriptedEndpoint([hang()], routes=routes) as first,
        ScriptedEndpoint([say("x")]) as second,
    ):
        specs = [first.endpoint(deadlines=SHORT), second.endpoint()]
        with Bridge(specs[0], None, specs[1:]) as bridge:
            url = f"{bridge.url}/v1/messages"
            assert httpx.post(f"{url}/count_tokens", json=HI).json() == {"input_tokens": 78}
            httpx.post(url, json=HI)
            estimated = httpx.post(f"{url}/count_tokens", json=HI)
    assert estimated.headers["x-agentlimit-tokens"] == "estimated"
    assert [one.path for one in first.requests] == ["/tokenize", "/v1/chat/completions"]


def test_nothing_of_a_chain_is_left_when_it_stops() -> None:
    process = psutil.Process()
    sockets = len(process.net_connections())
    with chained([http_error(500), hang(), say("x")], say("y"), say("z")) as chain:
        for _ in range(3):
            chain.ask()
    assert len(process.net_connections()) == sockets


# the observer


def test_an_observer_sees_each_conversation_once() -> None:
    replies = [say("Hi."), http_error(500, "no"), stream(BAD_CALL, chunk(finish="tool_calls"))]
    with chained(replies, policy=Policy(max_turns=3)) as chain:
        httpx.post(f"{chain.bridge.url}/v1/messages/count_tokens", json=HI)
        _, first = chain.ask(tools=[TOOL])
        _, second = chain.ask("/v1/chat/completions")
        _, third = chain.ask()
        _, limited = chain.ask()
        httpx.post(f"{chain.bridge.url}/v1/messages", content=b"{")
        garbage = chain.seen.get(timeout=10)
    assert chain.seen.empty()
    assert first.request is not None
    assert [tool.name for tool in first.request.tools] == ["read"]
    assert first.record.request["tools"] == [TOOL]
    assert first.started < first.ended < second.started
    assert getattr(second.failure, "status", None) == 500
    assert (third.failure, third.record.error is not None) == (None, True)
    turns = [one.record.turn_limit for one in (first, second, third, limited, garbage)]
    assert turns == [False, False, False, True, False]
    assert (limited.failure, limited.record.attempts, limited.record.status) == (None, (), 400)
    assert (garbage.request, garbage.failure, garbage.record.status) == (None, None, 400)


def test_an_observer_that_fails_costs_nobody_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    def observe(seen: Seen) -> None:
        raise RuntimeError("mine")

    with (
        ScriptedEndpoint([say("Hi.")]) as server,
        Bridge(server.endpoint(), observe=observe) as bridge,
    ):
        for _ in range(2):
            assert httpx.post(f"{bridge.url}/v1/messages", json=HI).status_code == 200
    assert "the observer of the bridge failed" in caplog.text

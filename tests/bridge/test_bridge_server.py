from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from bridge_kit import HI, Stage, events_of, raw

from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.bridge.serve import Bridge, upstream_spec
from pytest_agentlimit.endpoints.spec import Deadlines
from pytest_agentlimit.errors import ModelNotFound, UsageProblem
from pytest_agentlimit.testing import (
    ScriptedEndpoint,
    drop,
    endless,
    hang,
    html,
    http_error,
    say,
)

TOKEN = "token-of-the-bridge-0123"


# what is no conversation


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/messages", 405),
        ("DELETE", "/v1/chat/completions", 405),
        ("POST", "/", 405),
        ("POST", "/v1/responses", 404),
        ("GET", "/v1/messages/", 404),
        ("GET", "/favicon.ico", 404),
    ],
)
@pytest.mark.parametrize("anthropic", [True, False])
def test_unknown_routes_and_methods(
    stage: Stage, method: str, path: str, status: int, anthropic: bool
) -> None:
    headers = {"anthropic-version": "2023-06-01"} if anthropic else {}
    response = stage.http.request(method, path, headers=headers)
    assert response.status_code == status
    error = response.json()
    if anthropic or path.startswith("/v1/messages"):
        assert error["type"] == "error"
        wanted = "not_found_error" if status == 404 else "invalid_request_error"
        assert error["error"]["type"] == wanted
    else:
        assert error["error"]["code"] == status
    assert path in error["error"]["message"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_root_answers(stage: Stage, method: str) -> None:
    response = stage.http.request(method, "/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "not an object"),
        (b"{}", "at least one message"),
        (b'{"messages": "hi"}', "messages"),
        (b'{"messages": [{"role": "wizard", "content": ""}]}', "wizard"),
        (b'{"messages": [], "system": "x", "temperature": "hot"}', "temperature"),
    ],
)
def test_a_body_that_is_no_request(stage: Stage, path: str, body: bytes, word: str) -> None:
    response = stage.http.post(path, content=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert word in error["message"]
    assert "\n" not in error["message"]


def test_what_is_wrong_is_said_in_the_openai_shape_too(stage: Stage) -> None:
    path = "/v1/chat/completions"
    for body, status, word in [
        (b"{", 400, "not JSON"),
        (b'{"model": "m"}', 400, "at least one message"),
        (b" " * 50_000_000, 413, "larger than 32,000,000 bytes"),
    ]:
        response = stage.http.post(path, content=body)
        assert response.status_code == status
        error = response.json()["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", status)
        assert word in error["message"]
    stage.next = http_error(404, "the model m does not exist")
    unknown = stage.chat()
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
    assert "does not exist" in unknown.json()["error"]["message"]


def test_unknown_keys_and_betas_are_accepted(stage: Stage) -> None:
    body = HI | {"wonder": {"a": [1]}, "stream": True}
    headers = {"anthropic-beta": "a-2025-01-01,b-2025-02-02"}
    response = stage.http.post("/v1/messages?beta=true", json=body, headers=headers)
    assert response.status_code == 200
    assert events_of(response)[-1] == {"type": "message_stop"}


def test_a_large_body_is_refused_while_it_is_read() -> None:
    with Stage(policy=Policy(max_body=1_000_000)).open() as stage:
        before = psutil.Process().memory_info().rss
        taken = 0

        def pieces() -> Any:
            nonlocal taken
            for _ in range(50):
                taken += 1_000_000
                yield b" " * 1_000_000

        response = stage.http.post("/v1/messages", content=pieces())
        assert response.status_code == 413
        assert response.json()["error"]["type"] == "request_too_large"
        declared = stage.http.post("/v1/messages", content=b" " * 1_000_001)
        assert declared.status_code == 413
        assert psutil.Process().memory_info().rss - before < 30_000_000
        assert stage.messages().status_code == 200
        assert len(stage.upstream.requests) == 1


# who may ask, and how often


def test_a_token_is_asked_of_everybody() -> None:
    with Stage(policy=Policy(token=TOKEN)).open() as stage:
        for shown in ({}, {"x-api-key": "wrong"}, {"authorization": "Basic " + TOKEN}):
            response = stage.http.post("/v1/messages", json=HI, headers=shown)
            assert response.status_code == 401
            assert response.json()["error"]["type"] == "authentication_error"
        assert stage.http.get("/v1/models").status_code == 401
        assert stage.http.get("/").status_code == 200
        assert stage.upstream.requests == []
        for shown in ({"x-api-key": TOKEN}, {"authorization": f"Bearer {TOKEN}"}):
            assert stage.http.post("/v1/messages", json=HI, headers=shown).status_code == 200


def test_other_hosts_need_a_token() -> None:
    with ScriptedEndpoint([say("x")]) as upstream:
        with pytest.raises(UsageProblem, match="--token"):
            Bridge(upstream.endpoint(), host="0.0.0.0")
        with Bridge(upstream.endpoint(), Policy(token=TOKEN), host="0.0.0.0") as bridge:
            assert httpx.get(f"http://127.0.0.1:{bridge.port}/").status_code == 200


def test_turns_are_limited() -> None:
    with Stage(policy=Policy(max_turns=2)).open() as stage:
        assert stage.http.post("/v1/messages/count_tokens", json=HI).status_code == 200
        assert [stage.messages().status_code, stage.chat().status_code] == [200, 200]
        refused = stage.messages()
        assert refused.status_code == 400
        assert refused.json()["error"]["type"] == "invalid_request_error"
        assert "turn limit" in refused.json()["error"]["message"]


def test_a_port_in_use_is_said_in_one_line() -> None:
    with ScriptedEndpoint([say("x")]) as upstream, pytest.raises(UsageProblem) as caught:
        Bridge(upstream.endpoint(), port=upstream.port)
    assert f"port {upstream.port}: Address already in use" in str(caught.value)


def test_a_missing_key_is_said_before_anything_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UP_KEY", raising=False)
    with (
        ScriptedEndpoint([say("x")]) as upstream,
        pytest.raises(UsageProblem, match="UP_KEY is not set"),
    ):
        Bridge(upstream.endpoint(api_key_env="UP_KEY"))


def test_an_address_without_a_model_asks_for_the_clients(tmp_path: Path) -> None:
    with ScriptedEndpoint([say("x")]) as upstream:
        spec = upstream_spec(f"openai+{upstream.url}", root=tmp_path, environ={})
        with Bridge(spec) as bridge:
            httpx.post(f"{bridge.url}/v1/messages", json=HI | {"model": "claude-x"})
        assert upstream.requests[0].body["model"] == "claude-x"
        named = upstream_spec(f"openai+{upstream.url}#qwen", root=tmp_path, environ={})
        assert named.model == "qwen"
        with pytest.raises(ModelNotFound):
            upstream_spec("nobody", root=tmp_path, environ={"AGENTLIMIT": ""})


def test_a_null_model_has_no_address(tmp_path: Path) -> None:
    spec = upstream_spec("null:parrot", root=tmp_path, environ={})
    with pytest.raises(UsageProblem, match="no address"):
        Bridge(spec)


# an upstream that fails


def test_an_upstream_that_is_down() -> None:
    stage = Stage()
    with stage.open():
        stage.upstream.close()
        response = stage.messages(stream=True)
        assert response.status_code == 502
        assert "refused the connection" in response.json()["error"]["message"]
        assert stage.http.get("/v1/models").status_code == 502
        counted = stage.http.post("/v1/messages/count_tokens", json=HI)
        assert counted.json() == {"input_tokens": 1}
        assert counted.headers["x-agentlimit-tokens"] == "estimated"


@pytest.mark.parametrize("streamed", [True, False])
def test_a_page_or_a_closed_connection_is_502(stage: Stage, streamed: bool) -> None:
    for reply, word in [(html(), "web page"), (drop(), "closed the connection")]:
        stage.next = reply
        response = stage.messages(stream=streamed)
        assert response.status_code == 502
        assert response.json()["error"]["type"] == "api_error"
        assert word in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_deadlines(path: str) -> None:
    limits = Deadlines(first_byte_s=1.0, between_chunks_s=0.2)
    stalled = say("a long story", piece_chars=2, stall_after=2)
    with ScriptedEndpoint([hang(), stalled]) as upstream:
        spec = upstream.endpoint(deadlines=limits)
        with Bridge(spec) as bridge:
            hung = httpx.post(bridge.url + path, json=HI | {"stream": True})
            assert hung.status_code == 504
            assert "(hung)" in hung.json()["error"]["message"]
            events = events_of(httpx.post(bridge.url + path, json=HI | {"stream": True}))
    assert "(stalled)" in events[-1]["error"]["message"]


def test_the_total_deadline_ends_an_endless_reply() -> None:
    limits = Deadlines(total_s=1.0)
    with ScriptedEndpoint([endless(0.05)]) as upstream:
        spec = upstream.endpoint(deadlines=limits, max_reply_bytes=10**9)
        with Bridge(spec) as bridge:
            events = events_of(httpx.post(f"{bridge.url}/v1/messages", json=HI | {"stream": True}))
    assert events[-1]["type"] == "error"
    assert "(slow)" in events[-1]["error"]["message"]


# counting


@pytest.mark.parametrize(
    ("dialect", "routes", "wanted"),
    [
        ("anthropic", {"/v1/messages/count_tokens": raw(b'{"input_tokens": 77}')}, 77),
        ("openai", {"/tokenize": raw(b'{"count": 78, "tokens": [1]}')}, 78),
        (
            "openai",
            {
                "/tokenize": raw(b'{"tokens": [1, 2, 3]}'),
                "/apply-template": raw(b'{"prompt": "<|im_start|>"}'),
            },
            3,
        ),
    ],
)
def test_the_upstreams_tokenizer_counts(dialect: Any, routes: Any, wanted: int) -> None:
    with (
        ScriptedEndpoint([say("x")], dialect=dialect, routes=routes) as upstream,
        Bridge(upstream.endpoint()) as bridge,
    ):
        counted = httpx.post(f"{bridge.url}/v1/messages/count_tokens", json=HI)
    assert counted.json() == {"input_tokens": wanted}
    assert "x-agentlimit-tokens" not in counted.headers


def test_a_missing_tokenizer_is_asked_for_once(stage: Stage) -> None:
    with Stage().open() as fresh:
        for _ in range(3):
            fresh.http.post("/v1/messages/count_tokens", json=HI)
        assert [one.path for one in fresh.upstream.requests] == ["/tokenize"]

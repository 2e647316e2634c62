from __future__ import annotations

import doctest
import http.client
import json
import threading

import pytest
from pydantic import ValidationError

import pytest_agentlimit.testing
from pytest_agentlimit.testing import (
    FakeClock,
    Scripted,
    ScriptedEndpoint,
    call,
    calls,
    drop,
    endless,
    hang,
    html,
    http_error,
    raw,
    say,
)

BODIES = {
    "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/messages": {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
    },
    "/api/chat": {"model": "m", "stream": False, "messages": [{"role": "user", "content": "hi"}]},
}


def request(
    server: ScriptedEndpoint, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, sent, headers)
        response = connection.getresponse()
        return response.status, response.headers.get("content-type", ""), response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", BODIES)
def test_every_dialect_is_answered_on_its_path(path):
    with ScriptedEndpoint([say("hello")]) as server:
        status, kind, body = request(server, "POST", path, BODIES[path])
        assert server.chat_requests[0].messages[0].text == "hi"
    assert (status, kind) == (200, "application/json")
    assert b"hello" in body


@pytest.mark.parametrize("path", BODIES)
def test_a_stream_ends_properly(path):
    with ScriptedEndpoint([say("hello there, you")]) as server:
        status, kind, body = request(server, "POST", path, {**BODIES[path], "stream": True})
    assert status == 200
    assert kind == ("application/x-ndjson" if path == "/api/chat" else "text/event-stream")
    ends = {"/v1/messages": b"message_stop", "/api/chat": b'"done":true'}
    assert ends.get(path, b"[DONE]") in body.replace(b" ", b"")


def test_the_last_reply_repeats():
    with ScriptedEndpoint([say("one"), say("two")]) as server:
        path = "/v1/chat/completions"
        answers = [request(server, "POST", path, BODIES[path])[2] for _ in range(3)]
    assert [b"one" in answer for answer in answers] == [True, False, False]
    assert b"two" in answers[2]


def test_a_script_cannot_be_empty():
    with pytest.raises(ValueError, match="at least one reply"):
        ScriptedEndpoint([])


def test_a_function_sees_the_request_and_its_failure_is_kept():
    def reply(asked: object) -> Scripted:
        raise RuntimeError("no idea")

    path = "/v1/chat/completions"
    with ScriptedEndpoint(reply) as server:
        status, _, body = request(server, "POST", path, BODIES[path])
        assert [str(problem) for problem in server.problems] == ["no idea"]
    assert status == 500
    assert b"no idea" in body


def test_requests_are_captured_with_lower_case_headers():
    path = "/v1/chat/completions"
    with ScriptedEndpoint([say("ok")]) as server:
        request(server, "POST", f"{path}?beta=true", BODIES[path], **{"X-Team": "Red"})
        request(server, "GET", "/v1/models")
        posted, got = server.requests
    assert (posted.method, posted.path) == ("POST", f"{path}?beta=true")
    assert posted.headers["x-team"] == "Red"
    assert posted.body == BODIES[path]
    assert (got.method, got.body) == ("GET", None)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/api/tags", 200),
        ("GET", "/api/version", 404),
        ("POST", "/chat/completions", 404),
        ("GET", "/nowhere", 404),
    ],
)
def test_routes(method, path, status):
    with ScriptedEndpoint([say("ok")], model="mine") as server:
        answered, _, body = request(server, method, path, {} if method == "POST" else None)
    assert answered == status
    if path in ("/v1/models", "/api/tags"):
        assert b'"mine"' in body


@pytest.mark.parametrize("body", [b"", b"not json", b"[1]", b'{"messages": 3}'])
def test_a_bad_request_gets_400(body):
    with ScriptedEndpoint([say("ok")]) as server:
        status, _, _ = request(server, "POST", "/v1/chat/completions", body)
    assert status == 400


def test_routes_can_be_replaced():
    with ScriptedEndpoint([say("ok")], routes={"/v1/models": html()}) as server:
        status, kind, body = request(server, "GET", "/v1/models")
    assert status == 200
    assert kind.startswith("text/html")
    assert b"<title>" in body


def test_a_key_can_be_asked_for():
    with ScriptedEndpoint([say("ok")], api_key="sk-1") as server:
        assert request(server, "GET", "/v1/models")[0] == 401
        assert request(server, "GET", "/v1/models", authorization="Bearer sk-1")[0] == 200
        assert request(server, "GET", "/v1/models", **{"x-api-key": "sk-1"})[0] == 200


@pytest.mark.parametrize(
    ("dialect", "form"),
    [
        ("openai", "openai+http://127.0.0.1:{port}/v1#scripted"),
        ("anthropic", "anthropic+http://127.0.0.1:{port}#scripted"),
        ("ollama", "ollama+http://127.0.0.1:{port}#scripted"),
    ],
)
def test_the_spec_is_a_literal_model_name(dialect, form):
    with ScriptedEndpoint([say("ok")], dialect=dialect) as server:
        assert server.spec == form.format(port=server.port)
        assert server.endpoint(retries=2).retries == 2


@pytest.mark.parametrize("path", BODIES)
def test_errors_wear_the_shape_of_the_dialect(path):
    with ScriptedEndpoint([http_error(429, "slow down", retry_after="3")]) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("POST", path, json.dumps(BODIES[path]))
        response = connection.getresponse()
        assert (response.status, response.headers["retry-after"]) == (429, "3")
        assert "slow down" in json.dumps(json.loads(response.read()))
        connection.close()


def test_a_reply_is_streamed_in_pieces_and_one_end():
    said = say("abcdefghij", piece_chars=4)
    path = "/v1/chat/completions"
    with ScriptedEndpoint([said.with_(cut_after=3)]) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("POST", path, json.dumps({**BODIES[path], "stream": True}))
        response = connection.getresponse()
        with pytest.raises(http.client.IncompleteRead) as cut:
            response.read()
        connection.close()
    sent = cut.value.partial
    assert all(piece in sent for piece in (b'"abcd"', b'"efgh"', b'"ij"'))
    assert b"[DONE]" not in sent


def test_arguments_go_out_as_written():
    script = calls(("f", '{"a": '), ("g", {"b": 1}))
    assert [block.raw_arguments for block in script.blocks] == ['{"a": ', '{"b": 1}']
    assert call("f", a=1).blocks[0].raw_arguments == '{"a": 1}'


def test_a_misspelt_misbehaviour_is_an_error():
    with pytest.raises(ValidationError):
        say("x", cut_afer=1)
    with pytest.raises(ValidationError):
        say("x").with_(stall=1)


@pytest.mark.parametrize(
    "script", [hang(), say("x", stall_after=1), endless(0.01), endless(), say("x")]
)
def test_close_leaves_no_thread_and_no_listener(script):
    before = set(threading.enumerate())
    path = "/v1/chat/completions"
    server = ScriptedEndpoint([script])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("POST", path, json.dumps({**BODIES[path], "stream": True}))
    while not server.chat_requests:
        pass
    server.close()
    server.close()
    connection.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        request(server, "GET", "/")


def test_a_dropped_request_gets_no_answer():
    path = "/v1/chat/completions"
    with (
        ScriptedEndpoint([drop()]) as server,
        pytest.raises(http.client.RemoteDisconnected),
    ):
        request(server, "POST", path, BODIES[path])


def test_raw_bytes_go_out_verbatim():
    path = "/v1/chat/completions"
    with ScriptedEndpoint([raw(b"\x00\xff", "text/plain", status=418)]) as server:
        assert request(server, "POST", path, BODIES[path]) == (418, "text/plain", b"\x00\xff")


def test_the_fake_clock_moves_only_when_told():
    clock = FakeClock(10)
    assert (clock(), clock()) == (10, 10)
    clock.advance(2)
    clock.sleep(0.5)
    assert clock() == 12.5


def test_the_example_in_the_documentation_runs():
    assert doctest.testmod(pytest_agentlimit.testing).failed == 0
    assert doctest.testmod(pytest_agentlimit.testing).attempted > 0

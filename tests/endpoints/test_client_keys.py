from __future__ import annotations

import json
import logging
import shlex
import subprocess
import sys
import traceback

import pytest

from pytest_agentlimit.chat.messages import ChatRequest, Message, TextBlock
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.endpoints.timing import Exchange
from pytest_agentlimit.errors import EndpointError, HTTPFailure, UsageProblem
from pytest_agentlimit.testing import (
    FakeClock,
    ScriptedEndpoint,
    call,
    drop,
    html,
    http_error,
    raw,
    say,
)

SENTINEL = "sk-sentinel-4f0c9a7be2d14c55"
HEADER_SENTINEL = "tok-sentinel-99aa88bb77cc66dd"
DIALECTS = ["openai", "anthropic", "ollama"]


def ask(text: str = "hi", stream: bool = True) -> ChatRequest:
    user = Message(role="user", blocks=(TextBlock(text=text),))
    return ChatRequest(model="", messages=(user,), stream=stream)


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("SCRIPTED_KEY", SENTINEL)
    return "SCRIPTED_KEY"


@pytest.mark.parametrize(
    ("dialect", "header", "value"),
    [
        ("openai", "authorization", f"Bearer {SENTINEL}"),
        ("anthropic", "x-api-key", SENTINEL),
        ("ollama", "authorization", f"Bearer {SENTINEL}"),
    ],
)
def test_the_key_is_sent_as_the_dialect_wants_it(key, dialect, header, value):
    with (
        ScriptedEndpoint([say("ok")], dialect=dialect, api_key=SENTINEL) as server,
        EndpointClient(server.endpoint(api_key_env=key)) as client,
    ):
        assert client.send(ask()).text == "ok"
        headers = server.requests[0].headers
    assert headers[header] == value
    assert headers.get("anthropic-version") == ("2023-06-01" if dialect == "anthropic" else None)


def test_the_key_is_read_when_a_request_is_sent(key, monkeypatch):
    with (
        ScriptedEndpoint([say("ok")], api_key="sk-rotated") as server,
        EndpointClient(server.endpoint(api_key_env=key)) as client,
    ):
        monkeypatch.setenv(key, "sk-rotated")
        assert client.send(ask()).text == "ok"


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_variable_is_named_before_anything_is_sent(monkeypatch, value):
    monkeypatch.delenv("SCRIPTED_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SCRIPTED_KEY", value)
    seen: list[Exchange] = []
    with (
        ScriptedEndpoint([say("ok")]) as server,
        EndpointClient(
            server.endpoint(api_key_env="SCRIPTED_KEY"), on_exchange=seen.append
        ) as client,
    ):
        with pytest.raises(UsageProblem, match=r"SCRIPTED_KEY is not set.*export SCRIPTED_KEY="):
            client.send(ask())
        assert server.requests == []
    assert seen == []


@pytest.mark.parametrize("value", [f"{SENTINEL}\nx: y", f"{SENTINEL}\u2013"])
def test_a_key_that_no_header_can_carry_is_not_quoted(monkeypatch, value):
    monkeypatch.setenv("SCRIPTED_KEY", value)
    spec = EndpointSpec(
        name="m", base_url="http://127.0.0.1:9/v1", model="m", api_key_env="SCRIPTED_KEY"
    )
    with EndpointClient(spec) as client, pytest.raises(UsageProblem) as problem:
        client.send(ask())
    assert "SCRIPTED_KEY" in str(problem.value)
    assert SENTINEL not in str(problem.value)


def test_a_key_put_where_its_variables_name_belongs_is_not_quoted():
    spec = EndpointSpec(name="m", base_url="http://127.0.0.1:9/v1", model="m", api_key_env=SENTINEL)
    with EndpointClient(spec) as client, pytest.raises(UsageProblem) as problem:
        client.send(ask())
    assert "name of an environment variable" in str(problem.value)
    assert SENTINEL not in str(problem.value)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_refused_key_names_its_variable(key, dialect):
    with (
        ScriptedEndpoint([say("ok")], dialect=dialect, api_key="another") as server,
        EndpointClient(server.endpoint(api_key_env=key)) as client,
        pytest.raises(HTTPFailure) as failure,
    ):
        client.send(ask())
    assert failure.value.kind == "auth"
    assert "environment variable SCRIPTED_KEY" in str(failure.value)


def test_a_wanted_key_that_was_not_sent_says_where_to_name_it():
    with (
        ScriptedEndpoint([say("ok")], api_key="wanted") as server,
        EndpointClient(server.endpoint()) as client,
        pytest.raises(HTTPFailure, match="api_key_env"),
    ):
        client.send(ask())


def echo_body(stream: bool) -> bytes:
    text = f"your headers were: Bearer {SENTINEL} {HEADER_SENTINEL}"
    if stream:
        chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}
        return f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_key_is_nowhere_to_be_found(key, caplog, dialect, stream):
    echo = f"Incorrect API key provided: {SENTINEL}; token {HEADER_SENTINEL}"
    script = [
        say("ok"),
        call("f", a=1),
        http_error(401, echo),
        http_error(500, echo),
        http_error(500, echo),
        raw(echo.encode()),
        raw(f"<title>{echo}</title>".encode(), "text/html"),
        raw(b"", status=307).with_(headers={"location": f"http://x/?key={SENTINEL}"}),
        drop(),
        html(),
    ]
    if dialect == "openai":
        kind = "text/event-stream" if stream else "application/json"
        script.append(raw(echo_body(stream), kind))
    clock, seen = FakeClock(), list[Exchange]()
    shown: list[str] = []
    with ScriptedEndpoint(script, dialect=dialect) as server:
        spec = server.endpoint(
            api_key_env=key, headers={"x-gateway-token": HEADER_SENTINEL}, retries=1
        )
        client = EndpointClient(spec, clock=clock, sleep=clock.sleep, on_exchange=seen.append)
        with client, caplog.at_level(logging.DEBUG, logger="agentlimit"):
            while len(server.chat_requests) < len(script):
                try:
                    reply = client.send(ask(stream=stream))
                    shown += [repr(reply), reply.curl, reply.model_dump_json(), repr(reply.raw)]
                except EndpointError as error:
                    shown += [str(error), repr(error), repr(error.partial)]
                    shown += traceback.format_exception(error)
        shown += [repr(client), repr(vars(client))]
    shown += [repr(exchange) for exchange in seen] + [caplog.text]
    assert len(seen) >= 8
    assert SENTINEL not in "".join(shown)
    assert HEADER_SENTINEL not in "".join(shown)
    assert "$SCRIPTED_KEY" in "".join(shown)


def test_a_placeholder_key_is_not_cut_out_of_what_the_model_wrote(monkeypatch):
    monkeypatch.setenv("SCRIPTED_KEY", "ollama")
    with (
        ScriptedEndpoint([say("I run on ollama.")]) as server,
        EndpointClient(server.endpoint(api_key_env="SCRIPTED_KEY")) as client,
    ):
        assert client.send(ask()).text == "I run on ollama."


def test_locals_in_a_traceback_do_not_show_the_key(key):
    with (
        ScriptedEndpoint([http_error(500), drop()]) as server,
        EndpointClient(server.endpoint(api_key_env=key)) as client,
    ):
        for _ in range(2):
            with pytest.raises(EndpointError) as failure:
                client.send(ask())
            shown = traceback.TracebackException.from_exception(failure.value, capture_locals=True)
            assert SENTINEL not in "".join(shown.format())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_curl_command_repeats_the_request(key, dialect):
    prompt = 'it\'s "quoted" $HOME `id` \\ \n naïve \x1b[31m'
    with (
        ScriptedEndpoint([say("ok")], dialect=dialect, api_key=SENTINEL) as server,
        EndpointClient(server.endpoint(api_key_env=key, headers={"x-team": "a b"})) as client,
    ):
        curl = client.send(ask(prompt, stream=False)).curl
        # `sh` with curl replaced by a program that prints its arguments: what curl would be given.
        show = "import json, sys; print(json.dumps(sys.argv[1:]))"
        script = f'curl() {{ {shlex.quote(sys.executable)} -c {shlex.quote(show)} "$@"; }}\n{curl}'
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        sent = server.requests[0]
    arguments = json.loads(done.stdout)
    assert arguments[0] == "-sS"
    assert arguments[1].endswith(sent.path)
    assert json.loads(arguments[arguments.index("-d") + 1]) == sent.body
    headers = dict(
        arguments[n + 1].split(": ", 1) for n, word in enumerate(arguments) if word == "-H"
    )
    for name, value in headers.items():
        assert sent.headers[name] == value
    assert headers["x-team"] == "a b"
    assert curl.isascii()
    assert curl.isprintable()


def test_a_secret_header_is_hidden_in_the_curl_command_however_short():
    headers = {"X-Gateway-Token": "t0", "x-team": "red"}
    with (
        ScriptedEndpoint([say("ok")]) as server,
        EndpointClient(server.endpoint(headers=headers)) as client,
    ):
        curl = client.send(ask()).curl
        assert server.requests[0].headers["x-gateway-token"] == "t0"
    assert "'x-gateway-token: <hidden>'" in curl
    assert "'x-team: red'" in curl


def test_a_long_body_is_shortened_in_the_curl_command():
    with (
        ScriptedEndpoint([say("ok")]) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        curl = client.send(ask("x" * 50_000)).curl
    assert len(curl) < 9_000
    assert "bytes cut" in curl

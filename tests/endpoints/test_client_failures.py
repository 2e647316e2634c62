from __future__ import annotations

import gc
import logging
import socket
import threading

import httpx
import pytest

from pytest_agentlimit.chat.messages import ChatRequest, Message, TextBlock
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.endpoints.timing import Exchange
from pytest_agentlimit.errors import (
    DeadlineExceeded,
    EndpointError,
    HTTPFailure,
    NotTheProtocol,
    StreamFailure,
    Unreachable,
)
from pytest_agentlimit.testing import (
    FakeClock,
    Scripted,
    ScriptedEndpoint,
    calls,
    drop,
    endless,
    hang,
    html,
    http_error,
    huge,
    raw,
    say,
)

DIALECTS = ["openai", "anthropic", "ollama"]
LONG = "one two three four five six seven eight nine ten eleven twelve"
SOON_HUNG = Deadlines(first_byte_s=0.15, between_chunks_s=3, total_s=3)
SOON_STALLED = Deadlines(first_byte_s=3, between_chunks_s=0.15, total_s=3)
SOON_SLOW = Deadlines(first_byte_s=3, between_chunks_s=3, total_s=0.3)

both_forms = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def ask(stream: bool = True) -> ChatRequest:
    user = Message(role="user", blocks=(TextBlock(text="hi"),))
    return ChatRequest(model="", messages=(user,), stream=stream)


def failure_of(
    *replies: Scripted, dialect: str = "openai", stream: bool = True, **spec: object
) -> EndpointError:
    with (
        ScriptedEndpoint(replies, dialect=dialect) as server,
        EndpointClient(server.endpoint(**spec)) as client,
        pytest.raises(EndpointError) as failure,
    ):
        client.send(ask(stream))
    return failure.value


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def failure_at(url: str, **spec: object) -> EndpointError:
    endpoint = EndpointSpec(name="m", base_url=url, model="m", **spec)
    with EndpointClient(endpoint) as client, pytest.raises(EndpointError) as failure:
        client.send(ask())
    return failure.value


def test_nothing_listening_is_refused():
    error = failure_at(f"http://127.0.0.1:{closed_port()}/v1")
    assert isinstance(error, Unreachable)
    assert (error.kind, error.blame, error.outcome) == ("refused", "network", "infra")
    assert "nothing listens there" in str(error)


def test_an_unknown_host_is_unreachable(monkeypatch):
    def lookup(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    error = failure_at("http://no-such-host.example/v1")
    assert error.kind == "unreachable"
    assert "host name is not known" in str(error)


def test_a_connection_that_nobody_takes_is_a_connect_timeout():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(8)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(listener.getsockname())
            port = listener.getsockname()[1]
            error = failure_at(
                f"http://127.0.0.1:{port}/v1", deadlines=Deadlines(connect_s=0.2, first_byte_s=0.2)
            )
        finally:
            for one in waiting:
                one.close()
    assert isinstance(error, Unreachable)
    assert error.kind == "connect_timeout"


def test_plain_http_behind_an_https_url_says_tls():
    with ScriptedEndpoint([say("ok")]) as server:
        error = failure_at(f"https://127.0.0.1:{server.port}/v1")
    assert error.kind == "unreachable"
    assert "TLS failed" in str(error)


@both_forms
@every_dialect
def test_a_server_that_never_answers_hangs(dialect, stream):
    error = failure_of(hang(), dialect=dialect, stream=stream, deadlines=SOON_HUNG)
    assert isinstance(error, DeadlineExceeded)
    assert (error.kind, error.outcome) == ("hung", "timeout")


def test_headers_alone_are_no_first_byte():
    assert failure_of(say("x", stall_after=0), deadlines=SOON_HUNG).kind == "hung"


@every_dialect
def test_silence_between_chunks_is_a_stall(dialect):
    error = failure_of(say(LONG, stall_after=2), dialect=dialect, deadlines=SOON_STALLED)
    assert isinstance(error, DeadlineExceeded)
    assert error.kind == "stalled"
    assert error.partial is not None
    assert LONG.startswith(error.partial.text)
    assert error.partial.text


@both_forms
@every_dialect
def test_a_reply_without_end_stops_at_the_total_deadline(dialect, stream):
    error = failure_of(endless(0.02), dialect=dialect, stream=stream, deadlines=SOON_SLOW)
    assert isinstance(error, DeadlineExceeded)
    assert error.kind == "slow"
    assert "0.3 s" in str(error)


def test_a_slow_prefill_may_take_longer_than_the_pause_between_chunks():
    limits = Deadlines(first_byte_s=2, between_chunks_s=0.15, total_s=3)
    script = say("late", first_delay_s=0.25)
    with (
        ScriptedEndpoint([script]) as server,
        EndpointClient(server.endpoint(deadlines=limits)) as client,
    ):
        assert client.send(ask()).text == "late"


def test_pauses_may_be_longer_than_the_first_byte_may_take():
    limits = Deadlines(first_byte_s=0.15, between_chunks_s=3, total_s=3)
    with (
        ScriptedEndpoint([say("late", chunk_delay_s=0.25)]) as server,
        EndpointClient(server.endpoint(deadlines=limits)) as client,
    ):
        assert client.send(ask()).text == "late"


def test_headers_that_dribble_end_at_the_deadline():
    listener = socket.create_server(("127.0.0.1", 0))
    leave = threading.Event()

    def dribble() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            for byte in b"HTTP/1.1 200 OK\r\n" + b"x-slow: 1\r\n" * 50:
                if leave.wait(0.03):
                    return
                try:
                    connection.send(bytes([byte]))
                except OSError:
                    return

    thread = threading.Thread(target=dribble)
    thread.start()
    try:
        error = failure_at(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", deadlines=SOON_HUNG)
    finally:
        leave.set()
        thread.join()
        listener.close()
    assert error.kind == "hung"


@pytest.mark.parametrize(
    ("status", "kind", "blame"),
    [
        (400, "bad_request", "config"),
        (401, "auth", "config"),
        (403, "auth", "config"),
        (404, "not_found", "config"),
        (429, "rate_limit", "engine"),
        (500, "server_error", "engine"),
        (503, "overloaded", "engine"),
    ],
)
@every_dialect
def test_http_errors_have_a_kind_and_a_blame(dialect, status, kind, blame):
    error = failure_of(http_error(status, "the reason"), dialect=dialect)
    assert isinstance(error, HTTPFailure)
    assert (error.status, error.kind, error.blame, error.outcome) == (status, kind, blame, "infra")
    assert f"HTTP {status}: the reason" in str(error)


def test_a_context_overflow_is_told_with_its_numbers():
    body = (
        b'{"error":{"code":400,"message":"the request exceeds the available context size",'
        b'"type":"exceed_context_size_error","n_prompt_tokens":12030,"n_ctx":8192}}'
    )
    error = failure_of(raw(body, status=400))
    assert (error.kind, error.blame) == ("context_overflow", "config")


def test_a_base_url_without_v1_is_named_in_the_hint():
    with ScriptedEndpoint([say("ok")]) as server:
        error = failure_at(f"http://127.0.0.1:{server.port}")
        assert error.kind == "not_found"
        assert f"try {server.url}" in str(error)


@pytest.mark.parametrize("dialect", ["anthropic", "ollama"])
def test_a_base_url_with_v1_too_much_is_named_in_the_hint(dialect):
    with ScriptedEndpoint([say("ok")], dialect=dialect) as server:
        error = failure_at(f"{server.url}/v1", dialect=dialect)
        assert f"try {server.url}" in str(error)


def test_a_redirect_is_not_followed_and_its_target_is_said():
    moved = raw(b"", status=308).with_(headers={"location": "https://elsewhere.example/v1"})
    error = failure_of(moved)
    assert (error.kind, error.blame) == ("redirect", "config")
    assert "https://elsewhere.example/v1" in str(error)


@both_forms
@every_dialect
def test_a_web_page_is_not_the_protocol(dialect, stream):
    error = failure_of(html(), dialect=dialect, stream=stream)
    assert isinstance(error, NotTheProtocol)
    assert (error.kind, error.blame) == ("html", "config")
    assert "It works!" in str(error)
    assert "/v1" in str(error)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "not_json"),
        (b"{'choices': []}", "not_json"),
        (b'{"choices": [', "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"[1, 2]", "bad_shape"),
        (b'"text"', "bad_shape"),
    ],
)
@every_dialect
def test_a_body_that_is_no_reply_is_not_the_protocol(dialect, body, kind):
    error = failure_of(raw(body), dialect=dialect, stream=False)
    assert isinstance(error, NotTheProtocol)
    assert error.kind == kind


@both_forms
def test_an_error_object_under_status_200_is_an_error(stream):
    body = b'{"error": {"message": "slot unavailable", "type": "server_error"}}'
    framed = raw(b"data: " + body + b"\n\n", "text/event-stream") if stream else raw(body)
    error = failure_of(framed, stream=stream)
    assert isinstance(error, StreamFailure)
    assert error.kind == "stream_error"
    assert "slot unavailable" in str(error)


@every_dialect
def test_a_stream_that_breaks_off_is_cut_and_its_part_is_kept(dialect):
    error = failure_of(say(LONG, cut_after=2), dialect=dialect)
    assert isinstance(error, StreamFailure)
    assert (error.kind, error.blame) == ("cut_stream", "engine")
    assert error.partial is not None
    assert error.partial.text
    assert LONG.startswith(error.partial.text)
    assert error.partial.raw


@every_dialect
def test_a_stream_that_ends_politely_without_its_end_is_cut(dialect):
    head = {
        "openai": b'data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\n',
        "anthropic": b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":"half"}}\n\n',
        "ollama": b'{"model":"m","message":{"role":"assistant","content":"half"},"done":false}\n',
    }[dialect]
    kind = "application/x-ndjson" if dialect == "ollama" else "text/event-stream"
    error = failure_of(raw(head, kind), dialect=dialect)
    assert error.kind == "cut_stream"
    assert error.partial is not None
    assert error.partial.text == "half"


def test_a_whole_reply_that_breaks_off_is_cut():
    error = failure_of(say(LONG, chunk_bytes=20, cut_after=2), stream=False)
    assert error.kind == "cut_stream"


def test_a_connection_closed_before_any_answer_is_the_engines():
    error = failure_of(drop())
    assert isinstance(error, StreamFailure)
    assert (error.kind, error.blame) == ("cut_stream", "engine")
    assert "without an answer" in str(error)


@every_dialect
def test_a_break_after_the_end_of_the_reply_is_only_a_finding(dialect):
    with (
        ScriptedEndpoint([say("done", cut_after=99)], dialect=dialect) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        reply = client.send(ask())
    assert reply.text == "done"
    assert [finding.code for finding in reply.findings] == ["unclean_close"]


@both_forms
def test_fifty_megabytes_stop_at_the_limit(stream):
    error = failure_of(huge(50_000_000), stream=stream, max_reply_bytes=1_000_000)
    assert isinstance(error, StreamFailure)
    assert error.kind == "too_large"
    assert "1,000,000 bytes" in str(error)


def test_a_server_error_is_safe_to_print():
    error = failure_of(http_error(500, "\x1b[2J\x1b]0;owned\x07 \u202egnp.exe" + "x" * 5000))
    assert "\x1b" not in str(error)
    assert "\u202e" not in str(error)
    assert len(str(error)) < 700


def test_after_a_failure_the_client_goes_on():
    script = [say(LONG, stall_after=1), say(LONG, cut_after=1), http_error(500), say("fine")]
    with (
        ScriptedEndpoint(script) as server,
        EndpointClient(server.endpoint(deadlines=SOON_STALLED)) as client,
    ):
        for _ in range(3):
            with pytest.raises(EndpointError):
                client.send(ask())
        assert client.send(ask()).text == "fine"


def test_there_are_no_retries_by_default():
    with (
        ScriptedEndpoint([http_error(503), say("ok")]) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        with pytest.raises(HTTPFailure):
            client.send(ask())
        assert len(server.requests) == 1


def test_retries_are_logged_counted_and_their_pauses_kept_off_the_clock(caplog):
    clock, seen = FakeClock(), list[Exchange]()
    script = [http_error(503), http_error(429, retry_after="7"), drop(), say("at last")]
    with (
        ScriptedEndpoint(script) as server,
        EndpointClient(
            server.endpoint(retries=3), clock=clock, sleep=clock.sleep, on_exchange=seen.append
        ) as client,
        caplog.at_level(logging.WARNING, logger="agentlimit"),
    ):
        reply = client.send(ask())
        assert len(server.requests) == 4
    assert reply.timing.attempts == 4
    assert reply.timing.total_s == 0.0
    (exchange,) = seen
    assert exchange.backoff_s == pytest.approx(0.5 + 7)  # a dead connection is no retry
    assert exchange.duration_s == pytest.approx(0.0)
    assert len(caplog.records) == 3
    assert "HTTP 503" in caplog.text


def test_a_server_cannot_make_the_client_wait_for_ever():
    clock = FakeClock()
    with (
        ScriptedEndpoint([http_error(429, retry_after="86400"), say("ok")]) as server,
        EndpointClient(server.endpoint(retries=1), clock=clock, sleep=clock.sleep) as client,
    ):
        client.send(ask())
    assert clock() == 30


def test_retries_run_out():
    clock, seen = FakeClock(), list[Exchange]()
    with (
        ScriptedEndpoint([http_error(500)]) as server,
        EndpointClient(
            server.endpoint(retries=2), clock=clock, sleep=clock.sleep, on_exchange=seen.append
        ) as client,
    ):
        with pytest.raises(HTTPFailure):
            client.send(ask())
        assert len(server.requests) == 3
    assert [exchange.attempts for exchange in seen] == [3]


@pytest.mark.parametrize(
    "script", [http_error(400), http_error(401), say(LONG, cut_after=1), html(), endless()]
)
def test_what_a_retry_cannot_mend_is_not_retried(script):
    clock = FakeClock()
    with (
        ScriptedEndpoint([script]) as server,
        EndpointClient(
            server.endpoint(retries=3, max_reply_bytes=100_000), clock=clock, sleep=clock.sleep
        ) as client,
    ):
        with pytest.raises(EndpointError):
            client.send(ask())
        assert len(server.requests) == 1
    assert clock() == 0


def test_an_interrupt_is_no_exchange():
    class Interrupted(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            raise KeyboardInterrupt

    seen: list[Exchange] = []
    spec = EndpointSpec(name="m", base_url="http://null.invalid/v1", model="m")
    client = EndpointClient(spec, transport=Interrupted(), on_exchange=seen.append)
    with client, pytest.raises(KeyboardInterrupt):
        client.send(ask())
    assert seen == []


def test_truncated_arguments_of_a_whole_call_are_no_transport_failure():
    with (
        ScriptedEndpoint([calls(("get_weather", '{"city": "Os'))]) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        reply = client.send(ask())
    assert reply.tool_calls[0].parse_error
    assert reply.verdict == "truncated"


def test_failures_leave_no_watching_thread_behind():
    failure_of(say(LONG, stall_after=1), deadlines=SOON_STALLED)
    failure_of(http_error(500))
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "agentlimit-guard":
            thread.join(2)
            assert not thread.is_alive()

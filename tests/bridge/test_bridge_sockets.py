from __future__ import annotations

import json
import queue
import socket
import threading

import httpx
import psutil
import pytest
from bridge_kit import HI, SSE, Gate, Stage, chunk, events_of, raw, request_bytes, stream

from pytest_agentlimit.bridge import exchange
from pytest_agentlimit.bridge.capture import Seen
from pytest_agentlimit.bridge.serve import Bridge
from pytest_agentlimit.testing import ScriptedEndpoint, anthropic_grammar, call, hang, say


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_ends_the_request_at_the_upstream(streamed: bool) -> None:
    gate = Gate()
    with ScriptedEndpoint([say("x")]) as upstream:
        spec = upstream.endpoint(base_url=f"http://127.0.0.1:{gate.port}/v1")
        with Bridge(spec) as bridge:
            with socket.create_connection(("127.0.0.1", bridge.port)) as client:
                client.sendall(request_bytes("/v1/messages", stream=streamed))
                assert gate.asked.wait(10)
            assert gate.left.wait(10)
    gate.close()


def test_a_client_that_leaves_in_the_middle_of_a_stream() -> None:
    gate = Gate(b"data: " + json.dumps(chunk({"content": "x" * 400})).encode() + b"\n\n")
    with ScriptedEndpoint([say("x")]) as upstream:
        spec = upstream.endpoint(
            base_url=f"http://127.0.0.1:{gate.port}/v1", max_reply_bytes=10**10
        )
        with Bridge(spec) as bridge:
            with socket.create_connection(("127.0.0.1", bridge.port)) as client:
                client.sendall(request_bytes("/v1/messages", stream=True))
                assert client.recv(1000, socket.MSG_WAITALL).count(b"message_start")
            assert gate.left.wait(10)
    gate.close()


def test_a_client_that_leaves_at_the_end_of_its_reply_has_not_left() -> None:
    """Programs close at the mark of the end; a server may keep its connection open after that."""
    body = stream(chunk({"content": "All of it."}), chunk({}, "stop")).body
    assert body is not None
    seen: queue.Queue[Seen] = queue.Queue()
    with socket.create_server(("127.0.0.1", 0)) as listener, ScriptedEndpoint([say("x")]) as server:
        spec = server.endpoint(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        with Bridge(spec, observe=seen.put) as bridge:
            with socket.create_connection(("127.0.0.1", bridge.port)) as client:
                client.sendall(request_bytes("/v1/messages", stream=True))
                upstream, _ = listener.accept()
                upstream.recv(65_536)
                upstream.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                upstream.sendall(body)
                received = b""
                while b"message_stop" not in received:
                    received += client.recv(65_536)
            record = seen.get(timeout=20).record
            upstream.close()
    assert (record.client_left, record.status, record.error) == (False, 200, None)
    assert [one.kind for one in record.attempts] == [None]


def test_a_slow_client_stops_the_reading_from_the_upstream() -> None:
    gate = Gate(b"data: " + json.dumps(chunk({"content": "x" * 4000})).encode() + b"\n\n")
    with ScriptedEndpoint([say("x")]) as upstream:
        spec = upstream.endpoint(
            base_url=f"http://127.0.0.1:{gate.port}/v1", max_reply_bytes=10**10
        )
        with Bridge(spec) as bridge:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            client.connect(("127.0.0.1", bridge.port))
            client.sendall(request_bytes("/v1/messages", stream=True))
            client.recv(1)
            assert gate.stuck.wait(30)
            client.close()
            assert gate.left.wait(10)
    gate.close()


def test_answers_leave_at_once(stage: Stage) -> None:
    assert stage.messages().status_code == 200
    (connection,) = stage.bridge._server.server_state.connections
    accepted = connection.transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("path", "ping"), [("/v1/messages", "event: ping"), ("/v1/chat/completions", ": ping")]
)
def test_a_client_that_waits_for_a_long_call_is_shown_life(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, path: str, ping: str
) -> None:
    body = HI | {"stream": True}
    stage.next = say("Wait.").with_(blocks=call("read", path="a" * 400).blocks, chunk_bytes=100)
    assert ping not in stage.http.post(path, json=body).text
    monkeypatch.setattr(exchange, "PING_S", 0.0)
    response = stage.http.post(path, json=body)
    assert ping in response.text
    assert path != "/v1/messages" or anthropic_grammar(response.content) == []


def test_nothing_is_left_when_it_stops() -> None:
    process = psutil.Process()
    before = {one.name for one in threading.enumerate()}
    sockets = len(process.net_connections())
    with Stage().open() as stage:
        for _ in range(3):
            stage.messages(stream=True)
        assert stage.upstream.connections == 1
    assert {one.name for one in threading.enumerate()} <= before
    assert len(process.net_connections()) == sockets


def test_clients_that_come_and_go_leave_nothing_behind() -> None:
    process = psutil.Process()
    sockets, threads = len(process.net_connections()), threading.active_count()
    left: queue.Queue[bool] = queue.Queue()
    with (
        ScriptedEndpoint([hang()]) as upstream,
        Bridge(
            upstream.endpoint(), observe=lambda seen: left.put(seen.record.client_left)
        ) as bridge,
    ):
        for number in range(40):
            with socket.create_connection(("127.0.0.1", bridge.port)) as client:
                if number % 2:
                    client.sendall(request_bytes("/v1/messages", stream=True))
                elif number % 4:
                    client.sendall(request_bytes("/v1/messages")[:-9])
        told = [left.get(timeout=20) for _ in range(30)]
    assert told == [True] * 30
    assert len(process.net_connections()) <= sockets
    assert threading.active_count() <= threads


def test_a_reply_under_way_is_told_that_the_bridge_stops() -> None:
    with ScriptedEndpoint([say("a long story", piece_chars=2, stall_after=2)]) as upstream:
        bridge = Bridge(upstream.endpoint()).start()
        with httpx.stream("POST", f"{bridge.url}/v1/messages", json=HI | {"stream": True}) as reply:
            lines = reply.iter_lines()
            while "content_block_delta" not in next(lines):
                pass
            bridge.close()
            assert "shutting down" in "\n".join(lines)


def test_a_stream_that_goes_on_after_its_end_does_not_hold_the_client(stage: Stage) -> None:
    done = (
        b"data: " + json.dumps(chunk({"content": "Hi"}, "stop")).encode() + b"\n\ndata: [DONE]\n\n"
    )
    stage.next = raw(done + b": more\n\n", SSE).with_(chunk_bytes=len(done), stall_after=1)
    response = stage.messages(stream=True)
    assert events_of(response)[-1] == {"type": "message_stop"}

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import httpcore
import pytest

from pytest_agentlimit.chat import openai
from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.endpoints.upstream import Upstream
from pytest_agentlimit.errors import AgentLimitError, UsageProblem
from pytest_agentlimit.testing import (
    Scripted,
    ScriptedEndpoint,
    drop,
    hang,
    http_error,
    say,
)

REQUEST = ChatRequest(model="m", messages=(), system="x")
BODY = json.dumps(openai.encode_request(REQUEST)).encode()
SOON_HUNG = Deadlines(first_byte_s=0.2)
SOON_STALLED = Deadlines(between_chunks_s=0.2)


def run(spec: EndpointSpec, work: Callable[[Upstream], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        upstream = Upstream(spec)
        try:
            return await work(upstream)
        finally:
            await upstream.aclose()

    return asyncio.run(main())


async def read(upstream: Upstream) -> bytes:
    async with upstream.post("/chat/completions", BODY) as answer:
        return b"".join([chunk async for chunk in answer.chunks()])


@pytest.mark.parametrize(
    ("reply", "limits"),
    [
        (http_error(400, "no such parameter"), Deadlines()),
        (http_error(404), Deadlines()),
        (http_error(429, retry_after="3"), Deadlines()),
        (http_error(503), Deadlines()),
        (http_error(302, location="/elsewhere"), Deadlines()),
        (hang(), SOON_HUNG),
        (say("a long story", stall_after=0), SOON_HUNG),
        (drop(), Deadlines()),
        (say("a long story", piece_chars=2, stall_after=2), SOON_STALLED),
        (say("a long story", piece_chars=2, cut_after=2), Deadlines()),
    ],
    ids=["400", "404", "429", "503", "302", "hang", "headers", "drop", "stall", "cut"],
)
def test_failures_are_those_of_the_sync_client(reply: Scripted, limits: Deadlines) -> None:
    with ScriptedEndpoint([reply]) as server:
        spec = server.endpoint(deadlines=limits)
        with EndpointClient(spec) as client, pytest.raises(AgentLimitError) as wanted:
            client.send(REQUEST)
        with pytest.raises(type(wanted.value)) as caught:
            run(spec, read)
    ours, theirs = vars(caught.value), vars(wanted.value)
    for key in ("kind", "blame", "hint", "status", "retry_after_s"):
        assert ours.get(key) == theirs.get(key)
    if theirs["kind"] != "cut_stream":
        assert str(caught.value) == str(wanted.value)


def test_nobody_listens() -> None:
    with ScriptedEndpoint([say("x")]) as server:
        spec = server.endpoint()
    with pytest.raises(AgentLimitError, match="refused the connection"):
        run(spec, read)


def test_the_total_deadline_counts_from_the_request() -> None:
    limits = Deadlines(total_s=1.0)
    slow = say("x" * 400, piece_chars=1, chunk_delay_s=0.05)
    with (
        ScriptedEndpoint([slow]) as server,
        pytest.raises(AgentLimitError, match=r"1 s \(slow\)"),
    ):
        run(server.endpoint(deadlines=limits), read)


def test_the_key_is_sent_and_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UP_KEY", "sk-0123456789abcdef")
    replies = [say("x"), http_error(400, "bad key sk-0123456789abcdef")]
    with ScriptedEndpoint(replies, api_key="sk-0123456789abcdef") as server:
        spec = server.endpoint(api_key_env="UP_KEY", headers={"X-Team": "a"})
        assert b"[DONE]" in run(spec, read)
        assert server.requests[0].headers["x-team"] == "a"
        with pytest.raises(AgentLimitError) as caught:
            run(spec, read)
    assert "bad key $UP_KEY" in str(caught.value)
    assert "sk-0" not in repr(caught.value) + str(vars(caught.value))
    monkeypatch.delenv("UP_KEY")
    with pytest.raises(UsageProblem, match="UP_KEY is not set"):
        run(spec, read)


@pytest.mark.parametrize("base_url", ["ftp://x/v1", "http://", "http://u:p@127.0.0.1/v1"])
def test_an_address_that_cannot_work_is_refused_at_once(base_url: str) -> None:
    with pytest.raises(UsageProblem):
        Upstream(EndpointSpec(name="x", base_url=base_url, model="m"))


def test_connections_are_kept_and_send_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    flags: list[int] = []
    opened = httpcore.AnyIOBackend.connect_tcp

    async def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        stream = await opened(self, *args, **kwargs)
        raw = stream.get_extra_info("socket")
        flags.append(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return stream

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)

    async def thrice(upstream: Upstream) -> None:
        for _ in range(3):
            await read(upstream)

    with ScriptedEndpoint([say("x")]) as server:
        run(server.endpoint(), thrice)
        assert server.connections == 1
    assert len(flags) == 1
    assert flags[0]


def test_a_dead_pooled_connection_is_nobodys_failure() -> None:
    body = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        first, _ = listener.accept()
        first.recv(65_536)
        first.sendall(body)
        first.recv(65_536)
        first.close()
        second, _ = listener.accept()
        second.recv(65_536)
        second.sendall(body)
        second.close()

    thread = threading.Thread(target=serve)
    thread.start()

    async def twice(upstream: Upstream) -> list[bytes]:
        return [await read(upstream), await read(upstream)]

    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    assert run(EndpointSpec(name="x", base_url=base_url, model="m"), twice) == [b"ok", b"ok"]
    thread.join()
    listener.close()


def test_json_is_asked_for_with_get_and_post() -> None:
    async def both(upstream: Upstream) -> list[Any]:
        listed = await upstream.get_json("/models")
        return [listed, await upstream.get_json("/tokenize", from_root=True, body={"a": 1})]

    with ScriptedEndpoint([say("x")], routes={"/tokenize": say("x").with_(body=b"[1]")}) as server:
        listed, posted = run(server.endpoint(), both)
        assert listed["data"][0]["id"] == "scripted"
        assert posted == [1]
        assert [one.method for one in server.requests] == ["GET", "POST"]
        assert server.requests[1].body == {"a": 1}

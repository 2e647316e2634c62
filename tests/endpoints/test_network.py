"""What both clients make of proxies, certificates and compression: the same."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.chat.openai import encode_request
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.network import proxy_for
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.endpoints.upstream import Upstream
from pytest_agentlimit.errors import AgentLimitError, UsageProblem
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, say

REQUEST = ChatRequest(model="m", messages=(), system="x", stream=False)
MESSAGE = {"role": "assistant", "content": "hi"}
REPLY = json.dumps({"choices": [{"message": MESSAGE, "finish_reason": "stop"}]}).encode()
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def by_client(spec: EndpointSpec) -> str:
    with EndpointClient(spec) as client:
        return client.send(REQUEST).text


def by_upstream(spec: EndpointSpec) -> str:
    async def main() -> bytes:
        upstream = Upstream(spec)
        try:
            async with upstream.post("/chat/completions", body) as answer:
                return b"".join([chunk async for chunk in answer.chunks()])
        finally:
            await upstream.aclose()

    body = json.dumps(encode_request(REQUEST)).encode()
    text: str = json.loads(asyncio.run(main()))["choices"][0]["message"]["content"]
    return text


Ask = Callable[[EndpointSpec], str]
both = pytest.mark.parametrize("ask", [by_client, by_upstream])


def remote(base_url: str = "http://model.example/v1") -> EndpointSpec:
    return EndpointSpec(name="m", base_url=base_url, model="m")


@contextmanager
def proxy(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A proxy that answers one request by itself; yields its port and what it was sent."""
    heads: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            heads.append(connection.recv(65_536))
            connection.sendall(answer)
            connection.recv(65_536)  # the client's end

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], heads
        thread.join(10)


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


@both
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_remote_endpoint_is_asked_through_the_proxy(
    ask: Ask, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(answer(REPLY)) as (port, heads):
        monkeypatch.setenv(name, f"me:secret@127.0.0.1:{port}")
        assert ask(remote()) == "hi"
    assert heads[0].startswith(b"POST http://model.example/v1/chat/completions HTTP/1.1\r\n")
    sent = heads[0].lower().partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert b"host: model.example" in sent
    assert b"proxy-authorization: basic " + base64.b64encode(b"me:secret").lower() in sent


@both
def test_a_proxy_that_refuses_the_tunnel_is_named_so(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"
    with proxy(refused) as (port, heads):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(AgentLimitError, match=r"cannot be reached: 403 Forbidden.*any proxy"):
            ask(remote("https://model.example/v1"))
    assert heads[0].startswith(b"CONNECT model.example:443 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://model.example/v1", "http://plain:1"),
        ("https://model.example/v1", "http://any:3"),
        ("http://inner.example/v1", None),
        ("http://a.inner.example:8000/v1", None),
        ("http://127.0.0.1:8000/v1", None),
        ("http://localhost:8000/v1", None),
        ("http://[::1]:8000/v1", None),
    ],
)
def test_which_proxy_it_is(url: str, found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "plain:1")
    monkeypatch.setenv("ALL_PROXY", "http://any:3")
    monkeypatch.setenv("NO_PROXY", "other.example, inner.example")
    proxy = proxy_for(remote(url))
    assert (None if proxy is None else str(proxy.url)) == found


@pytest.mark.parametrize("client", [EndpointClient, Upstream])
@pytest.mark.parametrize(
    ("proxy_url", "why"),
    [
        ("nonsense://proxy:1", "Unknown scheme"),
        ("socks5://proxy:1", "the package socksio"),
        ("http://proxy:port", "Invalid port"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_usage_problem(
    client: Callable[[EndpointSpec], object],
    proxy_url: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy_url)
    with pytest.raises(UsageProblem, match=rf"proxy or certificate settings.*{why}.*NO_PROXY"):
        client(remote())


@pytest.mark.parametrize("client", [EndpointClient, Upstream])
def test_certificates_that_cannot_be_read_are_a_usage_problem(
    client: Callable[[EndpointSpec], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/does/not/exist.pem")
    with pytest.raises(UsageProblem, match="proxy or certificate settings"):
        client(remote("https://model.example/v1"))


@both
def test_a_server_without_tls_is_told_from_one_that_is_not_there(ask: Ask) -> None:
    with ScriptedEndpoint([say("x")]) as server:
        base_url = server.endpoint().base_url.replace("http://", "https://")
        with pytest.raises(AgentLimitError, match=r"TLS failed .*Use http://"):
            ask(remote(base_url))


@both
@pytest.mark.parametrize("host", ["no-such-host.invalid", "bücher.invalid"])
def test_a_host_that_nobody_knows(ask: Ask, host: str) -> None:
    with pytest.raises(AgentLimitError, match="its host name is not known"):
        ask(remote(f"http://{host}/v1"))


def compressed(body: bytes, encoding: str = "gzip") -> Scripted:
    headers = {"content-encoding": encoding}
    return Scripted(body=body, content_type="application/json", headers=headers)


@both
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "Identity"])
def test_a_reply_that_was_compressed_unasked_is_read(ask: Ask, encoding: str) -> None:
    body = REPLY if encoding == "Identity" else gzip.compress(REPLY)
    with ScriptedEndpoint([compressed(body, encoding)]) as server:
        assert ask(server.endpoint()) == "hi"
        assert server.requests[0].headers["accept-encoding"] == "identity"


@both
def test_compression_that_cannot_be_undone(ask: Ask) -> None:
    with (
        ScriptedEndpoint([compressed(b"no gzip at all")]) as server,
        pytest.raises(AgentLimitError, match="compressed in a way that cannot be undone"),
    ):
        ask(server.endpoint())

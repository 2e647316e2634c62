"""How far the client's clocks are off, and what the client costs over the HTTP library alone."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
from budgets import Ledger
from conftest import Sample

from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import ChatRequest, Message, TextBlock
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.testing import Scripted, say

SERVER = Path(__file__).with_name("stamped_server.py")
ASKED = ChatRequest(
    model="", messages=(Message(role="user", blocks=(TextBlock(text="How are you?"),)),)
)


class Remote:
    """The server process: its endpoint, and what it noted about the last request."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines = process.stdout
        self.spec = EndpointSpec.model_validate(self._next())

    def stamps(self) -> list[float]:
        """Return the times of the request that has just been answered: arrival, then writes."""
        noted = self._next()
        assert isinstance(noted, list)
        return noted

    def _next(self) -> Any:
        assert self._lines is not None
        return json.loads(self._lines.readline())


@contextmanager
def served(script: Scripted) -> Iterator[Remote]:
    """Serve `script` in another process, so that its work does not hold our interpreter."""
    with subprocess.Popen(
        [sys.executable, str(SERVER), script.model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Remote(process)  # and the end of its standard input ends it


class BareSocket:
    """The least a client can do: what its clocks are off is the machine's doing."""

    def __init__(self, spec: EndpointSpec) -> None:
        url = httpx.URL(spec.base_url)
        self._socket = socket.create_connection((url.host, url.port or 80))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = json.dumps(codec_for(spec.dialect).encode_request(ASKED)).encode()
        head = f"POST {url.path}/chat/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def send(self) -> tuple[float, float]:
        """Return the seconds to the first bytes, and to the end of the reply."""
        start = time.perf_counter()
        self._socket.sendall(self._request)
        received = self._socket.recv(65_536)
        first_s = time.perf_counter() - start
        while not received.endswith(b"0\r\n\r\n"):
            received += self._socket.recv(65_536)
        return first_s, time.perf_counter() - start


def test_clocks(sample: Sample[Any], ledger: Ledger) -> None:
    script = say("x" * 16 * 8, first_delay_s=0.02, chunk_delay_s=0.004)
    with (
        served(script) as remote,
        EndpointClient(remote.spec) as client,
        BareSocket(remote.spec) as bare,
    ):

        def errors_ms(ttft_s: float | None, total_s: float) -> tuple[float, float]:
            arrived, first, *_, last = remote.stamps()
            assert ttft_s is not None
            errors = ttft_s - (first - arrived), total_s - (last - arrived)
            return 1000 * abs(errors[0]), 1000 * abs(errors[1])

        def both() -> tuple[float, ...]:
            timing = client.send(ASKED).timing
            ours = errors_ms(timing.ttft_s, timing.total_s)
            return *ours, *errors_ms(*bare.send())

        ttft, total, bare_ttft, bare_total = zip(*sample(both, 200), strict=True)
    for name, ours, floor in (("TTFT", ttft, bare_ttft), ("total", total, bare_total)):
        what = f"error of {name} against the server's stamps"
        ledger.median(what, ours, "ms", 1)
        ledger.p95(what, ours, "ms", 3)
        ledger.median(f"error of {name} by a bare socket: this machine's share", floor, "ms")


def test_overhead(sample: Sample[Any], ledger: Ledger) -> None:
    with (
        served(say("word " * 64)) as remote,
        EndpointClient(remote.spec) as client,
        httpx.Client(trust_env=False) as bare,
    ):
        url = f"{remote.spec.base_url}/chat/completions"
        body = {
            "model": remote.spec.model,
            "messages": [{"role": "user", "content": "How are you?"}],
            "stream": True,
        }

        def ours() -> None:
            client.send(ASKED)

        def library_alone() -> None:
            with bare.stream("POST", url, json=body) as response:
                for _ in response.iter_bytes():
                    pass

        def milliseconds(call: Callable[[], None]) -> float:
            start = time.perf_counter()
            call()
            took = time.perf_counter() - start
            remote.stamps()  # unread, they would fill the pipe and stop the server
            return 1000 * took

        found = sample(lambda: (milliseconds(ours), milliseconds(library_alone)), 300)
    with_us, alone = zip(*found, strict=True)
    ledger.median("a call by httpx alone, 20 chunks", alone, "ms")
    ledger.median("the same call by our client", with_us, "ms")
    ledger.median("our client to httpx alone", [a / b for a, b in found], "×")

"""How far the client's clocks are off, and what the client costs over the HTTP library alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from budgets import Ledger
from conftest import Sample

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
        yield Remote(process)
        assert process.stdin is not None
        process.stdin.close()


def test_clocks(sample: Sample[Any], ledger: Ledger) -> None:
    script = say("x" * 16 * 8, first_delay_s=0.02, chunk_delay_s=0.004)
    with served(script) as remote, EndpointClient(remote.spec) as client:

        def errors_ms() -> tuple[float, float]:
            timing = client.send(ASKED).timing
            arrived, first, *_, last = remote.stamps()
            assert timing.ttft_s is not None
            errors = timing.ttft_s - (first - arrived), timing.total_s - (last - arrived)
            return 1000 * abs(errors[0]), 1000 * abs(errors[1])

        found = sample(errors_ms, 200)
    for what, values in (
        ("error of TTFT against the server's stamps", [error for error, _ in found]),
        ("error of total against the server's stamps", [error for _, error in found]),
    ):
        ledger.median(what, values, "ms", 1)
        ledger.p95(what, values, "ms", 3)


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

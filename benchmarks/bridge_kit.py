"""The programs side by side, each in a process of its own and watched; a client of bare sockets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

UPSTREAM = Path(__file__).with_name("paced_upstream.py")
PEER = Path(os.environ.get("AGENTLIMIT_BENCH_LITELLM", Path(sys.prefix, "peers/bin/litellm")))
PEER_STARTS_S = 120.0
KEY = "sk-none"


class NotMeasured(Exception):
    """A peer cannot be measured here; says why."""


@dataclass(frozen=True)
class Program:
    """A running server: its process and its port."""

    pid: int
    port: int


@contextmanager
def upstream(first_s: float, pause_s: float) -> Iterator[Program]:
    """Run the upstream; see `paced_upstream`."""
    argv = [sys.executable, str(UPSTREAM), str(first_s), str(pause_s)]
    with running(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Program(process.pid, int(first_line(process)))


@contextmanager
def our_bridge(port: int) -> Iterator[Program]:
    """Run `agentlimit bridge` in front of the upstream on `port`, until it is ready."""
    argv = [str(Path(sys.executable).with_name("agentlimit")), "bridge", "--port=0"]
    argv.append(f"--upstream=openai+http://127.0.0.1:{port}/v1")
    # Its line for every request would fill a pipe that nobody reads, and then stop it.
    with running(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        url = first_line(process).split()[2]  # "bridge at http://127.0.0.1:1234 to …"
        yield Program(process.pid, int(url.rpartition(":")[2]))


@contextmanager
def litellm(port: int, folder: Path) -> Iterator[Program]:
    """Run LiteLLM's proxy in front of the upstream on `port`; NotMeasured where it does not run."""
    if not PEER.exists():
        raise NotMeasured(
            f"there is no {PEER}; `make bench` installs it where pip can reach an index"
        )
    own, log = free_port(), folder / "litellm.log"
    config = folder / "litellm.json"  # JSON is YAML
    route = {"model": "hosted_vllm/m", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": KEY}
    config.write_text(json.dumps({"model_list": [{"model_name": "m", "litellm_params": route}]}))
    argv = [str(PEER), f"--config={config}", "--host=127.0.0.1", f"--port={own}"]
    environ = os.environ | {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_TELEMETRY": "False",
        "HOME": str(folder),
    }
    with (
        log.open("wb") as output,
        running(argv, environ, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        end = time.monotonic() + PEER_STARTS_S
        while not answers(own, "/health/liveliness"):
            if process.poll() is not None or time.monotonic() > end:
                said = log.read_text(errors="replace").strip().rpartition("\n")[2][:200]
                raise NotMeasured(f"litellm did not start: {said}")
            time.sleep(0.25)
        yield Program(process.pid, own)


@contextmanager
def running(
    argv: list[str], environ: Mapping[str, str] | None = None, **streams: Any
) -> Iterator[subprocess.Popen[Any]]:
    """Run a program, and end it."""
    with subprocess.Popen(argv, env=environ, **streams) as process:
        try:
            yield process
        finally:
            process.terminate()


def first_line(process: subprocess.Popen[Any]) -> str:
    assert process.stdout is not None
    line: str = process.stdout.readline().decode()
    if not line.strip():
        raise RuntimeError(f"{process.args!r} ended before it was ready")
    return line


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(port: int, path: str) -> bool:
    """Return whether GET `path` is answered with 200."""
    try:
        with Line(port, b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode()) as line:
            line.send()
    except OSError:
        return False
    return True


@dataclass
class Watched:
    """A process while it is under load."""

    process: psutil.Process
    memory_mb: dict[str, float] = field(default_factory=dict)
    length_s: float = 0.0
    busy_s: float = 0.0
    waited_s: float | None = None
    """How long its main thread could have run, and others did; None where nobody counts that."""

    def sample(self, when: str) -> None:
        """Keep the memory at this moment."""
        self.memory_mb[when] = self.process.memory_info().rss / 1e6

    def sockets(self) -> int:
        """Count what is open, the listening one left out."""
        found = self.process.net_connections("inet")
        return sum(one.status != psutil.CONN_LISTEN for one in found)


@contextmanager
def watched(pid: int) -> Iterator[Watched]:
    """Measure a process while the block runs."""
    watch = Watched(psutil.Process(pid))
    start, busy, waited = time.perf_counter(), _busy_s(watch.process), _waited_s(pid)
    yield watch
    watch.length_s = time.perf_counter() - start
    watch.busy_s = _busy_s(watch.process) - busy
    now = _waited_s(pid)
    if waited is not None and now is not None:
        watch.waited_s = now - waited


def _busy_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _waited_s(pid: int) -> float | None:
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return None


class Line:
    """One kept connection that sends one request again and again, and holds the time."""

    def __init__(self, port: int, request: bytes) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self.body = b""
        """What came last, head left out."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def send(self) -> tuple[float, float]:
        """Return the seconds to the first token, and to the end; OSError unless it is a 200."""
        start = time.perf_counter()
        self._socket.sendall(self._request)
        received, first_s = b"", 0.0
        while not ended(received):
            more = self._socket.recv(65_536)
            if not more:
                raise ConnectionError(f"closed after {len(received)} bytes of an answer")
            received += more
            if not first_s and b"#0#" in received:
                first_s = time.perf_counter() - start
        total_s = time.perf_counter() - start
        head, _, self.body = received.partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise OSError(received[:300].decode(errors="replace"))
        return first_s, total_s


def ended(received: bytes) -> bool:
    """Return whether `received` is a whole answer."""
    head, mark, body = received.partition(b"\r\n\r\n")
    if not mark:
        return False
    _, named, after = head.lower().partition(b"\r\ncontent-length:")
    if named:
        return len(body) >= int(after.partition(b"\r\n")[0])
    return body.endswith(b"0\r\n\r\n")


def anthropic_request(tokens: int, *, stream: bool) -> bytes:
    """Return an agent's request as an Anthropic client sends it: a dozen tools, 4 KB of prompt."""
    tools = [named | {"input_schema": schema} for named, schema in twelve_tools()]
    return post("/v1/messages", tokens, stream, tools)


def openai_request(tokens: int, *, stream: bool) -> bytes:
    """Return the same request as an OpenAI client sends it."""
    tools = [
        {"type": "function", "function": named | {"parameters": schema}}
        for named, schema in twelve_tools()
    ]
    return post("/v1/chat/completions", tokens, stream, tools)


def twelve_tools() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return what tools are called, and what they take."""
    takes = {
        name: {"type": "string", "description": f"The {name} to work on, as the user wrote it."}
        for name in ("path", "pattern", "reason")
    } | {"limit": {"type": "integer", "minimum": 1, "description": "Lines at most."}}
    draft = {"$schema": "http://json-schema.org/draft-07/schema#"}  # agents send one with each tool
    schema = draft | {"type": "object", "properties": takes, "required": ["path"]}
    about = "Works on one file of the workspace and tells what was done, or why it was not."
    return [({"name": f"tool_{n}", "description": about}, schema) for n in range(12)]


def post(path: str, tokens: int, stream: bool, tools: list[dict[str, Any]]) -> bytes:
    prompt = "Find out why the build fails, mend it, and say in one line what it was. " * 57
    asked = [{"role": "user", "content": prompt[:4096]}]
    fields = {"model": "m", "max_tokens": tokens, "messages": asked, "tools": tools}
    body = json.dumps(fields | {"stream": stream}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {KEY}\r\nanthropic-version: 2023-06-01\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body

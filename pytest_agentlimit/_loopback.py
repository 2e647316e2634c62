"""The loopback server behind `pytest_agentlimit.testing`: sockets, framing, timing."""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What goes back on the wire; `chunks` without `length` are sent with chunked framing."""

    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    chunks: Iterable[bytes] = ()
    length: int | None = None
    first_delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    stall_after: int | None = None
    cut_after: int | None = None
    silent: bool = False
    """Nothing is sent; the connection stays open."""
    drop: bool = False
    """Nothing is sent; the connection is closed."""


Script = Callable[[str, str, dict[str, str], bytes], Answer]
"""Decides an answer from method, path, headers (names in lower case) and body."""


class LoopbackServer(socketserver.ThreadingTCPServer):
    """An HTTP/1.1 keep-alive server on a free port of 127.0.0.1; `close` leaves nothing behind."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.closing = threading.Event()
        self.connections = 0
        """How many connections were accepted."""
        self.problems: list[BaseException] = []
        """What went wrong in the server itself or in the script."""
        self._open: set[socket.socket] = set()
        self._workers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._acceptor = threading.Thread(
            target=self.serve_forever, args=(0.01,), name="scripted-endpoint", daemon=True
        )
        self._acceptor.start()

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self.server_address[1])

    def close(self) -> None:
        """End every connection and thread; hanging answers are let go."""
        self.closing.set()
        self.shutdown()
        self.server_close()
        with self._lock:
            sockets = list(self._open)
        for connection in sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in [self._acceptor, *self._workers]:
            thread.join(5)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, which `close` can find."""
        self.connections += 1
        with self._lock:
            self._open.add(request)
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="scripted-connection",
            daemon=True,
        )
        self._workers = [worker for worker in self._workers if worker.is_alive()] + [thread]
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close a served connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep what went wrong for the owner instead of printing it; leaving clients are normal."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self.problems.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Nagle's algorithm and delayed acknowledgement together add 40 ms to every kept-alive call.
    disable_nagle_algorithm = True
    server: LoopbackServer
    _arrived = 0.0
    _head = b""
    """Leaves with the first chunk, in one write, as an engine under load sends it."""

    def parse_request(self) -> bool:
        """Take the time before the parsing, which a scripted delay must not grow by."""
        self._arrived = time.perf_counter()
        return super().parse_request()

    def _serve(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(size)
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.script(self.command, self.path, headers, body)
        try:
            self._send(answer)
        except OSError:
            self.close_connection = True  # the client has left, which is its right

    do_GET = do_POST = do_HEAD = _serve  # noqa: N815 (http.server's names)

    def _send(self, answer: Answer) -> None:
        if answer.drop:
            self._cut()
            return
        if answer.silent:
            self._wait_for_the_client_to_leave()
            return
        self._head = _head(answer)
        if self.command == "HEAD":
            self._write(b"")
            return
        due = self._arrived + answer.first_delay_s
        for number, chunk in enumerate(answer.chunks):
            self._wait_until(due)  # with the chunk at hand: making it is no part of the delay
            due += answer.chunk_delay_s
            if number == answer.cut_after:
                self._cut()
                return
            if number == answer.stall_after:
                self._wait_for_the_client_to_leave()
                return
            if self.server.closing.is_set():
                self._cut()
                return
            self._write(chunk if answer.length is not None else _framed(chunk))
        if answer.cut_after is not None:
            self._cut()
        elif answer.stall_after is not None:
            self._wait_for_the_client_to_leave()
        else:
            self._write(b"0\r\n\r\n" if answer.length is None else b"")

    def _write(self, data: bytes) -> None:
        data, self._head = self._head + data, b""
        self.wfile.write(data)

    def _cut(self) -> None:
        self._write(b"")
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _wait_for_the_client_to_leave(self) -> None:
        self._write(b"")
        self.close_connection = True
        with suppress(OSError):
            self.connection.recv(1)

    def _wait_until(self, due: float) -> None:
        left = due - time.perf_counter()
        if left > 0:
            self.server.closing.wait(left)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server's name)
        """Say nothing: the owner has the captured requests."""


def _head(answer: Answer) -> bytes:
    if answer.length is None:
        framing = "transfer-encoding: chunked"
    else:
        framing = f"content-length: {answer.length}"
    lines = [f"HTTP/1.1 {answer.status} Scripted", f"content-type: {answer.content_type}", framing]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _framed(chunk: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunk else b""

"""The clocks of one call and the watch over its deadlines (PROTOCOLS R5, R6).

`Stopwatch` reads the client's clock, `Arrivals` notes when a connection's bytes came, `Guard` ends
a call whose server went silent, `Exchange` is what one call leaves behind for a recorder.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from pydantic import ConfigDict

from pytest_agentlimit.chat.messages import (
    ChatReply,
    ChatRequest,
    Frozen,
    ServerTimings,
    Timing,
)
from pytest_agentlimit.endpoints.spec import Deadlines
from pytest_agentlimit.errors import EndpointError

Expiry = Literal["hung", "stalled", "slow"]
"""Which deadline passed: before the first byte, between two chunks, or the total."""


class Exchange(Frozen):
    """One call, successful or not: exactly one of `reply` and `error` is set."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    request: ChatRequest
    """As it was sent, defaults filled in."""
    reply: ChatReply | None = None
    error: EndpointError | None = None
    timing: Timing = Timing()
    """Also for a failed call: what was seen before it failed."""
    started: float
    ended: float
    """Values of the client's clock in seconds; both include the back-off."""
    backoff_s: float = 0.0
    """Time slept between attempts; METHOD 4 keeps it out of latencies."""
    waited_s: float = 0.0
    """Seconds the call stood in line for the endpoint before `started`."""
    inflight_start: int | None = None
    """Callers (processes with a call under way) at the endpoint when the call started, its own
    included; None: not known.
    """
    inflight_end: int | None = None
    """The same when it ended."""

    @property
    def attempts(self) -> int:
        """How many requests were sent."""
        return self.timing.attempts

    @property
    def duration_s(self) -> float:
        """Seconds waited on the server: all attempts, without the back-off."""
        return self.ended - self.started - self.backoff_s


class Arrivals:
    """A connection's `read`, which notes the clock value at which it last returned.

    Between the bytes and the loop that takes them lies the HTTP library's own work: half a
    millisecond for the first chunk, since after a wait for the server no code is in the caches.
    """

    def __init__(self, read: Callable[..., bytes], clock: Callable[[], float]) -> None:
        self._read = read
        self._clock = clock
        self.last = clock()

    def __call__(self, *args: Any, **kwargs: Any) -> bytes:
        """Return what the connection's own `read` returns."""
        data = self._read(*args, **kwargs)
        self.last = self._clock()
        return data


def note_arrivals(network_stream: Any, clock: Callable[[], float]) -> None:
    """Make a new connection (httpcore's network stream) note when its bytes come."""
    network_stream.read = Arrivals(network_stream.read, clock)


class Stopwatch:
    """The clock values of one call; back-off is taken out of every mark.

    Marks are seconds from the moment the first attempt was sent. A retry forgets the marks of the
    attempt before it, and not its time: a user waited through both.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._running = False
        self._ended: float | None = None
        self._arrivals: Arrivals | None = None
        self.started = self._attempt_began = clock()
        self.backoff_s = 0.0
        self.attempts = 1
        self.connect_s: float | None = None
        self.first_byte_s: float | None = None
        self.reused = False
        """The attempt went out on a pooled connection."""
        self.resent = 0
        """Attempts that only made up for a dead pooled connection; no retries."""

    def start(self) -> None:
        """Take the start of the call; only the first start counts."""
        if not self._running:
            self._running = True
            self.started = self._attempt_began = self._clock()

    def stop(self) -> float:
        """Return the clock value at the end of the call; only the first stop takes it."""
        if self._ended is None:
            self._ended = self._clock()
        return self._ended

    def finish(self) -> None:
        """End the call at its last bytes, unless it was stopped before."""
        if self._ended is None:
            self._ended = self._arrived()

    def now(self) -> float:
        """Return the seconds since the start, back-off left out."""
        return self._clock() - self.started - self.backoff_s

    def arrival(self) -> float:
        """Return the mark at which the latest bytes came."""
        return self._arrived() - self.started - self.backoff_s

    def follow(self, network_stream: Any) -> None:
        """Name the connection of the attempt: httpcore's network stream, or None."""
        read = getattr(network_stream, "read", None)
        self._arrivals = read if isinstance(read, Arrivals) else None

    def _arrived(self) -> float:
        arrivals = self._arrivals
        # Bytes from before the attempt, sent unasked on a pooled connection, are no sign of when
        # it was answered; a transport without a network tells nothing at all.
        if arrivals is None or arrivals.last < self._attempt_began:
            return self._clock()
        return arrivals.last

    def back_off(self, seconds: float, sleep: Callable[[float], None]) -> None:
        """Sleep before another attempt, off the clock."""
        before = self._clock()
        sleep(seconds)
        self._attempt_began = self._clock()
        self.backoff_s += self._attempt_began - before
        self.attempts += 1
        self._ended = self.connect_s = self.first_byte_s = self._arrivals = None

    def timing(
        self,
        *,
        ttft_s: float | None = None,
        first_tool_s: float | None = None,
        server: ServerTimings | None = None,
    ) -> Timing:
        """Return the marks as data; the call is over."""
        return Timing(
            connect_s=self.connect_s,
            first_byte_s=self.first_byte_s,
            ttft_s=ttft_s,
            first_tool_s=first_tool_s,
            total_s=self.stop() - self.started - self.backoff_s,
            attempts=self.attempts,
            server=server,
        )


class Guard:
    """Watches one attempt's deadlines and shuts its socket when one passes.

    A socket's own time-out starts again with every read, so it cannot hold a total deadline
    against a server that dribbles. `expired` says which deadline passed, or None. A transport
    without a socket is not interrupted: its caller looks at `expired` after each chunk.
    """

    def __init__(self, deadlines: Deadlines, left_s: float) -> None:
        now = time.monotonic()
        self._between_s = deadlines.between_chunks_s
        self._end = now + left_s
        self._due = min(now + deadlines.first_byte_s, self._end)
        self._kind: Expiry = "hung"
        self._socket: Any = None
        self._done = False
        self._changed = threading.Condition()
        # Started before the clock is: a thread's start must not be counted as the server's time.
        self._thread = threading.Thread(target=self._watch, name="agentlimit-guard", daemon=True)
        self.expired: Expiry | None = None

    def __enter__(self) -> Guard:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def release(self) -> None:
        """Stop watching; the socket may go back to the pool."""
        with self._changed:
            self._done = True
            self._socket = None
            self._changed.notify()

    def attach(self, network_stream: Any) -> None:
        """Name the connection to shut: httpcore's network stream, or None."""
        if network_stream is None:
            return
        with self._changed:
            self._socket = network_stream.get_extra_info("socket")
            if self.expired:
                self._shut()

    def chunk_seen(self) -> None:
        """Start the wait for the next chunk."""
        silence = time.monotonic() + self._between_s
        with self._changed:
            sooner = min(silence, self._end) < self._due
            self._due = min(silence, self._end)
            self._kind = "stalled" if silence < self._end else "slow"
            if sooner:
                self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._done:
                left = self._due - time.monotonic()
                if left <= 0:
                    self.expired = self._kind
                    self._shut()
                    return
                self._changed.wait(left)

    def _shut(self) -> None:
        if self._socket is not None:
            # The plain socket's own method: an SSLSocket's would first forget its TLS state, and
            # the reading thread would then take ciphertext for the reply.
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

"""Many streams at once, read from bare sockets: which events came, in what order, how far apart."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

RAMP_S = 2.0
"""The streams begin one by one over this time, so that their events are not all due at once."""
PATIENCE_S = 30.0
_NUMBER = re.compile(rb"#(\d+)#")
_LAST_WORDS = (b"message_stop", b"[DONE]")


@dataclass
class Load:
    """What came of all streams."""

    streams: int
    events: int = 0
    gaps_s: list[float] = field(default_factory=list)
    """The worst of each stream, between two events that followed each other."""
    errors: list[str] = field(default_factory=list)
    late_s: float = 0.0
    """By how much this process read its own clock late at most: what its gaps may owe to it."""


class Stream(asyncio.Protocol):
    """One request and its events."""

    def __init__(self, load: Load, request: bytes, events: int) -> None:
        self._load = load
        self._request = request
        self._expected = events
        self._loop = asyncio.get_running_loop()
        self._read = bytearray()
        self._came = 0
        self._last_s = 0.0
        self._gap_s = 0.0
        self._transport: asyncio.Transport
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = self._loop.time()
        self._read += data
        end = 0
        for event in _NUMBER.finditer(self._read):
            if int(event[1]) != self._came:
                self._end(f"event {int(event[1])} came in place of {self._came}")
                return
            if self._came:
                self._gap_s = max(self._gap_s, now - self._last_s)
            self._came, self._last_s, end = self._came + 1, now, event.end()
        del self._read[:end]
        if self._read.endswith(b"\r\n0\r\n\r\n"):
            whole = self._came == self._expected and any(word in self._read for word in _LAST_WORDS)
            said = self._read[:200].decode(errors="replace")
            self._end("" if whole else f"ended after {self._came} events: {said}")

    def connection_lost(self, error: Exception | None) -> None:
        self._end(f"closed after {self._came} events")

    def _end(self, error: str) -> None:
        if self.ended.done():
            return
        self._load.events += self._came
        self._load.gaps_s.append(self._gap_s)
        self._load.errors += [error] if error else []
        self._transport.close()
        self.ended.set_result(None)


async def streamed(
    port: int, request: bytes, streams: int, events: int, length_s: float, at: Callable[[str], None]
) -> Load:
    """Read `streams` replies of `events` events each, which take `length_s`.

    `at` is called with "early" at a sixth of that time, counted from when all streams run, and with
    "late" shortly before the first of them ends.
    """
    load, loop = Load(streams), asyncio.get_running_loop()
    watch = asyncio.ensure_future(_watch(load))
    begin = loop.time()

    async def one(number: int) -> None:
        await asyncio.sleep(begin + number * RAMP_S / streams - loop.time())
        try:
            _, stream = await loop.create_connection(
                lambda: Stream(load, request, events), "127.0.0.1", port
            )
            async with asyncio.timeout(length_s + PATIENCE_S):
                await stream.ended
        except (OSError, TimeoutError) as error:
            load.errors.append(repr(error))

    loop.call_at(begin + max(RAMP_S, length_s / 6), at, "early")
    loop.call_at(begin + 0.98 * length_s, at, "late")
    await asyncio.gather(*map(one, range(streams)))
    watch.cancel()
    return load


async def _watch(load: Load) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + 0.02
        await asyncio.sleep(0.02)
        load.late_s = max(load.late_s, loop.time() - due)

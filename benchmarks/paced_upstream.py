"""An OpenAI endpoint that is nothing but asyncio, in a process of its own: quick, and in step.

It answers `max_tokens` pieces of text, numbered: #0# #1# #2# … The first is due `first_s` after the
request, the next ones `pause_s` apart. Prints its port. GET /late tells by how many seconds an
event was late at most, and forgets it: how far this process kept its own time.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from functools import cache
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n"


class Pace:
    """When events are due, and the worst that came of it."""

    def __init__(self, first_s: float, pause_s: float) -> None:
        self.first_s = first_s
        self.pause_s = pause_s
        self.late_s = 0.0


class Connection(asyncio.Protocol):
    """Answers one request after the other."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._read = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, mark, body = bytes(self._read).partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not mark or len(body) < (int(length[1]) if length else 0):
            return
        self._read.clear()
        due = self._loop.time() + self._pace.first_s
        if head.startswith(b"GET"):
            self._transport.write(self._told(head))
            return
        asked = json.loads(body)
        count = int(asked["max_tokens"])
        if asked.get("stream"):
            self._loop.call_at(due, self._step, due, 0, count)
        else:
            self._loop.call_at(due, self._transport.write, whole(count))

    def _told(self, head: bytes) -> bytes:
        if not head.startswith(b"GET /late "):
            return answer({"object": "list", "data": [{"id": "m", "object": "model"}]})
        late_s, self._pace.late_s = self._pace.late_s, 0.0
        return answer({"late_s": late_s})

    def _step(self, due: float, number: int, count: int) -> None:
        """Send piece `number`, and see to the next one."""
        if self._transport.is_closing():
            return
        self._pace.late_s = max(self._pace.late_s, self._loop.time() - due)
        if number == 0:
            head = _HEAD % (b"text/event-stream", b"transfer-encoding: chunked")
            self._transport.write(head + event({"role": "assistant", "content": ""}))
        if number == count:
            self._transport.write(last(count))
            return
        self._transport.write(piece(number))
        due += self._pace.pause_s
        self._loop.call_at(due, self._step, due, number + 1, count)


def answer(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return _HEAD % (b"application/json", b"content-length: %d" % len(data)) + data


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(delta: dict[str, Any], finish: str | None = None, **others: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return frame({"choices": choices} | others)


def frame(body: dict[str, Any]) -> bytes:
    named = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return chunk(b"data: " + json.dumps(named | body).encode() + b"\n\n")


@cache
def piece(number: int) -> bytes:
    return event({"content": f"#{number}# "})


@cache
def last(count: int) -> bytes:
    counted = frame({"choices": [], "usage": usage(count)})
    return event({}, "stop") + counted + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


@cache
def whole(count: int) -> bytes:
    message = {"role": "assistant", "content": "".join(f"#{n}# " for n in range(count))}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    named = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
    return answer(named | {"choices": choices, "usage": usage(count)})


def usage(count: int) -> dict[str, int]:
    return {"prompt_tokens": 3000, "completion_tokens": count, "total_tokens": 3000 + count}


async def serve(pace: Pace) -> None:
    """Serve until standard input ends."""
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(pace), "127.0.0.1", 0, backlog=512
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(Pace(float(sys.argv[1]), float(sys.argv[2]))))

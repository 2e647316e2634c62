"""Bodies from and answers to a client, on bare ASGI: nothing between an event and the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from starlette.types import Receive, Scope, Send

from pytest_agentlimit.bridge.errors import Refusal, error_body, error_headers, refusal
from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.messages import Dialect


class ClientLeft(Exception):
    """The client closed its connection before its request was whole."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the body; a Refusal as soon as it outgrows `limit`, with no more than that kept."""
    too_large = refusal(413, f"the request body is larger than {limit:,} bytes (--max-body)")
    declared = dict(scope["headers"]).get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body += message.get("body", b"")
        if len(body) > limit:
            raise too_large
        more = message.get("more_body", False)
    return bytes(body)


class Answer:
    """What goes to one client; `status` is None until something has been sent.

    `complete` is True once the client has all of its reply: some programs leave then, before the
    formal end. Sending waits while the client does not read, and with it whoever sends.
    """

    def __init__(self, send: Send, dialect: Dialect) -> None:
        self._send = send
        self._dialect = dialect
        self.status: int | None = None
        self.complete = False
        self._ended = False

    async def part(self, data: bytes, content_type: str, headers: dict[str, str]) -> None:
        """Send a piece of a stream; the first one brings the head, with `headers`."""
        if self.status is None:
            await self._head(200, content_type, {"cache-control": "no-cache"} | headers)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece of a stream that has begun; what follows is not sent."""
        if self._ended:
            return
        self.complete = self._ended = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(
        self,
        data: bytes,
        *,
        status: int = 200,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send an answer in one piece."""
        length = {"content-length": str(len(data))}
        await self._head(status, content_type, (headers or {}) | length)
        await self.end(data)

    async def refuse(self, refused: Refusal) -> None:
        """Send an error in the client's dialect; nothing was sent before."""
        body = jsontext.wire(error_body(self._dialect, refused))
        await self.whole(body, status=refused.status, headers=error_headers(refused))

    def _head(self, status: int, content_type: str, headers: dict[str, str]) -> Awaitable[None]:
        self.status = status
        given = {"content-type": content_type} | headers
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
        return self._send({"type": "http.response.start", "status": status, "headers": pairs})


async def while_it_stays(
    receive: Receive, answer: Answer, work: Coroutine[Any, Any, None], on_left: Callable[[], None]
) -> None:
    """Do `work` while the client stays; when it leaves, call `on_left` and cancel the work.

    `work` is what sends `answer`, and goes on to its own end after that.
    """
    working = asyncio.current_task()
    assert working is not None

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if not answer.complete:  # at the end of an answer the server says this too
            on_left()
            working.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        await work
    finally:
        watching.cancel()

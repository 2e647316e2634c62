"""The async client of one endpoint: opens an answer and hands on its bytes as they come.

`client.py` measures calls, this module carries them for the bridge; both say of a failure what it
was in the same words.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.endpoints import failures
from pytest_agentlimit.endpoints.connections import (
    TRANSPORT_ERRORS,
    Answer,
    Connections,
    DecodingError,
)
from pytest_agentlimit.endpoints.keys import Redactor
from pytest_agentlimit.endpoints.outgoing import split_address
from pytest_agentlimit.endpoints.reading import parse_probe
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.endpoints.timing import Expiry

_ERROR_BODY_LIMIT = 65_536
_SETTLE_S = 0.25
"""How long the end of the transport is waited for once the reply itself is complete."""
_HUNG: Expiry = "hung"
_STALLED: Expiry = "stalled"

T = TypeVar("T")


class UpstreamAnswer:
    """An answer at its headers, status 2xx; `content_type` is what the server calls it."""

    def __init__(self, upstream: Upstream, answer: Answer, asked: float) -> None:
        self.content_type = answer.headers.get("content-type", "")
        self._upstream = upstream
        self._chunks = answer.chunks()
        limits = upstream.spec.deadlines
        self._first_due = asked + limits.first_byte_s
        self._end = asked + limits.total_s

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes as they come. EndpointError when they stop before their end.

        Headers are not the first byte: many servers send them before they read the prompt.
        """
        spec = self._upstream.spec
        limit_s, kind = self._first_due - asyncio.get_running_loop().time(), _HUNG
        while True:
            try:
                work = anext(self._chunks, b"")
                chunk = await self._upstream.within(work, limit_s, self._end, kind)
            except DecodingError:
                raise failures.garbled(spec) from None
            except TRANSPORT_ERRORS as error:
                raise failures.cut(spec, Redactor(spec).line(str(error))) from None
            if not chunk:
                return
            yield chunk
            limit_s, kind = spec.deadlines.between_chunks_s, _STALLED

    async def settle(self) -> None:
        """Read what follows a complete reply, so that the connection can be used again."""
        with suppress(*TRANSPORT_ERRORS, DecodingError, TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                async for _ in self._chunks:
                    pass


class Upstream:
    """A pooled async client of one endpoint; for one event loop, closed with `aclose`.

    Raises UsageProblem at once for an address or headers that nothing can be sent with.
    """

    def __init__(self, spec: EndpointSpec) -> None:
        self.spec = spec
        parts = split_address(spec)
        self._base = spec.base_url.rstrip("/")
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._connections = Connections(spec)

    async def aclose(self) -> None:
        """Close the pooled connections."""
        await self._connections.aclose()

    @asynccontextmanager
    async def post(self, path: str, body: bytes) -> AsyncIterator[UpstreamAnswer]:
        """Open the answer to POST `path` of the base URL, closed when the block is left.

        A block that is left early, or cancelled, ends the request at the server too. Raises
        EndpointError, for a status of 300 and above as well, and UsageProblem for a missing key.
        """
        asked = asyncio.get_running_loop().time()
        end = asked + self.spec.deadlines.total_s
        answer = await self._open("POST", self._base + path, body, end)
        try:
            yield UpstreamAnswer(self, answer, asked)
        finally:
            await answer.aclose()

    async def get_json(
        self, path: str, *, from_root: bool = False, body: dict[str, Any] | None = None
    ) -> Any:
        """Return the JSON that the server answers to GET `path`, or to POST when there is a body.

        `path` is appended to the base URL, or to the host when `from_root`. Raises EndpointError.
        """
        end = asyncio.get_running_loop().time() + self.spec.deadlines.total_s
        url = (self._root if from_root else self._base) + path
        content = None if body is None else jsontext.wire(body)
        answer = await self._open("GET" if body is None else "POST", url, content, end)
        try:
            data = await self._bounded(answer, self.spec.max_reply_bytes, end)
        finally:
            await answer.aclose()
        return parse_probe(self.spec, data, answer.headers.get("content-type", ""))

    async def within(self, work: Awaitable[T], limit_s: float, end: float, kind: Expiry) -> T:
        """Return the result of `work`; DeadlineExceeded after `limit_s`, or at the loop time `end`.

        `end` is the total deadline, which is called slow whatever `kind` the other one is.
        """
        due = asyncio.get_running_loop().time() + limit_s
        try:
            async with asyncio.timeout_at(min(due, end)):
                return await work
        except TimeoutError:
            late = "slow" if end < due and kind == "stalled" else kind
            raise failures.deadline(self.spec, late) from None

    async def _open(self, method: str, url: str, content: bytes | None, end: float) -> Answer:
        """Return a 2xx answer at its headers."""
        work = self._connections.open(method, url, content)
        answer = await self.within(work, self.spec.deadlines.first_byte_s, end, _HUNG)
        if 200 <= answer.status < 300:
            return answer
        try:
            body = (await self._bounded(answer, _ERROR_BODY_LIMIT, end)).decode(errors="replace")
        finally:
            await answer.aclose()
        redact = Redactor(self.spec)
        raise failures.http_failure(self.spec, answer.status, answer.headers, body, redact)

    async def _bounded(self, answer: Answer, limit: int, end: float) -> bytes:
        """Return at most `limit` bytes of a body, fewer when the server stops sending."""
        data = bytearray()
        pause_s = self.spec.deadlines.between_chunks_s
        chunks = answer.chunks()
        with suppress(*TRANSPORT_ERRORS, DecodingError):
            while chunk := await self.within(anext(chunks, b""), pause_s, end, "stalled"):
                data += chunk
                if len(data) > limit:
                    break
        return bytes(data[:limit])

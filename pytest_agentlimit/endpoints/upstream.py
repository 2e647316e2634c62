"""The async client of one endpoint: opens an answer and hands on its bytes as they come.

`client.py` measures calls, this module carries them for the bridge; both say of a failure what it
was in the same words. No other module knows httpx.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import httpx

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.endpoints import failures
from pytest_agentlimit.endpoints.client import KeyAuth, verification
from pytest_agentlimit.endpoints.keys import Redactor
from pytest_agentlimit.endpoints.outgoing import (
    bad_address,
    is_loopback,
    request_headers,
    split_address,
)
from pytest_agentlimit.endpoints.reading import parse_probe
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.endpoints.timing import Expiry
from pytest_agentlimit.errors import EndpointError, StreamFailure, UsageProblem
from pytest_agentlimit.text import one_line

_ERROR_BODY_LIMIT = 65_536
_KEEPALIVE_S = 4.0
"""Less than the 5 s and more after which servers close idle connections."""
_SETTLE_S = 0.25
"""How long the end of the transport is waited for once the reply itself is complete."""
_HUNG: Expiry = "hung"
_STALLED: Expiry = "stalled"

T = TypeVar("T")


class UpstreamAnswer:
    """An answer at its headers, status 2xx; `content_type` is what the server calls it."""

    def __init__(self, upstream: Upstream, response: httpx.Response, asked: float) -> None:
        self.content_type: str = response.headers.get("content-type", "")
        self._upstream = upstream
        self._response = response
        self._chunks = response.aiter_bytes()
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
            except httpx.DecodingError:
                raise failures.garbled(spec) from None
            except httpx.TransportError as error:
                raise failures.cut(spec, Redactor(spec).line(str(error))) from None
            if not chunk:
                return
            yield chunk
            limit_s, kind = spec.deadlines.between_chunks_s, _STALLED

    async def settle(self) -> None:
        """Read what follows a complete reply, so that the connection can be used again."""
        with suppress(httpx.HTTPError, TimeoutError):
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
        self._headers = request_headers(spec)
        self._auth = KeyAuth(spec)
        self._http = _http_client(spec)

    async def aclose(self) -> None:
        """Close the pooled connections."""
        await self._http.aclose()

    @asynccontextmanager
    async def post(self, path: str, body: bytes) -> AsyncIterator[UpstreamAnswer]:
        """Open the answer to POST `path` of the base URL, closed when the block is left.

        A block that is left early, or cancelled, ends the request at the server too. Raises
        EndpointError, for a status of 300 and above as well, and UsageProblem for a missing key.
        """
        asked = asyncio.get_running_loop().time()
        end = asked + self.spec.deadlines.total_s
        response = await self._open("POST", self._base + path, body, end)
        try:
            yield UpstreamAnswer(self, response, asked)
        finally:
            await response.aclose()

    async def get_json(
        self, path: str, *, from_root: bool = False, body: dict[str, Any] | None = None
    ) -> Any:
        """Return the JSON that the server answers to GET `path`, or to POST when there is a body.

        `path` is appended to the base URL, or to the host when `from_root`. Raises EndpointError.
        """
        end = asyncio.get_running_loop().time() + self.spec.deadlines.total_s
        url = (self._root if from_root else self._base) + path
        content = None if body is None else jsontext.wire(body)
        response = await self._open("GET" if body is None else "POST", url, content, end)
        try:
            data = await self._bounded(response, self.spec.max_reply_bytes, end)
        finally:
            await response.aclose()
        return parse_probe(self.spec, data, response.headers.get("content-type", ""))

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

    async def _open(
        self, method: str, url: str, content: bytes | None, end: float
    ) -> httpx.Response:
        """Return a 2xx response at its headers."""
        try:
            response = await self._hand_over(method, url, content, end)
        except _DeadConnection:
            # A request that crosses the close of an idle connection is lost: nobody's failure.
            response = await self._hand_over(method, url, content, end)
        if response.is_success:
            return response
        try:
            body = (await self._bounded(response, _ERROR_BODY_LIMIT, end)).decode(errors="replace")
        finally:
            await response.aclose()
        headers = {name.lower(): value for name, value in response.headers.items()}
        status, redact = response.status_code, Redactor(self.spec)
        raise failures.http_failure(self.spec, status, headers, body, redact)

    async def _hand_over(
        self, method: str, url: str, content: bytes | None, end: float
    ) -> httpx.Response:
        fresh = False

        async def trace(event: str, info: dict[str, Any]) -> None:
            nonlocal fresh
            fresh = fresh or event.endswith("connect_tcp.complete")

        limits = self.spec.deadlines
        request = self._http.build_request(
            method,
            url,
            content=content,
            headers=self._headers,
            timeout=httpx.Timeout(None, connect=min(limits.connect_s, limits.total_s)),
            extensions={"trace": trace},
        )
        try:
            work = self._http.send(request, stream=True, auth=self._auth)
            return await self.within(work, limits.first_byte_s, end, "hung")
        except httpx.HTTPError as error:
            failure = self._failure(error)
        if isinstance(failure, StreamFailure) and not fresh:
            raise _DeadConnection(str(failure), kind=failure.kind, blame=failure.blame)
        raise failure

    def _failure(self, error: httpx.HTTPError) -> EndpointError | UsageProblem:
        redact = Redactor(self.spec)
        if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
            return failures.connect_timeout(self.spec)
        if isinstance(error, httpx.ConnectError | httpx.ProxyError):
            return failures.connect_failure(self.spec, error, redact)
        if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
            # The library's own words would quote the header, and with it the key.
            return UsageProblem(
                f"model {self.spec.name!r}: the request cannot be put into HTTP. Next: look for "
                "line breaks or odd characters in the base URL and in the configured headers"
            )
        return failures.dropped(self.spec, error, redact)

    async def _bounded(self, response: httpx.Response, limit: int, end: float) -> bytes:
        """Return at most `limit` bytes of a body, fewer when the server stops sending."""
        data = bytearray()
        pause_s = self.spec.deadlines.between_chunks_s
        chunks = response.aiter_bytes()
        with suppress(httpx.HTTPError):
            while chunk := await self.within(anext(chunks, b""), pause_s, end, "stalled"):
                data += chunk
                if len(data) > limit:
                    break
        return bytes(data[:limit])


class _DeadConnection(StreamFailure):
    """A pooled connection was closed before it answered."""


def _http_client(spec: EndpointSpec) -> httpx.AsyncClient:
    parts = split_address(spec)
    try:
        httpx.URL(spec.base_url)
        return httpx.AsyncClient(
            verify=verification(parts.scheme),
            # A proxy variable must not swallow calls to this machine.
            trust_env=not is_loopback(parts.hostname or ""),
            follow_redirects=False,
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=64, keepalive_expiry=_KEEPALIVE_S
            ),
        )
    except httpx.InvalidURL:
        raise bad_address(spec) from None
    except (ImportError, ValueError, OSError) as error:
        raise UsageProblem(
            f"model {spec.name!r}: the proxy or certificate settings of the environment cannot be "
            f"used: {one_line(str(error))}. Next: correct HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or "
            "SSL_CERT_FILE, or name the host in NO_PROXY"
        ) from None

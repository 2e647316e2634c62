"""The pooled async connections of one endpoint.

They are httpcore's, the layer below httpx: redirects, cookies and log-ins are nothing a bridge has
a use for, and going through them takes a fifth of the time the bridge adds to a call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import httpcore
import httpx

from pytest_agentlimit.endpoints import failures
from pytest_agentlimit.endpoints.keys import Redactor, api_key, auth_header
from pytest_agentlimit.endpoints.network import certificates, proxy_for
from pytest_agentlimit.endpoints.outgoing import bad_address, request_headers
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import EndpointError, StreamFailure, UsageProblem

TRANSPORT_ERRORS = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
DecodingError = httpx.DecodingError

_KEPT = 64
_KEEPALIVE_S = 4.0
"""Less than the 5 s and more after which servers close idle connections."""

_connected: ContextVar[bool] = ContextVar("connected")
"""Whether the request that a task is sending has a connection of its own."""


class Answer:
    """An answer at its headers, their names in lower case."""

    def __init__(self, response: httpcore.Response) -> None:
        self.status: int = response.status
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in response.headers
        }
        self._response = response

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body as it comes, once. Raises TRANSPORT_ERRORS and DecodingError."""
        if self.headers.get("content-encoding", "identity").lower() == "identity":
            return self._response.aiter_stream()
        # None was asked for. A few servers compress all the same, and httpx can undo it.
        headers, body = self._response.headers, _Body(self._response)
        return httpx.Response(self.status, headers=headers, stream=body).aiter_bytes()

    async def aclose(self) -> None:
        """Give the connection back; close it when the body was not read to its end."""
        await self._response.aclose()


class Connections:
    """Opens answers of one endpoint; for one event loop, closed with `aclose`.

    Raises UsageProblem at once for an address, headers or an environment that nothing can be sent
    with.
    """

    def __init__(self, spec: EndpointSpec) -> None:
        self._spec = spec
        self._headers = request_headers(spec)
        try:
            _place(spec.base_url)
        except httpx.InvalidURL:
            raise bad_address(spec) from None
        limits = spec.deadlines
        self._timeouts = {"connect": min(limits.connect_s, limits.total_s)}
        self._pool = _pool(spec)

    async def aclose(self) -> None:
        """Close them."""
        await self._pool.aclose()

    async def open(self, method: str, url: str, content: bytes | None) -> Answer:
        """Return the answer to a request, whatever its status. EndpointError, UsageProblem."""
        try:
            return await self._send(method, url, content)
        except _DeadConnection:
            # A request that crosses the close of an idle connection is lost: nobody's failure.
            return await self._send(method, url, content)

    async def _send(self, method: str, url: str, content: bytes | None) -> Answer:
        _connected.set(False)
        try:
            request = self._request(method, url, content)
            return Answer(await self._pool.handle_async_request(request))
        except TRANSPORT_ERRORS as error:
            failure = self._failure(error)
        if isinstance(failure, StreamFailure) and not _connected.get():
            raise _DeadConnection(str(failure), kind=failure.kind, blame=failure.blame)
        raise failure

    def _request(self, method: str, url: str, content: bytes | None) -> httpcore.Request:
        """Return the request with the key on it, which no frame that lives longer holds."""
        place, host = _place(url)
        headers = {"host": host, "accept": "*/*"} | self._headers
        key = api_key(self._spec)
        if key is not None:
            name, value = auth_header(self._spec, key)
            headers[name.lower()] = value
        if content is not None:
            headers["content-length"] = str(len(content))
        return httpcore.Request(
            method,
            place,
            headers=[(name, value.encode()) for name, value in headers.items()],
            content=content,
            extensions={"timeout": self._timeouts},
        )

    def _failure(self, error: Exception) -> EndpointError | UsageProblem:
        redact = Redactor(self._spec)
        if isinstance(error, httpcore.ConnectTimeout | httpcore.PoolTimeout):
            return failures.connect_timeout(self._spec)
        if isinstance(error, httpcore.ConnectError | httpcore.ProxyError):
            return failures.connect_failure(self._spec, error, redact)
        if isinstance(error, httpcore.UnsupportedProtocol | httpcore.LocalProtocolError):
            # The library's own words would quote the header, and with it the key.
            return UsageProblem(
                f"model {self._spec.name!r}: the request cannot be put into HTTP. Next: look for "
                "line breaks or odd characters in the base URL and in the configured headers"
            )
        return failures.dropped(self._spec, error, redact)


class _DeadConnection(StreamFailure):
    """A pooled connection was closed before it answered."""


class _Network(httpcore.AnyIOBackend):
    """Notes in the task that sends a request whether it opened a connection."""

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        stream = await super().connect_tcp(*args, **kwargs)
        _connected.set(True)
        return stream


class _Body(httpx.AsyncByteStream):
    """The body of an answer, for httpx."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_stream():
            yield chunk


def _pool(spec: EndpointSpec) -> httpcore.AsyncConnectionPool:
    proxy = proxy_for(spec)
    return httpcore.AsyncConnectionPool(
        ssl_context=certificates(spec),
        proxy=None if proxy is None else httpcore.Proxy(str(proxy.url), auth=proxy.raw_auth),
        max_connections=None,
        max_keepalive_connections=_KEPT,
        keepalive_expiry=_KEEPALIVE_S,
        network_backend=_Network(),
    )


@lru_cache(maxsize=256)
def _place(url: str) -> tuple[httpcore.URL, str]:
    """Return where a request goes, and the host header that names it. httpx.InvalidURL."""
    parsed = httpx.URL(url)  # international names and odd characters are its business
    place = httpcore.URL(
        scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path
    )
    return place, parsed.netloc.decode("ascii")

"""The HTTP client of one endpoint; only this module, connections.py and network.py know httpx.

Sends neutral requests, reads replies with the client's own clocks, and says of every failure what
it was: refused, hung, stalled, slow, an HTTP error, not the protocol, cut off (PROTOCOLS R5-R7).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Generator
from typing import Any

import httpx

from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.emulated_reply import emulated_reply
from pytest_agentlimit.chat.emulation import emulated_request
from pytest_agentlimit.chat.messages import ChatReply, ChatRequest
from pytest_agentlimit.endpoints import failures
from pytest_agentlimit.endpoints.curl import curl_command
from pytest_agentlimit.endpoints.inflight import Turn, Turnstile
from pytest_agentlimit.endpoints.keys import Redactor, api_key, auth_header
from pytest_agentlimit.endpoints.known_faults import KnownFaults
from pytest_agentlimit.endpoints.network import certificates, proxy_for
from pytest_agentlimit.endpoints.outgoing import (
    bad_address,
    complete_request,
    request_headers,
    split_address,
)
from pytest_agentlimit.endpoints.reading import ReplyReader, parse_probe
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.endpoints.timing import Exchange, Guard, Stopwatch, note_arrivals
from pytest_agentlimit.errors import EndpointError, StreamFailure, UsageProblem

# What a transport without a network is written with; aliases, so that httpx stays in this module.
Transport = httpx.BaseTransport
TransportRequest = httpx.Request
TransportResponse = httpx.Response
TransportStream = httpx.SyncByteStream

_BACKSTOP_S = 5.0
_ERROR_BODY_LIMIT = 65_536
# Servers close idle connections after 5 s and more; a connection that is closed while a request is
# on its way would look like a crash of the server.
_KEEPALIVE_S = 4.0

_log = logging.getLogger("agentlimit")


class EndpointClient:
    """A pooled client of one endpoint; safe to use from several threads, and a context manager.

    `on_exchange` is called once for every call that was sent, whether it succeeded or failed.
    `transport` replaces the network; `clock` (seconds) and `sleep` replace time in tests.
    `turnstile` keeps calls of other processes away while one is timed; it and `on_exchange` may be
    set later. `known_faults` refuses what the engine cannot do and marks what it does wrong.
    """

    known_faults: KnownFaults | None = None

    def __init__(
        self,
        spec: EndpointSpec,
        *,
        on_exchange: Callable[[Exchange], None] | None = None,
        transport: Transport | None = None,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        turnstile: Turnstile | None = None,
    ) -> None:
        self.spec = spec
        self.turnstile = turnstile
        self._base = spec.base_url.rstrip("/")
        self._codec = codec_for(spec.dialect)
        self.on_exchange = on_exchange
        self._clock = clock
        self._sleep = sleep
        request_headers(spec)  # odd headers are refused here, not in the first call
        parts = split_address(spec)
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._http = _http_client(spec, transport)

    def __enter__(self) -> EndpointClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EndpointClient {self.spec.dialect} {self._base} {self.spec.model!r}>"

    def at(self, base_url: str, **changes: Any) -> EndpointClient:
        """Return a client of the same model at another address, with this one's observer and turns.

        `changes` are those of its spec. Its key and its headers are for its own address, and are
        not sent to that one.
        """
        place: dict[str, Any] = {"base_url": base_url, "api_key_env": None, "headers": {}}
        spec = self.spec.model_copy(update={"kind": "remote", **place, **changes})
        there = EndpointClient(spec, on_exchange=self.on_exchange, turnstile=self.turnstile)
        there.known_faults = self.known_faults
        return there

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()

    def send(self, request: ChatRequest) -> ChatReply:
        """Return the reply to `request`, streamed when `request.stream`.

        The reply carries its timing, the bytes as they came (bounded) and a curl command. Raises
        an EndpointError that says how the call failed, or UsageProblem before anything is sent.
        Where the endpoint's tools are emulated, the reply has the calls that were made out in its
        text; the bytes and the command are those of what was really sent.
        """
        request = complete_request(self.spec, request)
        if self.known_faults:
            self.known_faults.before(request)
        emulated = self.spec.tools == "emulate"
        asked = self._emulated(request) if emulated else request
        body = json.dumps(self._codec.encode_request(asked))
        api_key(self.spec)  # a missing variable is said before the clock starts
        turn = self.turnstile.turn() if self.turnstile else Turn()
        try:
            with turn:
                watch = Stopwatch(self._clock)  # after the wait, which is not the server's time
                reply = self._send_with_retries(asked, body, watch)
        except EndpointError as error:
            if emulated and error.partial:
                error.partial = emulated_reply(request, error.partial)
            timing = error.partial.timing if error.partial else watch.timing()
            self._report(watch, turn, request=request, error=error, timing=timing)
            raise
        reply = emulated_reply(request, reply) if emulated else reply
        if self.known_faults:
            reply = self.known_faults.after(request, reply)
        self._report(watch, turn, request=request, reply=reply, timing=reply.timing)
        return reply

    def get_json(
        self, path: str, *, from_root: bool = False, body: dict[str, Any] | None = None
    ) -> Any:
        """Return the JSON that the server answers to GET `path`, or to POST when there is a body.

        `path` is appended to the base URL, or to the host when `from_root`. For probes: no
        retries, no exchange, no turn. Raises EndpointError.
        """
        api_key(self.spec)
        url = (self._root if from_root else self._base) + path
        content = None if body is None else json.dumps(body)
        method = "GET" if body is None else "POST"
        with Guard(self.spec.deadlines, self.spec.deadlines.total_s) as guard:
            response = self._open(method, url, content, guard, Stopwatch(self._clock))
            try:
                if not response.is_success:
                    raise self._http_failure(response, guard)
                data = self._read_bounded(response, guard, self.spec.max_reply_bytes)
            finally:
                response.close()
            if guard.expired:
                raise failures.deadline(self.spec, guard.expired)
        return parse_probe(self.spec, data, response.headers.get("content-type", ""))

    def _send_with_retries(self, request: ChatRequest, body: str, watch: Stopwatch) -> ChatReply:
        while True:
            try:
                return self._attempt(request, body, watch)
            except EndpointError as error:
                watch.stop()
                answered = watch.first_byte_s is not None
                wait_s = failures.retry_delay(error, watch.attempts, answered=answered)
                if wait_s is None or watch.attempts - watch.resent > self.spec.retries:
                    raise
                left = self.spec.retries + 1 + watch.resent - watch.attempts
                _log.warning("retrying in %.1f s (%d left): %s", wait_s, left, error)
                watch.back_off(wait_s, self._sleep)

    def _attempt(self, request: ChatRequest, body: str, watch: Stopwatch) -> ChatReply:
        """Return the reply of one attempt, sent once more when its pooled connection was dead.

        Servers close idle connections whenever they like (llama.cpp does after every stream), and
        a request that crosses the close is lost without an answer: that is nobody's failure.
        """
        try:
            return self._exchange(request, body, watch)
        except StreamFailure as error:
            if not watch.reused or watch.first_byte_s is not None:
                raise
            _log.warning("sending again on a new connection: %s", error)
            watch.stop()
            watch.back_off(0.0, self._sleep)
            watch.resent += 1
            return self._exchange(request, body, watch)

    def _exchange(self, request: ChatRequest, body: str, watch: Stopwatch) -> ChatReply:
        url = self._base + self._codec.PATH
        redact = Redactor(self.spec)
        with Guard(self.spec.deadlines, self.spec.deadlines.total_s - watch.now()) as guard:
            response = self._open("POST", url, body, guard, watch)
            reader: ReplyReader | None = None
            try:
                if not response.is_success:
                    raise self._http_failure(response, guard)
                kind = response.headers.get("content-type", "")
                reader = ReplyReader(self.spec, request, kind, redact)
                self._read(response, reader, guard, watch)
                watch.finish()
                return self._dressed(reader.result(), reader, request, body, watch)
            except EndpointError as error:
                partial = reader.partial() if reader else None
                if reader and partial:
                    error.partial = self._dressed(partial, reader, request, body, watch)
                raise
            finally:
                guard.release()
                response.close()

    def _open(
        self, method: str, url: str, content: str | None, guard: Guard, watch: Stopwatch
    ) -> httpx.Response:
        """Return the response at its headers; every failure before them is told apart."""
        limits = self.spec.deadlines

        def trace(event: str, info: dict[str, Any]) -> None:
            watch.start()  # the first event is the first step towards the network
            if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
                watch.connect_s = watch.now()
                note_arrivals(info["return_value"], self._clock)
                guard.attach(info["return_value"])
            if event == "http11.send_request_headers.started":
                watch.reused = watch.connect_s is None

        request = self._http.build_request(
            method,
            url,
            content=content,
            headers=request_headers(self.spec),
            timeout=httpx.Timeout(
                min(limits.first_byte_s, limits.total_s),
                connect=min(limits.connect_s, limits.total_s),
            ),
            extensions={"trace": trace},
        )
        response = self._hand_over(request, guard)
        watch.follow(response.extensions.get("network_stream"))
        watch.first_byte_s = watch.arrival()
        guard.attach(response.extensions.get("network_stream"))
        # The body's read time-out is taken when reading starts; the guard is finer and comes first.
        request.extensions["timeout"]["read"] = limits.total_s + _BACKSTOP_S
        return response

    def _hand_over(self, request: httpx.Request, guard: Guard) -> httpx.Response:
        redact = Redactor(self.spec)
        try:
            return self._http.send(request, stream=True, auth=_KeyAuth(self.spec))
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            raise failures.connect_timeout(self.spec) from None
        except (httpx.ReadTimeout, httpx.WriteTimeout):
            raise failures.deadline(self.spec, "hung") from None
        except (httpx.ConnectError, httpx.ProxyError) as error:
            raise failures.connect_failure(self.spec, error, redact) from None
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError):
            # The library's own words would quote the header, and with it the key.
            raise UsageProblem(
                f"model {self.spec.name!r}: the request cannot be put into HTTP. Next: look for "
                "line breaks or odd characters in the base URL and in the configured headers"
            ) from None
        except httpx.TransportError as error:
            if guard.expired:
                raise failures.deadline(self.spec, guard.expired) from None
            raise failures.dropped(self.spec, error, redact) from None

    def _read(
        self, response: httpx.Response, reader: ReplyReader, guard: Guard, watch: Stopwatch
    ) -> None:
        try:
            for chunk in response.iter_bytes():
                guard.chunk_seen()
                reader.feed(chunk, watch.arrival())
                if guard.expired:
                    break
        except httpx.DecodingError:
            raise failures.garbled(self.spec) from None
        except httpx.TransportError as error:
            watch.stop()
            if not guard.expired:
                if not reader.complete:
                    raise failures.cut(self.spec, Redactor(self.spec).line(str(error))) from None
                reader.note("unclean_close", "the connection broke after the end of the reply")
        if guard.expired:
            raise failures.deadline(self.spec, guard.expired)

    def _read_bounded(self, response: httpx.Response, guard: Guard, limit: int) -> bytes:
        """Return at most `limit` bytes of a body, fewer when the server stops sending."""
        data = bytearray()
        try:
            for chunk in response.iter_bytes():
                guard.chunk_seen()
                data += chunk
                if len(data) > limit or guard.expired:
                    break
        except httpx.RequestError:
            pass  # what came is all the evidence there is; a passed deadline is in the guard
        return bytes(data[:limit])

    def _http_failure(self, response: httpx.Response, guard: Guard) -> EndpointError:
        body = self._read_bounded(response, guard, _ERROR_BODY_LIMIT).decode("utf-8", "replace")
        headers = {name.lower(): value for name, value in response.headers.items()}
        status = response.status_code
        return failures.http_failure(self.spec, status, headers, body, Redactor(self.spec))

    def _dressed(
        self,
        reply: ChatReply,
        reader: ReplyReader,
        request: ChatRequest,
        body: str,
        watch: Stopwatch,
    ) -> ChatReply:
        """Return `reply` with timing, evidence and curl, and without secrets."""
        url = self._base + self._codec.PATH
        timing = watch.timing(
            ttft_s=reader.ttft_s, first_tool_s=reader.first_tool_s, server=reply.timing.server
        )
        curl = curl_command(self.spec, url, body, stream=request.stream)
        dressed = {"timing": timing, "raw": reader.raw.kept(), "curl": curl}
        return Redactor(self.spec).reply(reply.model_copy(update=dressed))

    def _emulated(self, request: ChatRequest) -> ChatRequest:
        asked = emulated_request(request)
        if self.known_faults and self.known_faults.knows("schema_refused"):
            return asked.model_copy(update={"json_schema": None})  # the prompt has to do alone
        return asked

    def _report(self, watch: Stopwatch, turn: Turn, **outcome: Any) -> None:
        if self.on_exchange is not None:
            exchange = Exchange(
                **outcome,
                started=watch.started,
                ended=watch.stop(),
                backoff_s=watch.backoff_s,
                waited_s=turn.waited_s,
                inflight_start=turn.inflight_start,
                inflight_end=turn.inflight_end,
            )
            self.on_exchange(exchange)


class _KeyAuth(httpx.Auth):
    """Puts the key on the request at the last moment, so that no frame of ours holds it."""

    def __init__(self, spec: EndpointSpec) -> None:
        self._spec = spec

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Yield `request` with its key."""
        key = api_key(self._spec)
        if key is not None:
            name, value = auth_header(self._spec, key)
            request.headers[name] = value
        yield request


def _http_client(spec: EndpointSpec, transport: Transport | None) -> httpx.Client:
    try:
        httpx.URL(spec.base_url)
    except httpx.InvalidURL:
        raise bad_address(spec) from None
    return httpx.Client(
        transport=transport,
        verify=certificates(spec) or False,
        proxy=proxy_for(spec),
        trust_env=False,  # the two lines above have what is in it
        follow_redirects=False,
        limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S),
    )

"""A model endpoint that says what a test tells it to, and a clock that a test moves.

For the tests of anything that talks to a model; works with and without pytest:

>>> from pytest_agentlimit import Endpoint
>>> from pytest_agentlimit.chat.messages import ChatRequest, Message, TextBlock
>>> from pytest_agentlimit.testing import ScriptedEndpoint, call, say
>>> hello = ChatRequest(model="", messages=(Message(role="user", blocks=(TextBlock(text="hi"),)),))
>>> with ScriptedEndpoint([call("get_weather", city="Oslo"), say("Snow.")]) as server:
...     with Endpoint(server.endpoint()) as client:
...         first, second = client.send(hello), client.send(hello)
>>> first.tool_calls[0].arguments["city"], second.text, len(server.requests)
('Oslo', 'Snow.', 2)

`server.spec` is its literal name for `--agent-model`, as for any other server.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, get_args

from pytest_agentlimit._grammar import anthropic_grammar
from pytest_agentlimit._loopback import Answer, LoopbackServer
from pytest_agentlimit._scripted import INVALID_UTF8, Scripted, played
from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import (
    ChatRequest,
    Dialect,
    Frozen,
    TextBlock,
    ThinkingBlock,
    ToolCall,
    WireError,
)
from pytest_agentlimit.endpoints.spec import EndpointSpec

__all__ = [
    "ScriptedEndpoint",
    "CapturedRequest",
    "Scripted",
    "say",
    "call",
    "calls",
    "http_error",
    "html",
    "raw",
    "hang",
    "drop",
    "endless",
    "huge",
    "INVALID_UTF8",
    "FakeClock",
    "anthropic_grammar",
]

_DIALECTS: dict[str, Dialect] = {
    "/v1/chat/completions": "openai",
    "/v1/messages": "anthropic",
    "/api/chat": "ollama",
}
_HTML = b"<!doctype html><html><head><title>It works!</title></head><body>ok</body></html>"
_KINDS = {401: "auth", 403: "auth", 404: "not_found", 429: "rate_limit", 503: "overloaded"}


def say(text: str, *, thinking: str = "", **fields: Any) -> Scripted:
    """Return an answer of visible `text`, after `thinking` when given; `fields` of Scripted."""
    thoughts = (ThinkingBlock(text=thinking),) if thinking else ()
    return Scripted(blocks=(*thoughts, TextBlock(text=text)), **fields)


def call(name: str, **arguments: Any) -> Scripted:
    """Return an answer that calls one tool."""
    return calls((name, arguments))


def calls(*wanted: tuple[str, Mapping[str, Any] | str]) -> Scripted:
    """Return an answer of several tool calls: (name, arguments) each; text goes out verbatim."""
    return Scripted(
        blocks=tuple(
            ToolCall(
                id=f"call_{number}",
                name=name,
                raw_arguments=arguments if isinstance(arguments, str) else json.dumps(arguments),
            )
            for number, (name, arguments) in enumerate(wanted)
        )
    )


def http_error(status: int, message: str = "scripted failure", **headers: str) -> Scripted:
    """Return an HTTP error in the dialect's shape; `retry_after="1"` becomes a header."""
    kind = _KINDS.get(status, "server_error" if status >= 500 else "bad_request")
    return Scripted(
        error=WireError.model_validate({"status": status, "kind": kind, "message": message}),
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def html(status: int = 200) -> Scripted:
    """Return a web page, as health pages and captive portals send."""
    return raw(_HTML, "text/html; charset=utf-8", status=status)


def raw(body: bytes, content_type: str = "application/json", *, status: int = 200) -> Scripted:
    """Return `body` as it is."""
    return Scripted(body=body, content_type=content_type, status=status)


def hang() -> Scripted:
    """Return an answer that never comes; the connection stays open."""
    return Scripted(act="hang")


def drop() -> Scripted:
    """Return a connection closed before any answer."""
    return Scripted(act="drop")


def endless(chunk_delay_s: float = 0.0) -> Scripted:
    """Return a reply that goes on until the client leaves."""
    return Scripted(act="flood", chunk_delay_s=chunk_delay_s)


def huge(size: int) -> Scripted:
    """Return a reply of `size` bytes of text."""
    return Scripted(act="flood", flood_bytes=size)


class CapturedRequest(Frozen):
    """A request as it came in: header names in lower case, the body parsed when it is JSON."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any = None


class ScriptedEndpoint:
    """A real HTTP server on a free loopback port that plays a script, in all three dialects.

    `replies` are given in order and the last one repeats, or come from a function of the request.
    `dialect` decides what `spec` and `url` say; every dialect is answered on its own path, as are
    model lists on GET. `routes` answer further paths, or these in another way. With `api_key`,
    requests without that key get 401. Use it as a context manager, or `close` it.

    Its model lists say `"owned_by": "scripted"`, so a run sends it no warm-up.
    """

    def __init__(
        self,
        replies: Sequence[Scripted] | Callable[[ChatRequest], Scripted],
        *,
        dialect: Dialect = "openai",
        model: str = "scripted",
        api_key: str | None = None,
        routes: Mapping[str, Scripted] | None = None,
    ) -> None:
        if not callable(replies) and not replies:
            raise ValueError("a scripted endpoint needs at least one reply: try [say('hello')]")
        self.dialect: Dialect = dialect
        self.model = model
        self.requests: list[CapturedRequest] = []
        """Every request in order of arrival, probes included."""
        self.chat_requests: list[ChatRequest] = []
        """The chat requests among them, decoded."""
        self._replies = replies
        self._api_key = api_key
        self._routes = dict(routes or {})
        self._lock = threading.Lock()
        for spoken in get_args(Dialect):
            codec_for(spoken)  # imported here, while nobody else imports (see discovery.py)
        self._server = LoopbackServer(self._answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection, also of hanging answers; no thread or socket is left."""
        self._server.close()

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self._server.port

    @property
    def url(self) -> str:
        """The base URL as the dialect wants it: with /v1 for openai, without for the others."""
        return f"http://127.0.0.1:{self.port}" + ("/v1" if self.dialect == "openai" else "")

    @property
    def spec(self) -> str:
        """The literal model name, for --agent-model."""
        return f"{self.dialect}+{self.url}#{self.model}"

    @property
    def connections(self) -> int:
        """How many connections were accepted; a pooled client needs one."""
        return self._server.connections

    @property
    def problems(self) -> list[BaseException]:
        """What a reply function raised; its request got a 500."""
        return self._server.problems

    def endpoint(self, **changes: Any) -> EndpointSpec:
        """Return the resolved spec of this server, with `changes` of EndpointSpec."""
        spec = {"name": "scripted", "dialect": self.dialect, "base_url": self.url}
        return EndpointSpec(**{**spec, "model": self.model, **changes})

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Return what goes back for one request; called by the server's threads."""
        captured = CapturedRequest(method=method, path=path, headers=headers, body=_parsed(body))
        with self._lock:
            self.requests.append(captured)
        route = path.partition("?")[0]
        dialect = _DIALECTS.get(route, self.dialect)
        if self._api_key is not None and not _has_key(headers, self._api_key):
            return played(http_error(401, "invalid API key"), None, dialect, self.model)
        if route in self._routes:
            return played(self._routes[route], None, dialect, self.model)
        if method == "POST" and route in _DIALECTS:
            return self._chat(captured.body, dialect)
        return self._listing(route)

    def _chat(self, body: Any, dialect: Dialect) -> Answer:
        try:
            if not isinstance(body, dict):
                raise ValueError("the body is no JSON object")
            request = codec_for(dialect).decode_request(jsontext.scrub(body)[0])
        except ValueError as error:
            return played(http_error(400, str(error)), None, dialect, self.model)
        with self._lock:
            self.chat_requests.append(request)
            number = len(self.chat_requests) - 1
        try:
            if callable(self._replies):
                scripted = self._replies(request)
            else:
                scripted = self._replies[min(number, len(self._replies) - 1)]
        except Exception as error:
            self.problems.append(error)
            return played(http_error(500, f"reply function: {error!r}"), None, dialect, self.model)
        return played(scripted, request, dialect, self.model)

    def _listing(self, route: str) -> Answer:
        name = self.model
        whose = {"owned_by": "scripted"}  # no warm-up: it would take a reply out of the script
        lists: dict[str, Any] = {
            "/": {"scripted": True},
            "/v1/models": {"object": "list", "data": [{"id": name, "object": "model", **whose}]},
            "/api/tags": {"models": [{"name": name, "model": name, **whose}]},
        }
        if route in lists:
            answer = raw(json.dumps(lists[route]).encode())
        else:
            answer = http_error(404, f"no route {route}")
        return played(answer, None, self.dialect, name)


def _has_key(headers: dict[str, str], key: str) -> bool:
    return f"Bearer {key}" == headers.get("authorization") or key == headers.get("x-api-key")


def _parsed(body: bytes) -> Any:
    """Return a request body as JSON where it is, as text otherwise, None when empty."""
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


class FakeClock:
    """A clock that stands still until it is moved; call it for the time in seconds."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def __call__(self) -> float:
        """Return the time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the time on."""
        self._now += seconds

    def sleep(self, seconds: float) -> None:
        """Move the time on, in place of time.sleep."""
        self.advance(seconds)

"""The routes of the bridge, and the door in front of them."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pytest_agentlimit import __version__
from pytest_agentlimit.bridge.capture import Capture, Seen
from pytest_agentlimit.bridge.chain import Members
from pytest_agentlimit.bridge.errors import (
    Refusal,
    error_body,
    error_headers,
    refusal,
    refusal_for,
)
from pytest_agentlimit.bridge.exchange import Desk, Exchange, shown_keys
from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.bridge.sending import Answer
from pytest_agentlimit.chat.messages import Dialect
from pytest_agentlimit.endpoints.upstream import Upstream
from pytest_agentlimit.errors import AgentLimitError

_LISTS = {
    "openai": ("/models", "data", "id"),
    "anthropic": ("/v1/models", "data", "id"),
    "ollama": ("/api/tags", "models", "name"),
}


def bridge_app(
    members: Members,
    policy: Policy,
    capture: Capture,
    observe: Callable[[Seen], None] | None = None,
) -> ASGIApp:
    """Return the bridge as an ASGI app; it closes `members` and `capture` when it shuts down."""
    desk = Desk(members, policy, capture, observe)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await members.aclose()
        capture.close()

    async def models(request: Request) -> Response:
        try:
            return JSONResponse(_listing(await _listed_first(members)))
        except AgentLimitError as failure:
            return _refused(request.scope, refusal_for(failure))

    async def hello(request: Request) -> Response:
        return JSONResponse({"name": "agentlimit bridge", "version": __version__})

    routes = [
        Route("/v1/messages", _Chat(desk, "anthropic"), methods=["POST"]),
        Route("/v1/messages/count_tokens", _Chat(desk, "anthropic", True), methods=["POST"]),
        Route("/v1/chat/completions", _Chat(desk, "openai"), methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
        Route("/", hello, methods=["GET"]),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _no_route})
    app.router.redirect_slashes = False
    return _Door(app, policy.token) if policy.token else app


class _Chat:
    """One of the routes that take a conversation."""

    def __init__(self, desk: Desk, dialect: Dialect, count_only: bool = False) -> None:
        self._desk = desk
        self._dialect: Dialect = dialect
        self._count_only = count_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(self._desk, self._dialect, scope, send)
        await exchange.run(receive, count_only=self._count_only)


class _Door:
    """Lets in who shows the token; `/` answers everybody, and says nothing of the upstream."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/":
            shown = [key.encode("latin-1") for key in shown_keys(scope)]
            if not any(hmac.compare_digest(key, self._token) for key in shown):
                wrong = refusal(401, "this bridge wants its token, as bearer token or x-api-key")
                await Answer(send, dialect_of(scope)).refuse(wrong)
                return
        await self._app(scope, receive, send)


def dialect_of(scope: Scope) -> Dialect:
    """Return the dialect in which a client expects errors: by its header, else by the path."""
    headers = dict(scope["headers"])
    anthropic = b"anthropic-version" in headers or scope["path"].startswith("/v1/messages")
    return "anthropic" if anthropic else "openai"


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    asked = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        refused = refusal(405, f"{asked} is not possible: use {allowed}")
    else:
        refused = refusal(error.status_code, f"there is no route {asked}")
    return _refused(request.scope, refused, error.headers)


def _refused(
    scope: Scope, refused: Refusal, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    body = error_body(dialect_of(scope), refused)
    sent = dict(headers or {}) | error_headers(refused)
    return JSONResponse(body, status_code=refused.status, headers=sent)


async def _listed_first(members: Members) -> list[str]:
    """Return the ids of the first endpoint that lists its models. AgentLimitError of the last."""
    *others, last = members.likely()
    for member in others:
        with suppress(AgentLimitError):
            return await _model_ids(member.upstream)
    return await _model_ids(last.upstream)


async def _model_ids(upstream: Upstream) -> list[str]:
    """Return the ids the upstream lists, in its order."""
    path, key, name = _LISTS[upstream.spec.dialect]
    answer = await upstream.get_json(path)
    entries = answer.get(key) if isinstance(answer, dict) else None
    listed = entries if isinstance(entries, list) else []
    ids = [entry.get(name) for entry in listed if isinstance(entry, dict)]
    return [one for one in ids if isinstance(one, str)]


def _listing(ids: list[str]) -> dict[str, Any]:
    """Return a model list that clients of both dialects can read."""
    data = [
        {
            "id": one,
            "object": "model",
            "type": "model",
            "display_name": one,
            "created": 0,
            "created_at": "1970-01-01T00:00:00Z",
            "owned_by": "agentlimit",
        }
        for one in ids
    ]
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return {"object": "list", "data": data, "has_more": False} | ends

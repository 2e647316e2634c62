"""One request of a client, from its body to the last byte of its answer."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from typing import Any

from starlette.types import Receive, Scope, Send

from pytest_agentlimit.bridge.capture import Capture, Record
from pytest_agentlimit.bridge.counting import TokenCounter, prompt_estimate
from pytest_agentlimit.bridge.errors import Refusal, refusal, refusal_for, refusal_within
from pytest_agentlimit.bridge.policy import Policy, upstream_request
from pytest_agentlimit.bridge.rules import Rules
from pytest_agentlimit.bridge.sending import Answer, ClientLeft, read_body, while_it_stays
from pytest_agentlimit.bridge.translate import Translation
from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import ChatRequest, Dialect
from pytest_agentlimit.endpoints.upstream import Upstream, UpstreamAnswer
from pytest_agentlimit.errors import AgentLimitError, EndpointError
from pytest_agentlimit.text import one_line

PING_S = 5.0
"""After so long without a byte, a client is shown that its reply is still being written."""

_log = logging.getLogger("agentlimit.bridge")


class Desk:
    """What all exchanges of a bridge share; `turns` counts the conversation requests."""

    def __init__(self, upstream: Upstream, policy: Policy, capture: Capture) -> None:
        self.upstream = upstream
        self.policy = policy
        self.capture = capture
        self.counter = TokenCounter(upstream)
        self.turns = 0
        self.requests = 0

    def take_turn(self) -> None:
        """Count a conversation request; a Refusal when there were enough."""
        limit = self.policy.max_turns
        if limit is not None and self.turns >= limit:
            raise refusal(400, f"turn limit: {limit} requests were answered (--max-turns)")
        self.turns += 1


class Exchange:
    """Answers one request; `run` sends exactly one answer, or none to a client that left."""

    def __init__(self, desk: Desk, dialect: Dialect, scope: Scope, send: Send) -> None:
        self._desk = desk
        self._dialect = dialect
        self._scope = scope
        self._answer = Answer(send, dialect)
        self._began = time.perf_counter()
        self._last_s = 0.0
        self._translation: Translation | None = None
        desk.requests += 1
        self._seen: dict[str, Any] = {
            "number": desk.requests,
            "started": time.time(),
            "route": scope["path"],
            "client": dialect,
            "upstream": desk.upstream.spec.dialect,
        }

    async def run(self, receive: Receive, *, count_only: bool = False) -> None:
        """Read the request, answer it, and write it down."""
        try:
            body, request = await self._request(receive)
            work = self._count(body, request) if count_only else self._chat(body, request)
            await while_it_stays(receive, work, self._left)
        except ClientLeft:
            self._left()
        except Refusal as refused:
            await self._fail(refused)
        except asyncio.CancelledError:  # the server stops; the client is told before it does
            if "client_left" not in self._seen:
                await self._fail(refusal(503, "the bridge is shutting down"))
        except Exception as error:  # a bug of ours must not look like a reply
            _log.exception("the bridge failed")
            await self._fail(refusal(500, f"the bridge failed: {one_line(repr(error))}"))
        finally:
            self._write_down()

    def _left(self) -> None:
        self._seen["client_left"] = True

    async def _request(self, receive: Receive) -> tuple[dict[str, Any], ChatRequest]:
        data = await read_body(self._scope, receive, self._desk.policy.max_body)
        self._seen["request_bytes"] = len(data)
        try:
            body, _ = jsontext.parse(data.decode("utf-8-sig"))
        except ValueError as error:
            said = one_line(str(error), 160)
            raise refusal(400, f"the request body is not JSON: {said}") from None
        self._seen["request"] = body
        try:
            # A schema is somebody else's: whatever pydantic would say of it is one line here.
            request = codec_for(self._dialect).decode_request(body)
        except ValueError as error:
            raise refusal(400, f"the request is no conversation: {_said(error)}") from None
        if not request.messages and request.system is None:
            raise refusal(400, "messages: at least one message is required")
        self._seen |= {"model": request.model, "stream": request.stream}
        return body, request

    async def _count(self, body: dict[str, Any], request: ChatRequest) -> None:
        desk = self._desk
        asked = upstream_request(request, body, desk.policy, self._dialect, desk.upstream.spec)
        counted = await desk.counter.count(asked)
        headers = {} if counted is not None else {"x-agentlimit-tokens": "estimated"}
        tokens = prompt_estimate(asked) if counted is None else counted
        await self._answer.whole(jsontext.wire({"input_tokens": tokens}), headers=headers)

    async def _chat(self, body: dict[str, Any], request: ChatRequest) -> None:
        desk = self._desk
        desk.take_turn()
        spec = desk.upstream.spec
        asked = upstream_request(request, body, desk.policy, self._dialect, spec)
        codec = codec_for(spec.dialect)
        data = jsontext.wire(codec.encode_request(asked))
        try:
            async with desk.upstream.post(codec.PATH, data) as reply:
                rules = Rules(
                    request,
                    prompt_tokens=prompt_estimate(asked),
                    recover=desk.policy.recover_leaks,
                )
                self._translation = Translation(
                    spec,
                    request,
                    self._dialect,
                    rules,
                    reply.content_type,
                    counted=self._dialect == "anthropic" or _wants_usage(body),
                )
                await self._carry(reply, self._translation)
        except EndpointError as failure:
            if self._translation is not None:
                await self._part(self._translation.passed_on())
            raise refusal_for(failure) from None
        except AgentLimitError as failure:
            raise refusal_for(failure) from None

    async def _carry(self, reply: UpstreamAnswer, translation: Translation) -> None:
        """Pass the reply on, chunk by chunk; its end as soon as it is read."""
        async with aclosing(reply.chunks()) as chunks:
            async for chunk in chunks:
                await self._pass_on(chunk, translation)
                if translation.complete:
                    break
        last = translation.finish()
        if translation.error is not None:
            await self._part(last)
            raise refusal_within(translation.error)
        if translation.content_type == "application/json":
            self._seen.setdefault("first_sent_s", time.perf_counter() - self._began)
            await self._answer.whole(last, headers=self._headers())
        else:
            await self._part(last)
            await reply.settle()
            await self._answer.end()

    async def _pass_on(self, chunk: bytes, translation: Translation) -> None:
        at_s = time.perf_counter() - self._began
        self._seen.setdefault("first_byte_s", at_s)
        await self._part(translation.feed(chunk, at_s))
        if self._answer.status is not None and at_s - self._last_s > PING_S:
            await self._part(translation.ping())
        if translation.error is not None:
            raise refusal_within(translation.error)

    async def _part(self, data: bytes) -> None:
        if data and self._translation is not None:
            self._last_s = time.perf_counter() - self._began
            self._seen.setdefault("first_sent_s", self._last_s)
            await self._answer.part(data, self._translation.content_type)

    def _headers(self) -> dict[str, str]:
        assert self._translation is not None
        recovered = self._translation.rules.recovered
        return {"x-agentlimit-recovered": str(recovered)} if recovered else {}

    async def _fail(self, refused: Refusal) -> None:
        """Tell the client: by status while nothing was sent, by an error frame after that."""
        self._seen["error"] = refused.error
        if self._answer.status is None:
            await self._answer.refuse(refused)
        elif self._translation is not None:
            await self._answer.end(self._translation.failed(refused.error))

    def _write_down(self) -> None:
        translation = self._translation
        if translation is not None:
            self._seen["received"] = translation.received
            self._seen["given"] = translation.given
            self._seen["recovered"] = translation.rules.recovered
        total_s = time.perf_counter() - self._began
        record = Record(**self._seen, status=self._answer.status, total_s=total_s)
        self._desk.capture.add(record, shown_keys(self._scope))


def _wants_usage(body: dict[str, Any]) -> bool:
    """Return True when a chat completions client asked for token counts in its stream."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _said(error: ValueError) -> str:
    """Return the first complaint of a validation in one line, without the value it quotes."""
    listed = getattr(error, "errors", None)
    if listed is None:
        return one_line(str(error), 200)
    first = listed(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return one_line(f"{where}: {first['msg']}", 200)


def shown_keys(scope: Scope) -> list[str]:
    """Return the keys a client showed: its bearer token and its x-api-key."""
    headers = dict(scope["headers"])
    bearer = headers.get(b"authorization", b"").decode("latin-1")
    keys = [bearer[7:]] if bearer[:7].lower() == "bearer " else []
    return [key for key in [*keys, headers.get(b"x-api-key", b"").decode("latin-1")] if key]

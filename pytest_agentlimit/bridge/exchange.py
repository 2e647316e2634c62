"""One request of a client, from its body to the last byte of its answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Literal

from starlette.types import Receive, Scope, Send

from pytest_agentlimit.bridge.capture import Capture, Record, Seen
from pytest_agentlimit.bridge.chain import Member, Members, Round
from pytest_agentlimit.bridge.counting import TokenCounter, prompt_estimate
from pytest_agentlimit.bridge.errors import Refusal, Unusable, refusal, refusal_for
from pytest_agentlimit.bridge.policy import Policy, emulates_tools, upstream_request
from pytest_agentlimit.bridge.rules import Rules
from pytest_agentlimit.bridge.sending import Answer, ClientLeft, read_body, while_it_stays
from pytest_agentlimit.bridge.translate import Translation
from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import ChatRequest, Dialect, WireError
from pytest_agentlimit.endpoints.upstream import UpstreamAnswer
from pytest_agentlimit.errors import AgentLimitError
from pytest_agentlimit.text import one_line

PING_S = 5.0
"""After so long without a byte, a client is shown that its reply is still being written."""
PATIENCE_S = 60.0
"""So long the opening of a reply is held back where somebody else could still be asked."""

_log = logging.getLogger("agentlimit.bridge")


class Desk:
    """What all exchanges of a bridge share; `turns` counts the conversation requests."""

    def __init__(
        self,
        members: Members,
        policy: Policy,
        capture: Capture,
        observe: Callable[[Seen], None] | None = None,
    ) -> None:
        self.members = members
        self.policy = policy
        self.capture = capture
        self.observe = observe
        self.counter = TokenCounter(members.primary.upstream)
        self.turns = 0
        self.requests = 0


class Exchange:
    """Answers one request; `run` sends exactly one answer, or none to a client that left."""

    def __init__(self, desk: Desk, dialect: Dialect, scope: Scope, send: Send) -> None:
        self._desk = desk
        self._dialect = dialect
        self._scope = scope
        self._answer = Answer(send, dialect)
        self._began = time.perf_counter()
        self._last_s = 0.0
        self._round = Round(desk.members, lambda: self._answer.status is not None)
        self._translation: Translation | None = None
        self._held = b""
        self._request: ChatRequest | None = None
        self._failure: AgentLimitError | None = None
        desk.requests += 1
        self._seen: dict[str, Any] = {
            "number": desk.requests,
            "started": time.time(),
            "route": scope["path"],
            "client": dialect,
            "upstream": desk.members.primary.spec.dialect,
        }

    async def run(self, receive: Receive, *, count_only: bool = False) -> None:
        """Read the request, answer it, and write it down."""
        try:
            body, request = await self._read(receive)
            work = self._count(body, request) if count_only else self._chat(body, request)
            await while_it_stays(receive, self._answer, work, self._left)
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
            self._write_down(observed=not count_only)

    def _take_turn(self) -> None:
        """Count a conversation request; a Refusal when there were enough."""
        limit = self._desk.policy.max_turns
        if limit is not None and self._desk.turns >= limit:
            self._seen["turn_limit"] = True
            raise refusal(400, f"turn limit: {limit} requests were answered (--max-turns)")
        self._desk.turns += 1

    def _left(self) -> None:
        self._seen["client_left"] = True

    async def _read(self, receive: Receive) -> tuple[dict[str, Any], ChatRequest]:
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
        self._request = request
        self._seen |= {"model": request.model, "stream": request.stream}
        return body, request

    async def _count(self, body: dict[str, Any], request: ChatRequest) -> None:
        desk, primary = self._desk, self._desk.members.primary
        asked = upstream_request(request, body, desk.policy, self._dialect, primary.spec)
        sound = primary.breaker.admits or not desk.members.several
        counted = await desk.counter.count(asked) if sound else None
        headers = {} if counted is not None else {"x-agentlimit-tokens": "estimated"}
        tokens = prompt_estimate(asked) if counted is None else counted
        await self._answer.whole(jsontext.wire({"input_tokens": tokens}), headers=headers)

    async def _chat(self, body: dict[str, Any], request: ChatRequest) -> None:
        """Ask one after the other, until the client has something of a reply or nobody is left."""
        self._take_turn()
        for member in self._round:
            self._failure = None
            try:
                with self._round.asking(member):
                    await self._ask(member, body, request)
                return
            except AgentLimitError as failure:
                self._failure = failure
                if not self._round.goes_on(failure):
                    break
        assert self._failure is not None
        await self._pass_on_the_good()
        refused = refusal_for(self._failure)
        said = refused.error.message + self._round.told()
        raise Refusal(refused.status, refused.error.model_copy(update={"message": said}))

    async def _ask(self, member: Member, body: dict[str, Any], request: ChatRequest) -> None:
        """Answer the client from one endpoint. Raises AgentLimitError."""
        self._translation, self._held = None, b""
        self._seen["upstream"] = member.spec.dialect
        self._seen.pop("first_byte_s", None)
        policy = self._desk.policy
        asked = upstream_request(request, body, policy, self._dialect, member.spec)
        codec = codec_for(member.spec.dialect)
        data = jsontext.wire(codec.encode_request(asked))
        async with member.upstream.post(codec.PATH, data) as reply:
            rules = Rules(
                request,
                prompt_tokens=lambda: prompt_estimate(asked),
                leaks=self._leaks(),
                cut_calls=policy.cut_calls,
                emulate=emulates_tools(policy, member.spec),
            )
            self._translation = Translation(
                member.spec,
                request,
                self._dialect,
                rules,
                reply.content_type,
                counted=self._dialect == "anthropic" or _wants_usage(body),
            )
            await self._carry(reply, self._translation)

    def _leaks(self) -> Literal["pass", "recover", "refuse"]:
        """Return what becomes of calls written as text; the last who is asked is not refused."""
        if self._desk.policy.recover_leaks:
            return "recover"
        return "refuse" if self._round.others_left else "pass"

    async def _carry(self, reply: UpstreamAnswer, translation: Translation) -> None:
        """Pass the reply on, chunk by chunk; its end as soon as it is read."""
        async with aclosing(reply.chunks()) as chunks:
            async for chunk in chunks:
                await self._pass_on(chunk, translation)
                if translation.complete:
                    break
        last = translation.finish()
        if translation.error is not None:
            self._held += last
            raise _unusable(translation, translation.error)
        if translation.content_type == "application/json":
            self._seen.setdefault("first_sent_s", time.perf_counter() - self._began)
            await self._answer.whole(last, headers=self._headers())
        else:
            self._held += last
            await self._send_held()
            self._answer.complete = True
            await reply.settle()  # before the end: the client's next request finds the connection
            await self._answer.end()

    async def _pass_on(self, chunk: bytes, translation: Translation) -> None:
        at_s = time.perf_counter() - self._began
        self._seen.setdefault("first_byte_s", at_s)
        self._held += translation.feed(chunk, at_s)
        if translation.error is not None:
            raise _unusable(translation, translation.error)
        # An opening is no reason to give up the fallbacks, unless the client waits for long.
        waits = at_s - self._seen["first_byte_s"] > PATIENCE_S
        if translation.begun or waits or not self._desk.members.several:
            await self._send_held()
        if self._answer.status is not None and at_s - self._last_s > PING_S:
            self._held = translation.ping()
            await self._send_held()

    async def _pass_on_the_good(self) -> None:
        """Send what was good of a reply that failed, if the client is to have it."""
        translation = self._translation
        if translation is None:
            return
        self._held += translation.passed_on()
        if translation.begun or not self._desk.members.several:
            await self._send_held()

    async def _send_held(self) -> None:
        data, self._held = self._held, b""
        if data and self._translation is not None:
            self._last_s = time.perf_counter() - self._began
            self._seen.setdefault("first_sent_s", self._last_s)
            await self._answer.part(data, self._translation.content_type, self._served_by())

    def _headers(self) -> dict[str, str]:
        assert self._translation is not None
        return self._translation.rules.marks | self._served_by()

    def _served_by(self) -> dict[str, str]:
        """Note whose reply the client gets; return the header that says so."""
        name = self._round.last
        self._seen["served_by"] = name
        return {"x-agentlimit-served-by": name} if self._desk.members.several else {}

    async def _fail(self, refused: Refusal) -> None:
        """Tell the client: by status while nothing was sent, by an error frame after that."""
        self._seen["error"] = refused.error
        if self._answer.status is None:
            await self._answer.refuse(refused)
        elif self._translation is not None:
            await self._answer.end(self._translation.failed(refused.error))

    def _write_down(self, *, observed: bool) -> None:
        desk, translation = self._desk, self._translation
        if translation is not None:
            self._seen["received"] = translation.received
            self._seen["given"] = translation.given
            self._seen["recovered"] = translation.rules.recovered
            self._seen["emulated"] = translation.rules.emulated
        ended = time.perf_counter()
        record = Record(
            **self._seen,
            status=self._answer.status,
            total_s=ended - self._began,
            attempts=tuple(self._round.attempts),
        )
        desk.capture.add(record, shown_keys(self._scope))
        if desk.observe is None or not observed:
            return
        failure = None if isinstance(self._failure, Unusable) else self._failure
        try:
            desk.observe(Seen(record, self._request, failure, self._began, ended))
        except Exception:  # an observer's bug is not the client's
            _log.exception("the observer of the bridge failed")


def _unusable(translation: Translation, error: WireError) -> Unusable:
    return Unusable(error, "leaked_call" if translation.rules.refused else "unusable_reply")


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

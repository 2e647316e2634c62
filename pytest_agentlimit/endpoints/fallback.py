"""Who answers when the first endpoint does not: a chain of endpoints, asked in order.

The policy is here and nowhere else. The chain moves on when an *endpoint* fails: refused or
unreachable, 5xx, 429, hung, stalled, too slow, a cut or broken stream, a reply that does no work.
It does not move on when the request or the configuration is at fault (400, 401, 404, a web page in
place of an API): the next endpoint would only hide that for ever. After a context overflow it
moves on to models with a larger context, or one that is not known.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple, Self

from pytest_agentlimit.chat.leaks import find_leaked_calls
from pytest_agentlimit.chat.messages import ChatReply, ChatRequest
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.endpoints.keys import api_key
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.errors import EndpointError, HTTPFailure

NOT_ASKED = frozenset({"context_smaller", "out_of_time"})
"""Kinds of the errors of members that were passed over."""
_LEAST_S = 0.02
"""With less time left than this, nobody is asked."""


class Attempt(NamedTuple):
    """One member of a chain: what it failed of, None when it answered, and the seconds it took.

    What a failed member had sent is in `error.partial`. A member that was passed over has an error
    of a kind in `NOT_ASKED`.
    """

    name: str
    error: EndpointError | None
    seconds: float


class ChainReply(NamedTuple):
    """A reply, the name of who gave it, and everybody who was asked before, in order."""

    reply: ChatReply
    served_by: str
    attempts: tuple[Attempt, ...]


class ChainFailed(EndpointError):
    """Nobody in a chain answered, or one member showed that the request or the config is wrong.

    Kind, blame and hint are those of the last failure, which is also the `__cause__`.
    """

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        failed = [
            (one.name, one.error)
            for one in attempts
            if one.error is not None and one.error.kind not in NOT_ASKED
        ]
        name, last = failed[-1]
        said = str(last).removesuffix(f". {last.hint}") if last.hint else str(last)
        end = (
            f"nobody in the chain of {len(attempts)} answered, {name} failed last"
            if moves_on(last)
            else f"{name} turned the request down, which a fallback would only hide"
        )
        super().__init__(f"{end}: {said}", kind=last.kind, blame=last.blame, hint=last.hint)
        self.attempts = tuple(attempts)
        self.partial = last.partial
        self.__cause__ = last


def overflowed(error: EndpointError) -> bool:
    """Return True when a prompt was too long, said by a status or inside a 200 stream."""
    in_stream = error.kind == "stream_error" and error.blame == "config"
    return error.kind == "context_overflow" or in_stream


def moves_on(error: EndpointError) -> bool:
    """Return True when a fallback may be asked after `error`: the endpoint's fault, or overflow."""
    if overflowed(error):
        return True
    if isinstance(error, HTTPFailure):
        return error.status >= 500 or error.status == 429
    return error.blame != "config"


def shortfall(reply: ChatReply, request: ChatRequest) -> EndpointError | None:
    """Return why a complete reply does no work, None when it does; `partial` holds the reply.

    Kinds: `context_overflow`, `leaked_call` (tools were offered, a call stands in the text and no
    structured one came), `empty_reply` (neither text nor a call; thinking alone is no answer).
    """
    text = reply.text.strip()
    error: EndpointError | None = None
    if reply.stop_reason == "context_overflow":
        error = EndpointError(
            "the reply ran out of context", kind="context_overflow", blame="config"
        )
    elif not reply.tool_calls and _leaked(reply, request):
        error = EndpointError(
            "the reply holds a tool call as text, which nobody would run",
            kind="leaked_call",
            blame="engine",
            hint="Give the server the tool parser of its model",
        )
    elif not text and not reply.tool_calls:
        error = EndpointError(
            f"the reply is empty (stop reason {reply.stop_reason})",
            kind="empty_reply",
            blame="engine",
            hint="Look at the server's log, and at max_tokens if the model thinks",
        )
    if error is not None:
        error.partial = reply
    return error


def _leaked(reply: ChatReply, request: ChatRequest) -> bool:
    """Return True for a call in the text; one in the thoughts before a text is a mere thought."""
    if request.tool_choice is not None and request.tool_choice.mode == "none":
        return False
    if not reply.leaked_calls:
        return False
    return not reply.text.strip() or bool(find_leaked_calls(reply.text, request.tools))


class Chain:
    """A primary and its fallbacks; a context manager, safe to use from several threads.

    Raises UsageProblem at once for a member that cannot be sent anything (no key, no address).
    Nobody is asked twice, whatever `retries` says: the next in the chain is the second try.

    A reply is assembled before it is returned, so nothing of a failed attempt has reached anyone.
    Who forwards a stream as it comes may go by `moves_on` only until the first event is forwarded;
    from then on a failure belongs to the client, as an error event. `shortfall` is known at the
    end of a reply, so it can only be heeded by who holds the reply back until then.
    """

    def __init__(self, specs: Sequence[EndpointSpec]) -> None:
        if not specs:
            raise ValueError("a chain needs at least a primary")
        with ExitStack() as stack:
            self._clients = [
                stack.enter_context(open_client(spec.model_copy(update={"retries": 0})))
                for spec in specs
            ]
            for spec in specs:
                api_key(spec)
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to every member."""
        self._open.close()

    def send(self, request: ChatRequest, budget_s: float = math.inf) -> ChainReply:
        """Return the first reply that does work, and every attempt on the way to it.

        Each member has its own deadlines, and no more than what is left of `budget_s` seconds for
        all. A member that names a model is asked for that one. Raises ChainFailed.
        """
        end = time.monotonic() + budget_s
        attempts: list[Attempt] = []
        overflow = 0
        for client in self._clients:
            spec = client.spec
            left_s = end - time.monotonic()
            if left_s < _LEAST_S and attempts:
                attempts.append(_passed_over(spec, "out_of_time", f"{budget_s:g} s are used up"))
                continue
            if spec.context_window is not None and spec.context_window <= overflow:
                why = f"its context is no larger than {overflow} tokens"
                attempts.append(_passed_over(spec, "context_smaller", why))
                continue
            reply, attempt = _asked(client, request, left_s)
            attempts.append(attempt)
            if reply is not None:
                return ChainReply(reply, spec.name, tuple(attempts))
            if attempt.error is not None and not moves_on(attempt.error):
                break
            if attempt.error is not None and overflowed(attempt.error):
                overflow = max(overflow, spec.context_window or 0)
        raise ChainFailed(attempts)


def _asked(
    client: EndpointClient, request: ChatRequest, left_s: float
) -> tuple[ChatReply | None, Attempt]:
    """Return the reply of one member, None when it failed, and how that went."""
    spec = client.spec
    own = request.model_copy(update={"model": spec.model or request.model})
    began = time.monotonic()
    reply: ChatReply | None = None
    error: EndpointError | None
    try:
        reply = bounded(client, left_s).send(own)
        error = shortfall(reply, own)
    except EndpointError as failure:
        error = failure
    attempt = Attempt(spec.name, error, time.monotonic() - began)
    return (reply if error is None else None), attempt


def bounded(client: EndpointClient, left_s: float) -> EndpointClient:
    """Return `client` with at most `left_s` seconds for a call: a copy, on the same connections."""
    left_s = round(left_s, 3)  # it is shown in messages
    limits = Deadlines(**{name: min(value, left_s) for name, value in client.spec.deadlines})
    bounded = copy.copy(client)
    bounded.spec = client.spec.model_copy(update={"deadlines": limits})
    return bounded


def _passed_over(spec: EndpointSpec, kind: str, why: str) -> Attempt:
    return Attempt(spec.name, EndpointError(f"not asked: {why}", kind=kind, blame="config"), 0.0)

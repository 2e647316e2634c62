"""What went wrong, as a client of either dialect is told: status, headers, body."""

from __future__ import annotations

from typing import Any

from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import Dialect, WireError
from pytest_agentlimit.errors import AgentLimitError, DeadlineExceeded, EndpointError, HTTPFailure

_STATUS: dict[str, int] = {
    "auth": 401,
    "not_found": 404,
    "rate_limit": 429,
    "overloaded": 503,
    "server_error": 500,
    "context_overflow": 400,
    "bad_request": 400,
}
_ANTHROPIC_TYPES = {403: "permission_error", 413: "request_too_large", 504: "timeout_error"}


class Refusal(Exception):
    """A request is answered with an error; `status` is that of the answer."""

    def __init__(self, status: int, error: WireError) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error


class Unusable(EndpointError):
    """A whole reply that no client may take for a good one: `said` tells why.

    Kinds: `unusable_reply` (the model or the server wrote what cannot be run, or nobody said why
    the reply ended) and `leaked_call` (it is nothing but tool calls written as text).
    """

    def __init__(self, said: WireError, kind: str = "unusable_reply") -> None:
        super().__init__(said.message, kind=kind, blame="engine")
        self.said = said


def refusal(status: int, message: str) -> Refusal:
    """Return a refusal of our own."""
    kinds = {code: kind for kind, code in _STATUS.items() if kind != "context_overflow"}
    kind = kinds.get(status, "server_error" if status >= 500 else "bad_request")
    return Refusal(status, WireError.model_validate({"kind": kind, "message": message}))


def refusal_for(failure: AgentLimitError) -> Refusal:
    """Return what a failed call to the upstream is to the client.

    A status the upstream sent is kept, so is what it said, and Retry-After. What it never said is
    502, a passed deadline 504. An overflow is 400 whatever status it came with.
    """
    said = getattr(failure, "said", None)
    if isinstance(failure, Unusable):
        return Refusal(502, failure.said)
    if isinstance(said, WireError):
        kind = getattr(failure, "kind", said.kind)
        error = said.model_copy(update={"kind": kind}) if kind == "auth" else said
        if isinstance(failure, HTTPFailure):
            error = error.model_copy(update={"retry_after_s": failure.retry_after_s})
            status = failure.status
        else:
            status = said.status or _STATUS[said.kind]
        return Refusal(400 if error.kind == "context_overflow" else status, error)
    if isinstance(failure, DeadlineExceeded):
        return refusal(504, str(failure))
    return refusal(502 if isinstance(failure, EndpointError) else 500, str(failure))


def error_body(dialect: Dialect, refused: Refusal) -> dict[str, Any]:
    """Return the JSON body of a refusal in the client's dialect."""
    error = refused.error.model_copy(update={"status": refused.status})
    body = codec_for(dialect).encode_error(error)
    if dialect == "anthropic":
        kind = _ANTHROPIC_TYPES.get(refused.status, body["error"]["type"])
        body["error"]["type"] = kind
        body["request_id"] = None
    return body


def error_headers(refused: Refusal) -> dict[str, str]:
    """Return the headers of a refusal: Retry-After when the upstream asked for it."""
    wait_s = refused.error.retry_after_s
    return {} if wait_s is None else {"retry-after": f"{wait_s:g}"}

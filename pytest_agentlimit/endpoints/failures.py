"""What a failed call is called: one function per way to fail, each with its next step."""

from __future__ import annotations

import socket
import ssl

from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.endpoints.keys import Redactor
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.endpoints.timing import Expiry
from pytest_agentlimit.errors import (
    Blame,
    DeadlineExceeded,
    EndpointError,
    HTTPFailure,
    NotTheProtocol,
    StreamFailure,
    Unreachable,
)

MAX_BACKOFF_S = 30.0

_BLAMES: dict[str, Blame] = {
    "rate_limit": "engine",
    "overloaded": "engine",
    "server_error": "engine",
}
"""By kind of WireError; every other kind is the configuration's."""


def v1_rule(spec: EndpointSpec) -> str:
    """Return what the dialect of `spec` wants of a base URL (PROTOCOLS 1.3)."""
    verb = "includes" if spec.dialect == "openai" else "does not include"
    return f"a base URL of the {spec.dialect} dialect {verb} /v1"


def base_url_hint(spec: EndpointSpec) -> str:
    """Return the next step about the base URL, with the corrected URL when it is plain."""
    base = spec.base_url.rstrip("/")
    rule = v1_rule(spec)
    if spec.dialect == "openai" and not base.endswith("/v1"):
        return f"Check the base URL: {rule}, so try {base}/v1"
    if spec.dialect != "openai" and base.endswith("/v1"):
        return f"Check the base URL: {rule}, so try {base.removesuffix('/v1')}"
    return f"Check the base URL: {rule}"


def connect_failure(spec: EndpointSpec, error: BaseException, redact: Redactor) -> Unreachable:
    """Return why no connection came about, from the exception that says so."""
    where = spec.base_url
    cause = _root_cause(error)
    if isinstance(cause, ConnectionRefusedError):
        return Unreachable(
            f"{where} refused the connection: nothing listens there",
            kind="refused",
            blame="network",
            hint="Start the server, or correct the port in the base URL",
        )
    if isinstance(cause, TimeoutError):
        return connect_timeout(spec)
    if isinstance(cause, socket.gaierror):
        why, hint = "its host name is not known", "Correct the host in the base URL"
    elif isinstance(cause, ssl.SSLError):
        why = f"TLS failed ({redact.line(str(cause), 120)})"
        hint = "Use http:// for a server without TLS, or trust its certificate (SSL_CERT_FILE)"
    else:
        why = redact.line(str(cause) or type(cause).__name__, 120)
        hint = "Check the base URL, the network and any proxy"
    return Unreachable(
        f"{where} cannot be reached: {why}", kind="unreachable", blame="network", hint=hint
    )


def connect_timeout(spec: EndpointSpec) -> Unreachable:
    """Return the failure of a connection that did not come about in time."""
    return Unreachable(
        f"{spec.base_url} did not accept a connection within {spec.deadlines.connect_s:g} s",
        kind="connect_timeout",
        blame="network",
        hint="Check the host, a firewall in between, and that the server is not overloaded",
    )


def deadline(spec: EndpointSpec, expiry: Expiry) -> DeadlineExceeded:
    """Return the failure of a call that was accepted and not finished in time."""
    limits = spec.deadlines
    if expiry == "hung":
        waited = min(limits.first_byte_s, limits.total_s)
        message = f"{spec.base_url} accepted the request and sent nothing for {waited:g} s (hung)"
        hint = "A cold load or a busy single-threaded server does this: warm it up, or wait longer"
    elif expiry == "stalled":
        message = (
            f"{spec.base_url} fell silent in the middle of the reply for "
            f"{limits.between_chunks_s:g} s (stalled)"
        )
        hint = "Look at the server's log for the request it stopped serving"
    else:
        message = f"the reply of {spec.base_url} was not complete after {limits.total_s:g} s (slow)"
        hint = "Lower max_tokens, raise the time-out, or use a faster server"
    return DeadlineExceeded(message, kind=expiry, blame="engine", hint=hint)


def dropped(spec: EndpointSpec, error: BaseException, redact: Redactor) -> StreamFailure:
    """Return the failure of a connection that closed before any answer."""
    return StreamFailure(
        f"{spec.base_url} closed the connection without an answer ({redact.line(str(error), 120)})",
        kind="cut_stream",
        blame="engine",
        hint="The server's handler crashed or its process died: look at its log",
    )


def cut(spec: EndpointSpec, why: str) -> StreamFailure:
    """Return the failure of a reply that ended before it was complete."""
    return StreamFailure(
        f"{spec.base_url} cut the reply short ({why})",
        kind="cut_stream",
        blame="engine",
        hint="Look at the server's log, and at a proxy's time-out if there is one",
    )


def garbled(spec: EndpointSpec) -> NotTheProtocol:
    """Return the failure of a body whose compression cannot be undone."""
    return NotTheProtocol(
        f"the answer of {spec.base_url} is compressed in a way that cannot be undone",
        kind="bad_shape",
        blame="engine",
        hint="Turn compression off in the server or proxy; none was asked for",
    )


def retry_delay(error: EndpointError, attempts: int, *, answered: bool) -> float | None:
    """Return the seconds to wait before another attempt, None when the failure is final.

    Repeated are refused connections, 429 and 5xx, and connections dropped before they answered.
    A server's Retry-After is honoured up to 30 s.
    """
    wait_s = min(0.5 * 2.0 ** (attempts - 1), MAX_BACKOFF_S)
    if isinstance(error, HTTPFailure) and (error.status == 429 or error.status >= 500):
        return wait_s if error.retry_after_s is None else min(error.retry_after_s, MAX_BACKOFF_S)
    if error.kind == "refused" or (isinstance(error, StreamFailure) and not answered):
        return wait_s
    return None


def http_failure(
    spec: EndpointSpec, status: int, headers: dict[str, str], body: str, redact: Redactor
) -> EndpointError:
    """Return what a status of 300 or above means; `headers` have lower-case names."""
    if status < 400:
        target = redact.line(headers.get("location", "nowhere"), 120)
        return HTTPFailure(
            f"{spec.base_url} redirects to {target} (HTTP {status}); redirects are not followed",
            status=status,
            kind="redirect",
            blame="config",
            hint="Put the final address in the base URL",
        )
    error = codec_for(spec.dialect).decode_error(status, body)
    error = error.model_copy(update={"message": redact.line(error.message)})
    kind = "auth" if status in (401, 403) else error.kind
    failure = HTTPFailure(
        f"{spec.base_url} answered HTTP {status}: {error.message or 'no message'}",
        status=status,
        kind=kind,
        blame=_BLAMES.get(kind, "config"),
        hint=_http_hint(spec, kind),
        retry_after_s=_seconds(headers.get("retry-after"), error.retry_after_s),
    )
    failure.said = error
    return failure


def _http_hint(spec: EndpointSpec, kind: str) -> str:
    if kind == "auth" and spec.api_key_env:
        return f"Check the API key in the environment variable {spec.api_key_env}"
    if kind == "auth":
        return "No API key was sent: name its environment variable in api_key_env"
    if kind == "not_found":
        return f"Check the model id {spec.model!r}. {base_url_hint(spec)}"
    if kind == "rate_limit":
        return "Send less at once (fewer xdist workers), or set retries to wait and repeat"
    if kind == "context_overflow":
        return "Serve the model with a larger context, or send less"
    if kind in ("overloaded", "server_error"):
        return "Look at the server's log"
    return "Look at the message above: the server refused the request as it stands"


def _seconds(header: str | None, default: float | None) -> float | None:
    """Return a Retry-After header in seconds; its date form is left to the default."""
    try:
        seconds = float(header or "")
    except ValueError:
        return default
    return seconds if 0 <= seconds < 1e6 else default


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return error

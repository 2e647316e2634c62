"""Error bodies of every server to one WireError (PROTOCOLS 2.4, 2.5, R22)."""

from __future__ import annotations

import re
from typing import Any, Literal

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.messages import WireError
from pytest_agentlimit.text import one_line

ErrorKind = Literal[
    "auth",
    "not_found",
    "rate_limit",
    "overloaded",
    "server_error",
    "context_overflow",
    "bad_request",
]

_READ = 20_000
"""Characters of a body that are looked at."""
_OVERFLOW = re.compile(
    r"exceed_context_size|context_length_exceeded|context_window_exceeded"
    r"|maximum context length|maximum model length"
    r"|(?:prompt|input|request) (?:is )?too long"
    r"|exceed\w{0,3} .{0,60}context (?:length|window|size)"
    r"|context (?:length|window|size) .{0,60}exceed"
    r"|exceed\w{0,3} max(?:imum)? context",
    re.IGNORECASE,
)
_ROOM = re.compile(
    r"(?:context (?:length|size|window)|model length)(?: is| of)?[:( ]{1,3}(\d{1,12})"
    r"|> (\d{1,12}) maximum",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"(?:requested|request has|resulted in|contains|request \(|too long:)"
    r"\s{0,3}(?:at least )?(\d{1,12})",
    re.IGNORECASE,
)
_TITLE = re.compile(r"<title[^>]{0,100}>([^<]{1,200})", re.IGNORECASE)
_STATUS: dict[int, ErrorKind] = {
    401: "auth",
    403: "auth",
    404: "not_found",
    429: "rate_limit",
    503: "overloaded",
    529: "overloaded",
}
_OPENAI_TYPES: dict[ErrorKind, str] = {
    "auth": "authentication_error",
    "not_found": "not_found_error",
    "rate_limit": "rate_limit_error",
    "overloaded": "overloaded_error",
    "server_error": "server_error",
    "context_overflow": "exceed_context_size_error",
    "bad_request": "invalid_request_error",
}
_ANTHROPIC_TYPES: dict[ErrorKind, str] = {
    "auth": "authentication_error",
    "not_found": "not_found_error",
    "rate_limit": "rate_limit_error",
    "overloaded": "overloaded_error",
    "server_error": "api_error",
    "context_overflow": "invalid_request_error",
    "bad_request": "invalid_request_error",
}
_WORDS: dict[str, ErrorKind] = {
    "authentication": "auth",
    "permission": "auth",
    "not_found": "not_found",
    "rate_limit": "rate_limit",
    "overloaded": "overloaded",
    "unavailable": "overloaded",
    "invalid_request": "bad_request",
    "bad_request": "bad_request",
}


def read_error(status: int | None, body: str) -> WireError:
    """Return what an error body means: its message (printable, ≤ 300 characters) and its kind.

    Any text is accepted: JSON of any of the dialects (also JSON inside JSON), HTML, nothing.
    Without an HTTP status, a status in the body counts.
    """
    text = body[:_READ]
    message, label, code = _parts(text)
    if status is None and code is not None:
        status = code
    shown = one_line(message, 300) or (f"HTTP {status}" if status else "no message")
    kind = _kind(status, f"{label} {message}", label)
    sizes = _sizes(text, message) if kind == "context_overflow" else {}
    return WireError(status=status, kind=kind, message=shown, **sizes)


def _parts(text: str, depth: int = 2) -> tuple[str, str, int | None]:
    """Return the message, the words that classify it, and a status the body itself names."""
    try:
        value, _ = jsontext.parse(text)
    except ValueError:
        title = _TITLE.search(text)
        page = f"a web page: {title[1]}" if title else text
        return page, "", None
    if isinstance(value, str):
        return value, "", None
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, str):
        if depth and error.lstrip().startswith("{"):
            return _parts(error, depth - 1)
        message = value.get("message")
        if isinstance(message, str) and message:
            return message, error, None
        return error, "", None
    holder = error if isinstance(error, dict) else value
    if not isinstance(holder, dict):
        return text, "", None
    return _from_object(holder, text)


def _from_object(holder: dict[str, Any], text: str) -> tuple[str, str, int | None]:
    message = next(
        (holder[key] for key in ("message", "detail", "msg") if isinstance(holder.get(key), str)),
        text,
    )
    labels = [holder.get(key) for key in ("type", "code")]
    label = " ".join(word for word in labels if isinstance(word, str))
    code = holder.get("code")
    named = isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599
    return message, label, code if named else None


def _sizes(body: str, message: str) -> dict[str, int]:
    """Return the sizes an overflow names: in fields (llama.cpp) or in words (vLLM and others)."""
    fields = re.search(r'"n_prompt_tokens":\s*(\d{1,12})', body)
    asked = fields or _ASKED.search(message)
    fields = re.search(r'"n_ctx":\s*(\d{1,12})', body)
    room = fields or _ROOM.search(message)
    sizes = {}
    if asked:
        sizes["prompt_tokens"] = int(asked[1])
    if room:
        sizes["context_tokens"] = int(next(group for group in room.groups() if group))
    return sizes


def _kind(status: int | None, said: str, label: str) -> ErrorKind:
    if _is_overflow(said) and status not in (401, 403, 404, 429):
        return "context_overflow"
    if status is not None and status >= 400:
        return _STATUS.get(status, "server_error" if status >= 500 else "bad_request")
    if "does not support" in said:
        return "bad_request"
    return next((kind for word, kind in _WORDS.items() if word in label.lower()), "server_error")


def openai_body(error: WireError) -> dict[str, Any]:
    """Return an error as chat completions servers send it; `code` is the HTTP status."""
    kind = _OPENAI_TYPES[error.kind]
    return {"error": {"message": error.message, "type": kind, "param": None, "code": error.status}}


def anthropic_body(error: WireError) -> dict[str, Any]:
    """Return an error in the Anthropic shape; an overflow is known there by its first words."""
    message = error.message
    if error.kind == "context_overflow":
        asked, room = error.prompt_tokens, error.context_tokens
        if asked is not None and room is not None and asked > room:
            message = f"prompt is too long: {asked} tokens > {room} maximum"
        elif not message.lower().startswith("prompt is too long"):
            message = f"prompt is too long: {message}"
    return {
        "type": "error",
        "error": {"type": _ANTHROPIC_TYPES[error.kind], "message": message},
    }


def _is_overflow(text: str) -> bool:
    """Return True when `text` says, in any server's words, that the prompt is too long."""
    return bool(_OVERFLOW.search(text[:_READ]))

"""The body of one answer turned into a reply, whatever form it turns out to have.

A server may stream when a whole reply was asked for, and the other way round: both are read, and
recorded as a finding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Literal

from pytest_agentlimit.chat.assemble import ReplyAssembler, finish
from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import (
    ChatReply,
    ChatRequest,
    Finding,
    StreamEvent,
    StreamFinding,
    StreamStop,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    WireError,
)
from pytest_agentlimit.endpoints import failures
from pytest_agentlimit.endpoints.keys import Redactor
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import EndpointError, NotTheProtocol, StreamFailure

_KEPT = 65_536
_STREAM_TYPES = ("event-stream", "ndjson", "jsonl", "json-seq")
_STREAM_HEADS = (b"data:", b"event:", b"id:", b"retry:", b":")
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{1,200})", re.IGNORECASE)


class RawLog:
    """The first and last 64 KB of a body, as evidence; its `size` only, unless `keep`."""

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._head = bytearray()
        self._tail = bytearray()
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Keep what fits of `chunk`."""
        self.size += len(chunk)
        if not self._keep:
            return
        room = max(0, _KEPT - len(self._head))
        self._head += chunk[:room]
        self._tail += chunk[room:]
        if len(self._tail) > 2 * _KEPT:
            del self._tail[:-_KEPT]

    def kept(self) -> bytes:
        """Return what was kept; a cut in the middle is marked."""
        tail = bytes(self._tail[-_KEPT:])
        whole = self.size == len(self._head) + len(tail)
        return bytes(self._head) + (b"" if whole else b"\n[...]\n") + tail


class ReplyReader:
    """Chunks of a 2xx body in, one reply out.

    `on_event` is given each event of a streamed reply as soon as it is read. `ttft_s` and
    `first_tool_s` are the marks of the first content and tool delta. `complete` is
    True when the reply's own end was seen, however the connection goes on. `raw` holds the bytes
    for whoever shows them; a bridge, with many long replies at once, does not.
    """

    def __init__(
        self,
        spec: EndpointSpec,
        request: ChatRequest,
        content_type: str,
        redact: Redactor,
        on_event: Callable[[StreamEvent], None] = lambda event: None,
        *,
        keep_raw: bool = True,
    ) -> None:
        self._spec = spec
        self._request = request
        self._type = content_type.lower()
        self._redact = redact
        self._on_event = on_event
        self._codec = codec_for(spec.dialect)
        self._decoder = self._codec.stream_decoder()
        self._assembler = ReplyAssembler()
        self._form: Literal["stream", "whole"] | None = None
        self._buffer = bytearray()
        self.raw = RawLog(keep=keep_raw)
        self.ttft_s: float | None = None
        self.first_tool_s: float | None = None
        self.complete = False

    def feed(self, chunk: bytes, at_s: float) -> None:
        """Read a chunk that arrived at mark `at_s`.

        Raises StreamFailure (`too_large`, `stream_error`) or NotTheProtocol (`html`) at once.
        """
        self.raw.add(chunk)
        if self.raw.size > self._spec.max_reply_bytes:
            raise StreamFailure(
                f"the reply of {self._spec.base_url} outgrew {self._spec.max_reply_bytes:,} bytes; "
                "reading was stopped",
                kind="too_large",
                blame="engine",
                hint="Lower max_tokens, or check that the server honours it",
            )
        if self._form == "stream":
            self._decode(chunk, at_s)
            return
        self._buffer += chunk
        head = bytes(self._buffer[:4096]).lstrip(b"\xef\xbb\xbf \r\n\t")
        if self._form is None and head:
            self._form = self._choose(head)
            if self._form == "stream":
                self._decode(bytes(self._buffer), at_s)

    def result(self) -> ChatReply:
        """Return the reply at the end of the body.

        Raises NotTheProtocol (`not_json`, `bad_shape`) or StreamFailure (`cut_stream`,
        `stream_error`).
        """
        if self._form != "stream":
            return self._whole()
        self._take(self._decoder.close(), None)
        reply = self._assembled()
        if any(finding.code == "cut_stream" for finding in reply.findings):
            raise failures.cut(self._spec, "it ended without the mark of a complete reply")
        return reply

    def partial(self) -> ChatReply | None:
        """Return what has arrived so far, None when nothing could be decoded yet."""
        return self._assembled() if self._form == "stream" else None

    def note(self, code: str, detail: str) -> None:
        """Record a deviation of the transport on the reply."""
        self._assembler.add(StreamFinding(finding=Finding(code=code, detail=detail)))

    def _choose(self, head: bytes) -> Literal["stream", "whole"]:
        stream = any(kind in self._type for kind in _STREAM_TYPES)
        if not stream and ("html" in self._type or head.startswith(b"<")):
            raise self._html()
        stream = stream or self._looks_streamed(head)
        if stream and not self._request.stream:
            self.note("stream_unasked", "the server streamed a reply that was asked for whole")
        return "stream" if stream else "whole"

    def _looks_streamed(self, head: bytes) -> bool:
        plain = "application/json" not in self._type
        if self._spec.dialect == "ollama" and self._request.stream:
            # Under the type of a whole reply, only a line of a stream says that it is not the last.
            return head.startswith(b"{") and (plain or b'"done":false' in head.replace(b" ", b""))
        return plain and head.startswith(_STREAM_HEADS)

    def _decode(self, chunk: bytes, at_s: float) -> None:
        self._take(self._decoder.feed(chunk), at_s)

    def _take(self, events: list[StreamEvent], at_s: float | None) -> None:
        for event in events:
            self._assembler.add(event)
            self._on_event(event)
            if isinstance(event, StreamStop):
                self.complete = True
            if at_s is not None:
                self._mark(event, at_s)
        if self._assembler.error is not None:
            raise self._stream_error(self._assembler.error)

    def _mark(self, event: StreamEvent, at_s: float) -> None:
        if isinstance(event, ToolCallStart | ToolCallDelta):
            self.first_tool_s = at_s if self.first_tool_s is None else self.first_tool_s
        elif not (isinstance(event, TextDelta | ThinkingDelta) and event.text):
            return
        if self.ttft_s is None:
            self.ttft_s = at_s

    def _assembled(self) -> ChatReply:
        return self._assembler.reply(self._request.tools)

    def _whole(self) -> ChatReply:
        body, clean = _decode_utf8(bytes(self._buffer))
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._not_json(body, error) from None
        findings = self._assembler.findings
        if self._request.stream:
            detail = "the server sent a whole reply though a stream was asked for"
            findings += (Finding(code="stream_ignored", detail=detail),)
        if not clean:
            findings += (Finding(code="invalid_utf8", detail="bytes that are no UTF-8"),)
        reply = self._decode_whole(value, body)
        if findings:
            reply = reply.model_copy(update={"findings": reply.findings + findings})
        self.complete = True
        return finish(reply, self._request.tools)

    def _decode_whole(self, value: Any, body: str) -> ChatReply:
        try:
            if not isinstance(value, dict):
                raise ValueError(f"a JSON {type(value).__name__}, not an object")
            return self._codec.decode_reply(value)
        except ValueError as error:
            if isinstance(value, dict) and value.get("error"):
                raise self._stream_error(self._codec.decode_error(None, body)) from None
            raise NotTheProtocol(
                f"the answer of {self._spec.base_url} is JSON and no {self._spec.dialect} reply: "
                f"{self._redact.line(str(error), 160)} in {self._redact.line(body, 160)}",
                kind="bad_shape",
                blame="config",
                hint=f"Check the dialect. {failures.base_url_hint(self._spec)}",
            ) from None

    def _stream_error(self, error: WireError) -> EndpointError:
        said = error.model_copy(update={"message": self._redact.line(error.message)})
        failure = StreamFailure(
            f"{self._spec.base_url} sent an error inside a 200 answer: "
            f"{said.message} ({said.kind})",
            kind="stream_error",
            blame="config" if error.kind == "context_overflow" else "engine",
            hint="Look at the server's log",
        )
        failure.said = said
        return failure

    def _html(self) -> NotTheProtocol:
        page = self._buffer[:4096].decode("utf-8", "replace")
        title = _TITLE.search(page)
        shown = self._redact.line(title.group(1) if title else page, 100)
        return NotTheProtocol(
            f"{self._spec.base_url} answered with a web page ({shown}), not with JSON",
            kind="html",
            blame="config",
            hint=failures.base_url_hint(self._spec),
        )

    def _not_json(self, body: str, error: Exception) -> NotTheProtocol:
        shown = self._redact.line(body, 160) or "nothing"
        return NotTheProtocol(
            f"the answer of {self._spec.base_url} is not JSON "
            f"({type(error).__name__}: {self._redact.line(str(error), 120)}): {shown}",
            kind="not_json",
            blame="engine",
            hint=f"Look at the server's log. {failures.base_url_hint(self._spec)}",
        )


def _decode_utf8(body: bytes) -> tuple[str, bool]:
    try:
        return body.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        return body.decode("utf-8-sig", "replace"), False


def parse_probe(spec: EndpointSpec, data: bytes, content_type: str) -> Any:
    """Return the JSON of a probe's answer; raises NotTheProtocol (`html`, `not_json`)."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        page = "html" in content_type.lower() or data.lstrip().startswith(b"<")
        shown = Redactor(spec).line(data[:400].decode("utf-8", "replace"), 100)
        raise NotTheProtocol(
            f"{spec.base_url} answered with {'a web page' if page else 'no JSON'}: {shown}",
            kind="html" if page else "not_json",
            blame="config",
            hint=failures.base_url_hint(spec),
        ) from None

"""Neutral events to the Anthropic event grammar, whatever order they come in (PROTOCOLS R11)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.anthropic_request import REDACTED, UNSIGNED
from pytest_agentlimit.chat.anthropic_stream import STOP_WORDS, encode_usage
from pytest_agentlimit.chat.messages import (
    StreamError,
    StreamEvent,
    StreamStart,
    StreamStop,
    StreamUsage,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from pytest_agentlimit.chat.wire_errors import anthropic_body


@dataclass
class _Block:
    """A block that is open or waits for its turn; `waiting` is what was not sent yet."""

    kind: Literal["text", "thinking", "tool_use"]
    start: dict[str, Any]
    waiting: list[str] = field(default_factory=list)
    signature: str | None = None
    nesting: jsontext.Nesting = field(default_factory=jsontext.Nesting)
    closed: bool = False

    @property
    def done(self) -> bool:
        """True when nothing can follow once another block has begun."""
        return self.kind != "tool_use" or self.nesting.complete


class Encoder:
    """Blocks one after another, one open at a time.

    The first unfinished block streams; a block that begins while a call is unfinished waits. A
    reply that got no stop event is left open, as it came: never a clean end for a cut reply.
    """

    def __init__(self, model: str) -> None:
        self._start = StreamStart(id="msg_0", model=model)
        self._blocks: list[_Block] = []
        self._calls: dict[int, _Block] = {}
        self._index = 0
        self._opened = False
        self._begun = False
        self._usage = Usage()
        self._stop: StreamStop | None = None
        self._error = False

    def feed(self, event: StreamEvent) -> bytes:
        """Return the bytes for `event`; after an error there are none."""
        if self._error:
            return b""
        if isinstance(event, StreamUsage):
            given = {name: value for name, value in event.usage or () if value is not None}
            self._usage = self._usage.model_copy(update=given)
            return b""
        if isinstance(event, StreamError):
            self._error = True
            return _frame(anthropic_body(event.error))
        if self._stop is not None:
            return b""
        if isinstance(event, StreamStart) and not self._begun:
            self._start = StreamStart(
                id=event.id or self._start.id, model=event.model or self._start.model
            )
            return self._begin()
        if isinstance(event, StreamStop):
            self._stop = event
            return self._begin() + self._flush(everything=True)
        self._place(event)
        return self._begin() + self._flush() if self._blocks else b""

    def close(self) -> bytes:
        """Return the end of the message; nothing when the reply was not completed."""
        if self._error or self._stop is None:
            return b""
        delta = {"stop_reason": STOP_WORDS.get(self._stop.stop_reason), "stop_sequence": None}
        usage = encode_usage(self._usage)
        last = _frame({"type": "message_delta", "delta": delta, "usage": usage})
        return last + _frame({"type": "message_stop"})

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        message: dict[str, Any] = {
            "id": self._start.id,
            "type": "message",
            "role": "assistant",
            "model": self._start.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": encode_usage(self._usage),
        }
        return _frame({"type": "message_start", "message": message})

    def _place(self, event: StreamEvent) -> None:
        """Put the content of `event` into the block it belongs to, opening one if need be."""
        last = self._blocks[-1] if self._blocks else None
        match event:
            case TextDelta(text=text) if text:
                if last is None or last.kind != "text":
                    last = self._add(_Block("text", {"type": "text", "text": ""}))
                last.waiting.append(text)
            case ThinkingDelta(text=text, signature=signature) if text or signature:
                if last is None or last.kind != "thinking" or last.signature:
                    last = self._add(_Block("thinking", _thinking_start(text, signature)))
                last.waiting.append(text)
                last.signature = signature or None
            case ToolCallStart(index=index, id=call_id, name=name):
                start = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
                self._calls[index] = self._add(_Block("tool_use", start))
            case ToolCallDelta(index=index, fragment=fragment):
                # A call that is complete and closed can take no more.
                block = self._calls.get(index)
                if block is not None and not block.closed:
                    block.waiting.append(fragment)
                    block.nesting.feed(fragment)

    def _add(self, block: _Block) -> _Block:
        self._blocks.append(block)
        return block

    def _flush(self, *, everything: bool = False) -> bytes:
        """Send what can be sent of the first block, and go on while it is finished."""
        out = bytearray()
        while self._blocks:
            block = self._blocks[0]
            if not self._opened:
                self._opened = True
                start = {"type": "content_block_start", "index": self._index}
                out += _frame(start | {"content_block": block.start})
            text = "".join(block.waiting)
            block.waiting.clear()
            if text:
                out += self._delta(_content(block.kind, text))
            followed = len(self._blocks) > 1
            if not everything and not (followed and block.done):
                break
            out += self._end(block)
        return bytes(out)

    def _end(self, block: _Block) -> bytes:
        out = b""
        if block.start["type"] == "thinking":
            signature = block.signature or UNSIGNED
            out = self._delta({"type": "signature_delta", "signature": signature})
        out += _frame({"type": "content_block_stop", "index": self._index})
        self._blocks.pop(0)
        block.closed = True
        self._index += 1
        self._opened = False
        return out

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _frame({"type": "content_block_delta", "index": self._index, "delta": delta})


def _thinking_start(text: str, signature: str | None) -> dict[str, Any]:
    if not text and signature and signature.startswith(REDACTED):
        return {"type": "redacted_thinking", "data": signature.removeprefix(REDACTED)}
    return {"type": "thinking", "thinking": "", "signature": ""}


def _content(kind: str, text: str) -> dict[str, Any]:
    if kind == "text":
        return {"type": "text_delta", "text": text}
    if kind == "thinking":
        return {"type": "thinking_delta", "thinking": text}
    return {"type": "input_json_delta", "partial_json": text}


def _frame(body: dict[str, Any]) -> bytes:
    return b"event: " + str(body["type"]).encode() + b"\ndata: " + jsontext.wire(body) + b"\n\n"

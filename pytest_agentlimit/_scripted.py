"""A scripted answer, and what it is on the wire of a dialect."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, Literal

from pydantic import Field

from pytest_agentlimit._loopback import Answer
from pytest_agentlimit.chat.assemble import reply_events
from pytest_agentlimit.chat.codecs import Codec, StreamEncoder, codec_for
from pytest_agentlimit.chat.messages import (
    Block,
    ChatReply,
    ChatRequest,
    Dialect,
    Frozen,
    StopReason,
    StreamEvent,
    StreamStart,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    WireError,
)

INVALID_UTF8 = "\ufffe"
"""Put it into a scripted text: it goes out as the byte FF, which is not UTF-8."""

_FILLER = 16_384


class Scripted(Frozen):
    """One scripted answer: what is said, when, and how it goes wrong.

    A streamed reply is written in pieces: the first write carries the first piece of content, and
    the last write the end of the reply. So `first_delay_s` is the time to the first token, and a
    reply of n pieces takes `first_delay_s + n * chunk_delay_s`.
    """

    blocks: tuple[Block, ...] = ()
    stop_reason: StopReason | None = None
    """None: `tool_use` when a tool is called, `end_turn` otherwise."""
    usage: Usage = Usage(input_tokens=10, output_tokens=5)
    piece_chars: int = Field(default=16, ge=1)
    """Characters of text, thinking or arguments in one streamed piece."""
    chunk_bytes: int | None = Field(default=None, ge=1)
    """Cut the writes anew, into this many bytes each, wherever that falls."""
    first_delay_s: float = 0.0
    """Seconds before the headers and the first chunk."""
    chunk_delay_s: float = 0.0
    """Seconds before every later chunk."""
    stream: bool | None = None
    """Stream, or not, whatever the request asks; None does as asked."""
    stall_after: int | None = None
    """Fall silent after so many chunks, the connection open; 0 sends the headers only."""
    cut_after: int | None = None
    """Close the connection after so many chunks."""
    act: Literal["answer", "hang", "drop", "flood"] = "answer"
    """`hang` never answers, `drop` closes without an answer, `flood` sends filler text."""
    flood_bytes: int | None = None
    """How much a flood sends; None is without end, until the client leaves."""
    error: WireError | None = None
    """Answer with this error in the request's dialect, and its status."""
    body: bytes | None = None
    """Answer with these bytes, whatever the dialect; in pieces of `chunk_bytes` when given."""
    status: int = 200
    content_type: str | None = None
    """None: what the dialect uses."""
    headers: dict[str, str] = Field(default_factory=dict)

    def with_(self, **changes: Any) -> Scripted:
        """Return a copy with `changes`; a misspelt field is an error."""
        return Scripted(**{**dict(self), **changes})


def played(scripted: Scripted, request: ChatRequest | None, dialect: Dialect, model: str) -> Answer:
    """Return the wire form of `scripted`; without a request it is answered whole."""
    if scripted.act in ("hang", "drop"):
        return Answer(silent=scripted.act == "hang", drop=scripted.act == "drop")
    codec = codec_for(dialect)
    if scripted.body is not None:
        return _verbatim(scripted, scripted.body, "application/json")
    if scripted.error is not None:
        body = json.dumps(codec.encode_error(scripted.error)).encode()
        status = scripted.error.status or scripted.status
        return _verbatim(scripted.with_(status=status), body, "application/json")
    asked = request is not None and request.stream
    if scripted.stream if scripted.stream is not None else asked:
        return _framed(scripted, _stream(scripted, codec, model), codec.CONTENT_TYPE)
    if scripted.act == "flood":
        return _framed(scripted, whole_flood(scripted.flood_bytes), "application/json")
    body = _bytes(json.dumps(codec.encode_reply(_reply(scripted, model))).encode())
    return _verbatim(scripted, body, "application/json")


def _stream(scripted: Scripted, codec: Codec, model: str) -> Iterator[bytes]:
    encoder = codec.stream_encoder(model)
    if scripted.act == "flood":
        piece = scripted.piece_chars if scripted.chunk_delay_s else None
        return flood_chunks(encoder, scripted.flood_bytes, piece)
    chunks = stream_chunks(reply_events(_reply(scripted, model)), encoder, scripted.piece_chars)
    return (_bytes(chunk) for chunk in chunks)


def _verbatim(scripted: Scripted, body: bytes, content_type: str) -> Answer:
    cuts = (scripted.chunk_bytes, scripted.cut_after, scripted.stall_after)
    chunks = recut([body], scripted.chunk_bytes) if scripted.chunk_bytes else iter([body])
    length = len(body) if cuts == (None, None, None) else None
    return _framed(scripted, chunks, content_type, length, cut=True)


def _framed(
    scripted: Scripted,
    chunks: Iterator[bytes],
    content_type: str,
    length: int | None = None,
    *,
    cut: bool = False,
) -> Answer:
    if scripted.chunk_bytes and not cut:
        chunks = recut(chunks, scripted.chunk_bytes)
    return Answer(
        status=scripted.status,
        content_type=scripted.content_type or content_type,
        headers=scripted.headers,
        chunks=chunks,
        length=length,
        first_delay_s=scripted.first_delay_s,
        chunk_delay_s=scripted.chunk_delay_s,
        stall_after=scripted.stall_after,
        cut_after=scripted.cut_after,
    )


def _reply(scripted: Scripted, model: str) -> ChatReply:
    has_call = any(isinstance(block, ToolCall) for block in scripted.blocks)
    return ChatReply(
        blocks=scripted.blocks,
        stop_reason=scripted.stop_reason or ("tool_use" if has_call else "end_turn"),
        model=model,
        id="scripted-1",
        usage=scripted.usage,
    )


def _bytes(encoded: bytes) -> bytes:
    """Return `encoded` with the marker of invalid UTF-8 made into a byte that is."""
    for spelling in (INVALID_UTF8.encode(), rb"\ufffe"):
        encoded = encoded.replace(spelling, b"\xff")
    return encoded


def stream_chunks(
    events: Iterable[StreamEvent], encoder: StreamEncoder, piece_chars: int
) -> Iterator[bytes]:
    """Yield the writes of a streamed reply: one per piece of content, and one for the end.

    What comes before a piece is glued to it, so that the first write carries content.
    """
    pending = b""
    for event in _in_pieces(events, piece_chars):
        pending += encoder.feed(event)
        if pending and isinstance(event, TextDelta | ThinkingDelta | ToolCallDelta):
            yield pending
            pending = b""
    yield pending + encoder.close()


def flood_chunks(encoder: StreamEncoder, size: int | None, piece: int | None) -> Iterator[bytes]:
    """Yield a streamed reply of `size` bytes of filler text; None is without end."""
    yield encoder.feed(StreamStart(id="flood"))
    delta = TextDelta(text="x" * (piece or _FILLER))
    sent = 0
    while size is None or sent < size:
        sent += len(delta.text)
        yield encoder.feed(delta)
    yield encoder.close()


def whole_flood(size: int | None) -> Iterator[bytes]:
    """Yield a JSON object of about `size` bytes; None is without end."""
    yield b'{"filler": "'
    for number in count(1):
        yield b"x" * _FILLER
        if size is not None and number * _FILLER >= size:
            break
    yield b'"}'


def recut(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the same bytes in chunks of `size`."""
    held = b""
    for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if held:
        yield held


def _in_pieces(events: Iterable[StreamEvent], size: int) -> Iterator[StreamEvent]:
    for event in events:
        key = "fragment" if isinstance(event, ToolCallDelta) else "text"
        content = getattr(event, key, "")
        if len(content) <= size:
            yield event
            continue
        starts = range(0, len(content), size)
        for start in starts:
            update: dict[str, Any] = {key: content[start : start + size]}
            if isinstance(event, ThinkingDelta) and start != starts[-1]:
                update["signature"] = None  # stands with the last piece only
            yield event.model_copy(update=update)

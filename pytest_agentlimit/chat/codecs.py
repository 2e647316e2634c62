"""What a dialect is: one codec, found by name."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

from pytest_agentlimit.chat.messages import (
    ChatReply,
    ChatRequest,
    Dialect,
    StreamEvent,
    WireError,
)


class StreamDecoder(Protocol):
    """Bytes of one streamed reply in, neutral events out; any split of the bytes is the same."""

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """Return the events that `chunk` completes."""
        ...

    def close(self) -> list[StreamEvent]:
        """Return what the end of the stream implies, a cut stream's finding included."""
        ...


class StreamEncoder(Protocol):
    """Neutral events of one reply in, bytes for a client out."""

    def feed(self, event: StreamEvent) -> bytes:
        """Return the bytes to send for `event`, possibly none."""
        ...

    def close(self) -> bytes:
        """Return the bytes that end a complete stream."""
        ...


class Codec(Protocol):
    """One dialect, both directions; the modules of this folder are the codecs.

    `PATH` is appended to the base URL; `CONTENT_TYPE` is that of a stream.
    """

    PATH: str
    CONTENT_TYPE: str

    def encode_request(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON body of `request`."""
        ...

    def decode_request(self, body: dict[str, Any]) -> ChatRequest:
        """Return the neutral request; unknown keys go to `extra`. ValueError when malformed.

        `body` is what `jsontext.parse` returned: nothing looks for lone surrogates again.
        """
        ...

    def encode_reply(self, reply: ChatReply) -> dict[str, Any]:
        """Return the JSON body of a whole reply."""
        ...

    def decode_reply(self, body: dict[str, Any]) -> ChatReply:
        """Return the neutral reply with its findings. ValueError when it is no reply at all."""
        ...

    def stream_decoder(self) -> StreamDecoder:
        """Return a fresh decoder for one streamed reply."""
        ...

    def stream_encoder(self, model: str = "") -> StreamEncoder:
        """Return a fresh encoder for one streamed reply."""
        ...

    def encode_error(self, error: WireError) -> dict[str, Any]:
        """Return the JSON body of an error."""
        ...

    def decode_error(self, status: int | None, body: str) -> WireError:
        """Return what an error body means; any text is accepted."""
        ...


@cache
def codec_for(dialect: Dialect) -> Codec:
    """Return the codec of a dialect; its module is imported on first use."""
    return cast(Codec, import_module(f"pytest_agentlimit.chat.{dialect}"))

"""The Ollama /api/chat codec; the base URL excludes /v1 and /api (PROTOCOLS 2.3).

The one dialect with the server's own clocks in every reply. It streams whole tool calls, ends
every complete reply in `stop`, and has no tool choice.
"""

from __future__ import annotations

from typing import Any

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.assemble import ReplyAssembler
from pytest_agentlimit.chat.codecs import StreamDecoder, StreamEncoder
from pytest_agentlimit.chat.framing import NDJSONFramer
from pytest_agentlimit.chat.intake import FrameDecoder
from pytest_agentlimit.chat.messages import ChatReply, WireError
from pytest_agentlimit.chat.ollama_request import (
    assistant_message,
    decode_request,
    encode_request,
)
from pytest_agentlimit.chat.ollama_stream import Encoder, Reader, last_line
from pytest_agentlimit.chat.wire_errors import read_error

__all__ = [
    "CONTENT_TYPE",
    "PATH",
    "decode_error",
    "decode_reply",
    "decode_request",
    "encode_error",
    "encode_reply",
    "encode_request",
    "stream_decoder",
    "stream_encoder",
]

PATH = "/api/chat"
CONTENT_TYPE = "application/x-ndjson"


def encode_reply(reply: ChatReply) -> dict[str, Any]:
    """Return the JSON body of a whole reply; the dialect has no reply id.

    Arguments that do not parse become {}; every stop but max_tokens and unknown is `stop`.
    """
    message = assistant_message(reply.blocks)
    return last_line(
        reply.model or "", message, reply.stop_reason, reply.usage, reply.timing.server
    )


def decode_reply(body: dict[str, Any]) -> ChatReply:
    """Return the neutral reply with its findings; `timing.server` holds the server's clocks.

    Raises ValueError for a body that is no reply: no `message`, or an error.
    """
    if not isinstance(body, dict) or body.get("error"):
        raise ValueError("an error object, not a reply")
    if not isinstance(body.get("message"), dict):
        raise ValueError("no message in the body")
    body, lone = jsontext.scrub(body)
    reader = Reader()
    if lone:
        reader.intake.note("lone_surrogate")
    reader.take(body | {"done": True}, None)
    assembler = ReplyAssembler()
    for event in reader.intake.drain():
        assembler.add(event)
    return assembler.reply()


def stream_decoder() -> StreamDecoder:
    """Return a fresh decoder for one streamed reply."""
    return FrameDecoder(NDJSONFramer(), Reader())


def stream_encoder(model: str = "") -> StreamEncoder:
    """Return a fresh encoder for one streamed reply; `model` is used when no event names one."""
    return Encoder(model)


def encode_error(error: WireError) -> dict[str, Any]:
    """Return the JSON body of an error: one string, its kind is the HTTP status."""
    return {"error": error.message}


def decode_error(status: int | None, body: str) -> WireError:
    """Return what an error body means; any text is accepted."""
    return read_error(status, body)

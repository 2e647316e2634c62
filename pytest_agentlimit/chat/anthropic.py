"""The Anthropic messages codec; the base URL excludes /v1 (PROTOCOLS 2.2).

Also spoken by llama.cpp, vLLM and Ollama; what they do differently is tolerated and recorded.
"""

from __future__ import annotations

from typing import Any

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.anthropic_encoder import Encoder
from pytest_agentlimit.chat.anthropic_request import (
    decode_request,
    encode_block,
    encode_request,
)
from pytest_agentlimit.chat.anthropic_stream import STOP_WORDS, Reader, encode_usage
from pytest_agentlimit.chat.assemble import ReplyAssembler
from pytest_agentlimit.chat.codecs import StreamDecoder, StreamEncoder
from pytest_agentlimit.chat.framing import SSEFramer
from pytest_agentlimit.chat.intake import FrameDecoder
from pytest_agentlimit.chat.messages import ChatReply, WireError
from pytest_agentlimit.chat.wire_errors import anthropic_body, read_error

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

PATH = "/v1/messages"
CONTENT_TYPE = "text/event-stream"


def encode_reply(reply: ChatReply) -> dict[str, Any]:
    """Return the JSON body of a whole reply.

    Arguments that do not parse become {}; counts that were not measured become 0; an id that is
    None is written as `msg_0`.
    """
    return {
        "id": reply.id or "msg_0",
        "type": "message",
        "role": "assistant",
        "model": reply.model or "",
        "content": [encode_block(block) for block in reply.blocks],
        "stop_reason": STOP_WORDS.get(reply.stop_reason),
        "stop_sequence": None,
        "usage": encode_usage(reply.usage),
    }


def decode_reply(body: dict[str, Any]) -> ChatReply:
    """Return the neutral reply with its findings.

    Raises ValueError for a body that is no reply: no `content`, or an error object.
    """
    if not isinstance(body, dict) or body.get("error"):
        raise ValueError("an error object, not a reply")
    if not isinstance(body.get("content"), list):
        raise ValueError("no list of content blocks in the body")
    body, lone = jsontext.scrub(body)
    reader = Reader()
    if lone:
        reader.intake.note("lone_surrogate")
    reader.whole(body)
    assembler = ReplyAssembler()
    for event in reader.intake.drain():
        assembler.add(event)
    return assembler.reply()


def stream_decoder() -> StreamDecoder:
    """Return a fresh decoder for one streamed reply."""
    return FrameDecoder(SSEFramer(), Reader())


def stream_encoder(model: str = "") -> StreamEncoder:
    """Return a fresh encoder for one streamed reply; `model` is used when no event names one."""
    return Encoder(model)


def encode_error(error: WireError) -> dict[str, Any]:
    """Return the JSON body of an error; an overflow begins with the words clients look for."""
    return anthropic_body(error)


def decode_error(status: int | None, body: str) -> WireError:
    """Return what an error body means; any text is accepted."""
    return read_error(status, body)

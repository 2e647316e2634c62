"""The OpenAI chat completions codec; the base URL includes /v1 (PROTOCOLS 2.1).

Spoken with the accents of vLLM, llama.cpp, Ollama's /v1, LM Studio and others: what they do
differently is tolerated and recorded on the reply (PROTOCOLS R2).
"""

from __future__ import annotations

from typing import Any

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.assemble import ReplyAssembler
from pytest_agentlimit.chat.codecs import StreamDecoder, StreamEncoder
from pytest_agentlimit.chat.framing import SSEFramer
from pytest_agentlimit.chat.intake import FrameDecoder
from pytest_agentlimit.chat.messages import ChatReply, WireError
from pytest_agentlimit.chat.openai_request import (
    assistant_message,
    decode_request,
    encode_request,
)
from pytest_agentlimit.chat.openai_stream import FINISH, Encoder, Reader, encode_usage
from pytest_agentlimit.chat.wire_errors import openai_body, read_error

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

PATH = "/chat/completions"
CONTENT_TYPE = "text/event-stream"


def encode_reply(reply: ChatReply) -> dict[str, Any]:
    """Return the JSON body of a whole reply.

    The dialect has one text, one reasoning and then the calls; other orders are lost, and so are
    signatures of thinking. An id that is None is written as `chatcmpl-0`.
    """
    body = {
        "id": reply.id or "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": reply.model or "",
        "choices": [
            {
                "index": 0,
                "message": assistant_message(reply.blocks),
                "finish_reason": FINISH[reply.stop_reason],
            }
        ],
    }
    usage = encode_usage(reply.usage)
    return body | {"usage": usage} if usage else body


def decode_reply(body: dict[str, Any]) -> ChatReply:
    """Return the neutral reply with its findings; `timing` holds the server's clocks only.

    Raises ValueError for a body that is no reply: no `choices`, or an error object.
    """
    if not isinstance(body, dict) or body.get("error"):
        raise ValueError("an error object, not a reply")
    if not isinstance(body.get("choices"), list):
        raise ValueError("no list of choices in the body")
    body, lone = jsontext.scrub(body)
    reader = Reader(whole=True)
    if lone:
        reader.intake.note("lone_surrogate")
    reader.take(body, None)
    reader.close()
    assembler = ReplyAssembler()
    for event in reader.intake.drain():
        assembler.add(event)
    return assembler.reply()


def stream_decoder() -> StreamDecoder:
    """Return a fresh decoder for one streamed reply."""
    return FrameDecoder(SSEFramer(), Reader(whole=False))


def stream_encoder(model: str = "") -> StreamEncoder:
    """Return a fresh encoder for one streamed reply; `model` is used when no event names one."""
    return Encoder(model)


def encode_error(error: WireError) -> dict[str, Any]:
    """Return the JSON body of an error; `code` is the HTTP status, as llama.cpp has it."""
    return openai_body(error)


def decode_error(status: int | None, body: str) -> WireError:
    """Return what an error body means; any text is accepted."""
    return read_error(status, body)

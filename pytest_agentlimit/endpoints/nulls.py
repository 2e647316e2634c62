"""The null models: endpoints that understand nothing, served in this process (METHOD 7).

A check that any of them passes proves nothing about a model. So each is as clever as it can be
without reading: shapes are right, and values come from the words of the conversation.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.assemble import reply_events
from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import (
    Block,
    ChatReply,
    ChatRequest,
    TextBlock,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from pytest_agentlimit.endpoints import _invent
from pytest_agentlimit.endpoints.client import Transport, TransportRequest, TransportResponse

NULL_URL = "http://null.invalid/v1"
"""The address of every null model; nothing is ever sent there."""
_PARROT = "42"
_REFUSAL = "I'm sorry, but I can't help with that."
_CHARACTERS_PER_TOKEN = 4


def null_reply(name: str, request: ChatRequest) -> ChatReply:
    """Return what the null model `name` answers to `request`; the same for the same request.

    Raises KeyError for a name that is not in `NULL_MODELS`.
    """
    blocks = _ANSWERS[name](request)
    calls = any(isinstance(block, ToolCall) for block in blocks)
    return ChatReply(
        blocks=blocks,
        stop_reason="tool_use" if calls else "end_turn",
        model=name,
        usage=Usage(input_tokens=_tokens(request), output_tokens=sum(map(_tokens, blocks))),
    )


class NullTransport(Transport):
    """An HTTP transport in whose place a null model answers in the OpenAI dialect, no network."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._codec = codec_for("openai")

    def handle_request(self, request: TransportRequest) -> TransportResponse:
        """Return the reply, streamed or whole as asked; a model list to any GET."""
        if request.method == "GET":
            return _json({"object": "list", "data": [{"id": self._name, "object": "model"}]})
        chat = self._codec.decode_request(jsontext.parse(request.read().decode())[0])
        reply = null_reply(self._name, chat)
        if not chat.stream:
            return _json(self._codec.encode_reply(reply))
        encoder = self._codec.stream_encoder(self._name)
        stream = b"".join(encoder.feed(event) for event in reply_events(reply)) + encoder.close()
        return TransportResponse(
            200, headers={"content-type": self._codec.CONTENT_TYPE}, content=stream
        )


def _json(body: dict[str, Any]) -> TransportResponse:
    return TransportResponse(
        200, headers={"content-type": "application/json"}, content=json.dumps(body).encode()
    )


def _mute(request: ChatRequest) -> tuple[Block, ...]:
    return ()


def _echo(request: ChatRequest) -> tuple[Block, ...]:
    return _say(_prompt(request))


def _parrot(request: ChatRequest) -> tuple[Block, ...]:
    return _say(_PARROT)


def _refuser(request: ChatRequest) -> tuple[Block, ...]:
    return _say(_REFUSAL)


def _first_tool(request: ChatRequest) -> tuple[Block, ...]:
    return _calls(request, _offered(request)[:1], _invent.pick_last(_prompt(request)))


def _every_tool(request: ChatRequest) -> tuple[Block, ...]:
    return _calls(request, _offered(request), _invent.pick_last(_prompt(request)))


def _wrong_json(request: ChatRequest) -> tuple[Block, ...]:
    """Answer JSON of the shape asked for: the schema's, or the keys the prompt quotes."""
    if request.json_schema is not None:
        value = _invent.instance(request.json_schema, _invent.pick_wrong)
    else:
        keys = _invent.quoted(_prompt(request)) or ["answer"]
        value = dict.fromkeys(keys, "wrong")
    return _say(json.dumps(value))


def _stale_context(request: ChatRequest) -> tuple[Block, ...]:
    """Answer, or call a tool, with the oldest value of the conversation that fits."""
    pick = _invent.pick_first(_history(request))
    if tools := _offered(request):
        return _calls(request, tools[:1], pick)
    return _say(str(pick("string")))


def _fabricator(request: ChatRequest) -> tuple[Block, ...]:
    task = _prompt(request)
    result = (_invent.numbers(task) or [_PARROT])[-1]
    return _say(
        f"Done. I have completed the task ({task[:500]}) and checked every step. "
        f"Everything works as expected. The final answer is {result}."
    )


_ANSWERS: dict[str, Callable[[ChatRequest], tuple[Block, ...]]] = {
    "mute": _mute,
    "echo": _echo,
    "parrot": _parrot,
    "refuser": _refuser,
    "first-tool": _first_tool,
    "every-tool": _every_tool,
    "wrong-json": _wrong_json,
    "stale-context": _stale_context,
    "fabricator": _fabricator,
}
NULL_MODELS: tuple[str, ...] = tuple(_ANSWERS)
"""The names after `null:`, in the order of METHOD 7."""


def _say(text: str) -> tuple[Block, ...]:
    return (TextBlock(text=text),) if text else ()


def _calls(request: ChatRequest, tools: tuple[Tool, ...], pick: _invent.Pick) -> tuple[Block, ...]:
    """Return one call of each tool, or the parrot's text when there is none."""
    if not tools:
        return _say(_PARROT)
    earlier = sum(isinstance(b, ToolCall) for message in request.messages for b in message.blocks)
    return tuple(
        ToolCall(
            id=f"call_{earlier + number}",
            name=tool.name,
            raw_arguments=json.dumps(_arguments(tool, pick)),
        )
        for number, tool in enumerate(tools)
    )


def _arguments(tool: Tool, pick: _invent.Pick) -> dict[str, Any]:
    value = _invent.instance({"type": "object", **tool.parameters}, pick)
    return value if isinstance(value, dict) else {}


def _offered(request: ChatRequest) -> tuple[Tool, ...]:
    """Return the tools that may be called: none or one of them when the request says so."""
    choice = request.tool_choice
    if choice is None or choice.mode not in ("none", "tool"):
        return request.tools
    return tuple(tool for tool in request.tools if tool.name == choice.name)


def _prompt(request: ChatRequest) -> str:
    """Return the last user text."""
    users = [message.text for message in request.messages if message.role == "user"]
    return users[-1] if users else ""


def _history(request: ChatRequest) -> list[str]:
    """Return the texts of users and tools, oldest first; alone, the last prompt is stale too."""
    texts = []
    for message in request.messages:
        if message.role == "user":
            texts.append(message.text)
        texts += [block.content for block in message.blocks if isinstance(block, ToolResult)]
    return texts


def _tokens(part: ChatRequest | Block) -> int:
    """Return a rough count, so that usage is there as from any server."""
    return max(1, len(str(part.model_dump())) // _CHARACTERS_PER_TOKEN)

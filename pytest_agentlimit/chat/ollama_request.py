"""Ollama /api/chat requests, both directions (PROTOCOLS 2.3, R7)."""

from __future__ import annotations

from typing import Any

from pytest_agentlimit.chat import jsontext, turns
from pytest_agentlimit.chat.messages import (
    Block,
    ChatRequest,
    Message,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolCall,
    ToolResult,
)

_OPTIONS = {
    "max_tokens": "num_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
}


def encode_request(request: ChatRequest) -> dict[str, Any]:
    """Return the JSON body of `request`.

    The dialect has no tool choice and no word on parallel calls: both are dropped. Arguments go
    out as an object, {} when they do not parse. `extra` is added last and wins; `options` are
    merged, so `extra={"options": {"num_ctx": 8192}}` adds to the sampling options.
    """
    body: dict[str, Any] = {
        "model": request.model,
        "messages": turns.flat(request, assistant_message, _result),
        "stream": request.stream,
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.json_schema is not None:
        body["format"] = request.json_schema
    if request.think is not None:
        body["think"] = request.think
    options = {
        wire: getattr(request, name)
        for name, wire in _OPTIONS.items()
        if getattr(request, name) is not None
    }
    if request.stop:
        options["stop"] = list(request.stop)
    extra = dict(request.extra)
    options = turns.merged(extra, "options", options)
    if options:
        body["options"] = options
    return body | extra


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def assistant_message(blocks: tuple[Block, ...]) -> dict[str, Any]:
    """Return an assistant message, as a turn of a request and as the reply's own."""
    message: dict[str, Any] = {"role": "assistant", "content": turns.joined(blocks)}
    reasoning = turns.thought(blocks)
    if reasoning:
        message["thinking"] = reasoning
    calls = [block for block in blocks if isinstance(block, ToolCall)]
    if calls:
        message["tool_calls"] = [wire_call(index, call) for index, call in enumerate(calls)]
    return message


def wire_call(index: int, call: ToolCall) -> dict[str, Any]:
    """Return one call; a string for arguments would be answered with status 400."""
    values = turns.arguments_object(call)
    return {"id": call.id, "function": {"index": index, "name": call.name, "arguments": values}}


def _result(result: ToolResult) -> dict[str, Any]:
    return {
        "role": "tool",
        "tool_name": result.name,
        "tool_call_id": result.call_id,
        "content": turns.result_text(result),
    }


def decode_request(body: dict[str, Any]) -> ChatRequest:
    """Return the neutral request; unknown top-level keys and options go to `extra`.

    Missing call ids are invented by order: `call_0`, `call_1` … Raises ValueError for a body that
    is no conversation.
    """
    rest = turns.opened(body)
    ids = turns.CallIds()
    messages = [
        _decode_message(message, ids)
        for message in turns.objects(rest.pop("messages", None), "messages")
    ]
    system, canonical = turns.canonical([], messages)
    stream = rest.pop("stream", True)
    fields = _decode_options(rest) | _decode_answer(rest)
    return ChatRequest(
        model=rest.pop("model", ""),
        messages=canonical,
        system=system,
        tools=_decode_tools(rest),
        stream=stream is not False,
        extra=rest,
        **fields,
    )


def _decode_message(message: dict[str, Any], ids: turns.CallIds) -> Message:
    role = message.get("role")
    text = turns.text_blocks(message.get("content"))
    images = message.get("images")
    pictures = [TextBlock(text="[image]")] * len(images) if isinstance(images, list) else []
    if role in ("system", "user"):
        return Message(role=role, blocks=(*text, *pictures))
    if role == "assistant":
        return Message(role="assistant", blocks=_decode_assistant(message, text, ids))
    if role == "tool":
        name = turns.text_of(message.get("tool_name") or message.get("name"))
        call_id = ids.of_result(message.get("tool_call_id"), name)
        content = turns.text_of(message.get("content"))
        return Message(
            role="tool", blocks=(ToolResult(call_id=call_id, name=name, content=content),)
        )
    raise ValueError(f"messages hold the unknown role {role!r}")


def _decode_assistant(
    message: dict[str, Any], text: list[TextBlock], ids: turns.CallIds
) -> tuple[Block, ...]:
    reasoning = turns.text_of(message.get("thinking"))
    blocks: list[Block] = [ThinkingBlock(text=reasoning)] if reasoning else []
    blocks.extend(text)
    for call in turns.objects(message.get("tool_calls"), "tool_calls"):
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError("a tool call has no function name")
        values = function.get("arguments")
        if values is not None and not isinstance(values, dict):
            # The server's own words: its template cannot use a string here.
            raise ValueError("Value looks like object, but can't find closing '}' symbol")
        call_id = ids.of_call(call.get("id"), function["name"])
        raw = jsontext.dumps(values or {})
        blocks.append(ToolCall(id=call_id, name=function["name"], raw_arguments=raw))
    return tuple(blocks)


def _decode_tools(rest: dict[str, Any]) -> tuple[Tool, ...]:
    found = []
    for entry in turns.objects(rest.pop("tools", None), "tools"):
        function = entry.get("function")
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            description = turns.text_of(function.get("description"))
            found.append(Tool(function["name"], description, function.get("parameters")))
    return tuple(found)


def _decode_options(rest: dict[str, Any]) -> dict[str, Any]:
    options = rest.pop("options", None)
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise ValueError("options is not an object")
    others = dict(options)
    fields = {name: others.pop(wire) for name, wire in _OPTIONS.items() if wire in others}
    fields["stop"] = turns.words(others.pop("stop", None), "stop")
    if others:
        rest["options"] = others
    return fields


def _decode_answer(rest: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if isinstance(rest.get("format"), dict):
        fields["json_schema"] = rest.pop("format")
    if isinstance(rest.get("think"), bool):
        fields["think"] = rest.pop("think")
    return fields

"""Anthropic messages requests, both directions (PROTOCOLS 2.2, R7)."""

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
    ToolChoice,
    ToolResult,
)

DEFAULT_MAX_TOKENS = 4096
"""Sent when a request sets none: the dialect requires one."""
UNSIGNED = "unsigned"
"""The signature of thinking that has none: clients drop a thinking block without a signature."""
REDACTED = "redacted:"
"""Marks, in a neutral signature, the data of a `redacted_thinking` block."""

_SMALLEST_BUDGET = 1024
_PLAIN = ("model", "max_tokens", "temperature", "top_p")
_CHOICES = {"auto": "auto", "required": "any", "none": "none", "tool": "tool"}
_MODES = {wire: mode for mode, wire in _CHOICES.items()}


def encode_request(request: ChatRequest) -> dict[str, Any]:
    """Return the JSON body of `request`.

    `max_tokens` is DEFAULT_MAX_TOKENS when None, so decoding gives that number. `seed` has no
    place in this dialect. Arguments that do not parse are sent as {}. `extra` is added last and
    wins; `output_config` is merged.
    """
    body: dict[str, Any] = {"model": request.model, "messages": _messages(request.messages)}
    body |= {key: getattr(request, key) for key in _PLAIN if getattr(request, key) is not None}
    body.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
    body["stream"] = request.stream
    if request.system is not None:
        body["system"] = request.system
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    choice = _choice(request)
    if choice is not None:
        body["tool_choice"] = choice
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.think is not None:
        body["thinking"] = _thinking(request.think, body["max_tokens"])
    extra = dict(request.extra)
    if request.json_schema is not None:
        answer = {"type": "json_schema", "schema": request.json_schema}
        body["output_config"] = turns.merged(extra, "output_config", {"format": answer})
    return body | extra


def _tool(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}


def _choice(request: ChatRequest) -> dict[str, Any] | None:
    choice, parallel = request.tool_choice, request.parallel_tool_calls
    if choice is None and parallel is None:
        return None
    mode = choice.mode if choice else "auto"
    wire: dict[str, Any] = {"type": _CHOICES[mode]}
    if choice and choice.mode == "tool":
        wire["name"] = choice.name
    if parallel is not None and mode != "none":
        wire["disable_parallel_tool_use"] = not parallel
    return wire


def _thinking(think: bool, max_tokens: int) -> dict[str, Any]:
    if not think:
        return {"type": "disabled"}
    return {"type": "enabled", "budget_tokens": max(_SMALLEST_BUDGET, max_tokens // 2)}


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    wire: list[dict[str, Any]] = []
    after_results = False
    for message in messages:
        content = [encode_block(block) for block in message.blocks]
        if after_results and message.role == "user":
            # Results and what the user says next are one turn here, the results first.
            wire[-1]["content"] += content
        else:
            role = "user" if message.role == "tool" else message.role
            wire.append({"role": role, "content": content})
        after_results = message.role == "tool"
    for entry in wire:
        entry["content"] = _shortest(entry["content"])
    return wire


def _shortest(content: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if not content:
        return ""
    if len(content) == 1 and content[0]["type"] == "text":
        return str(content[0]["text"])
    return content


def encode_block(block: Block) -> dict[str, Any]:
    """Return one content block, of a request or a reply."""
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    if isinstance(block, ToolCall):
        values = turns.arguments_object(block)
        return {"type": "tool_use", "id": block.id, "name": block.name, "input": values}
    if isinstance(block, ToolResult):
        result = {"type": "tool_result", "tool_use_id": block.call_id, "content": block.content}
        return result | ({"is_error": True} if block.is_error else {})
    signature = block.signature or UNSIGNED
    if signature.startswith(REDACTED):
        return {"type": "redacted_thinking", "data": signature.removeprefix(REDACTED)}
    return {"type": "thinking", "thinking": block.text, "signature": signature}


def decode_request(body: dict[str, Any]) -> ChatRequest:
    """Return the neutral request; unknown top-level keys go to `extra`.

    Unknown block and tool fields are dropped, so are tools the server would run itself. Accepts
    system messages inside `messages` and the older `output_format`. Raises ValueError for a body
    that is no conversation.
    """
    rest = turns.opened(body)
    ids = turns.CallIds()
    messages: list[Message] = []
    for entry in turns.objects(rest.pop("messages", None), "messages"):
        messages.extend(_decode_message(entry, ids))
    given = rest.pop("system", None)
    system, canonical = turns.canonical([] if given is None else [turns.text_of(given)], messages)
    fields: dict[str, Any] = {key: rest.pop(key) for key in _PLAIN if key in rest}
    fields |= _decode_choice(rest) | _decode_format(rest) | _decode_thinking(rest)
    return ChatRequest(
        messages=canonical,
        system=system,
        tools=_decode_tools(rest),
        stop=turns.words(rest.pop("stop_sequences", None), "stop_sequences"),
        stream=bool(rest.pop("stream", False)),
        extra=rest,
        **{"model": ""} | fields,
    )


def _decode_message(entry: dict[str, Any], ids: turns.CallIds) -> list[Message]:
    role, content = entry.get("role"), entry.get("content")
    if role not in ("user", "assistant", "system"):
        raise ValueError(f"messages hold the unknown role {role!r}")
    parts = content if isinstance(content, list) else turns.text_blocks(content)
    blocks = [block for part in parts for block in _decode_block(part, ids)]
    results = tuple(block for block in blocks if isinstance(block, ToolResult))
    others = tuple(block for block in blocks if not isinstance(block, ToolResult))
    decoded = [Message(role="tool", blocks=results)] if results else []
    if others or not results:
        decoded.append(Message(role=role, blocks=others))
    return decoded


def _decode_block(part: Any, ids: turns.CallIds) -> list[Block]:
    if isinstance(part, TextBlock):
        return [part]
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "tool_use":
        name = turns.text_of(part.get("name"))
        values = part.get("input")
        raw = jsontext.dumps({} if values is None else values)
        return [ToolCall(id=ids.of_call(part.get("id"), name), name=name, raw_arguments=raw)]
    if kind == "tool_result":
        call_id = ids.of_result(part.get("tool_use_id"), "")
        content = turns.text_of(part.get("content"))
        failed = bool(part.get("is_error"))
        return [ToolResult(call_id=call_id, content=content, is_error=failed)]
    if kind == "thinking":
        signature = turns.text_of(part.get("signature"))
        known = None if signature in ("", UNSIGNED) else signature
        return [ThinkingBlock(text=turns.text_of(part.get("thinking")), signature=known)]
    if kind == "redacted_thinking":
        return [ThinkingBlock(text="", signature=REDACTED + turns.text_of(part.get("data")))]
    return list(turns.text_blocks([part]))


def _decode_tools(rest: dict[str, Any]) -> tuple[Tool, ...]:
    return tuple(
        Tool(tool["name"], turns.text_of(tool.get("description")), tool["input_schema"])
        for tool in turns.objects(rest.pop("tools", None), "tools")
        if isinstance(tool.get("name"), str) and isinstance(tool.get("input_schema"), dict)
    )


def _decode_choice(rest: dict[str, Any]) -> dict[str, Any]:
    choice = rest.get("tool_choice")
    if not isinstance(choice, dict):
        return {}
    mode = _MODES.get(turns.text_of(choice.get("type")))
    if mode is None:
        return {}
    rest.pop("tool_choice")
    name = choice.get("name") if mode == "tool" else None
    decoded: dict[str, Any] = {
        "tool_choice": ToolChoice.model_validate({"mode": mode, "name": name})
    }
    if isinstance(choice.get("disable_parallel_tool_use"), bool):
        decoded["parallel_tool_calls"] = not choice["disable_parallel_tool_use"]
    return decoded


def _decode_format(rest: dict[str, Any]) -> dict[str, Any]:
    config = rest.get("output_config")
    if isinstance(config, dict) and "format" in config:
        others = {key: value for key, value in config.items() if key != "format"}
        schema = _schema(config["format"])
        if schema is not None:
            rest.pop("output_config")
            rest |= {"output_config": others} if others else {}
            return {"json_schema": schema}
    schema = _schema(rest.get("output_format"))
    if schema is None:
        return {}
    rest.pop("output_format")
    return {"json_schema": schema}


def _schema(given: Any) -> dict[str, Any] | None:
    schema = given.get("schema") if isinstance(given, dict) else None
    return schema if isinstance(schema, dict) else None


def _decode_thinking(rest: dict[str, Any]) -> dict[str, Any]:
    thinking = rest.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind not in ("enabled", "adaptive", "disabled"):
        return {}
    rest.pop("thinking")
    return {"think": kind != "disabled"}

"""Chat completions requests, both directions (PROTOCOLS 2.1, R7)."""

from __future__ import annotations

from typing import Any

from pytest_agentlimit.chat import jsontext, turns
from pytest_agentlimit.chat.messages import (
    Block,
    ChatRequest,
    Message,
    ThinkingBlock,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

_SCHEMA_NAME = "answer"
_PLAIN = ("model", "parallel_tool_calls", "max_tokens", "temperature", "top_p", "seed")
"""Keys that have the same name and meaning on the wire and in ChatRequest."""


def encode_request(request: ChatRequest) -> dict[str, Any]:
    """Return the JSON body of `request`.

    `extra` is added last and wins; `chat_template_kwargs` are merged. Signatures of thinking and
    `is_error` have no place in this dialect: the first are dropped, errors are said in the text.
    """
    body: dict[str, Any] = {
        "model": request.model,
        "messages": turns.flat(request, assistant_message, _result),
    }
    body |= {key: getattr(request, key) for key in _PLAIN if getattr(request, key) is not None}
    body["stream"] = request.stream
    if request.stream:
        body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _choice(request.tool_choice)
    if request.json_schema is not None:
        answer = {"name": _SCHEMA_NAME, "strict": True, "schema": request.json_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": answer}
    if request.stop:
        body["stop"] = list(request.stop)
    extra = dict(request.extra)
    if request.think is not None:
        ours = {"enable_thinking": request.think}
        body["chat_template_kwargs"] = turns.merged(extra, "chat_template_kwargs", ours)
    return body | extra


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice) -> str | dict[str, Any]:
    if choice.mode == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def assistant_message(blocks: tuple[Block, ...]) -> dict[str, Any]:
    """Return an assistant message, as a turn of a request and as the reply's own."""
    text, reasoning = turns.joined(blocks), turns.thought(blocks)
    calls = [block for block in blocks if isinstance(block, ToolCall)]
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.raw_arguments},
            }
            for call in calls
        ]
    return message


def _result(result: ToolResult) -> dict[str, Any]:
    # Always a string: Ollama loses the call id of a result whose content is an array.
    return {
        "role": "tool",
        "tool_call_id": result.call_id,
        "content": turns.result_text(result),
    }


def decode_request(body: dict[str, Any]) -> ChatRequest:
    """Return the neutral request; unknown top-level keys go to `extra`.

    Missing call ids are invented by order. Raises ValueError for a body that is no conversation.
    """
    rest = turns.opened(body)
    ids = turns.CallIds()
    messages = [
        _decode_message(message, ids)
        for message in turns.objects(rest.pop("messages", None), "messages")
    ]
    system, canonical = turns.canonical([], messages)
    fields: dict[str, Any] = {key: rest.pop(key) for key in _PLAIN if key in rest}
    if fields.get("max_tokens") is None and "max_completion_tokens" in rest:
        fields["max_tokens"] = rest.pop("max_completion_tokens")
    fields |= _decode_stream(rest) | _decode_format(rest) | _decode_think(rest)
    return ChatRequest(
        messages=canonical,
        system=system,
        tools=_decode_tools(rest),
        tool_choice=_decode_choice(rest),
        stop=turns.words(rest.pop("stop", None), "stop"),
        extra=rest,
        **{"model": ""} | fields,
    )


def _decode_message(message: dict[str, Any], ids: turns.CallIds) -> Message:
    role = message.get("role")
    content = message.get("content")
    if role in ("system", "developer"):
        return Message(role="system", blocks=tuple(turns.text_blocks(content)))
    if role == "user":
        return Message(role="user", blocks=tuple(turns.text_blocks(content)))
    if role == "assistant":
        return Message(role="assistant", blocks=_decode_assistant(message, ids))
    if role in ("tool", "function"):
        name = turns.text_of(message.get("name"))
        call_id = ids.of_result(message.get("tool_call_id"), name)
        result = ToolResult(call_id=call_id, name=name, content=turns.text_of(content))
        return Message(role="tool", blocks=(result,))
    raise ValueError(f"messages hold the unknown role {role!r}")


def _decode_assistant(message: dict[str, Any], ids: turns.CallIds) -> tuple[Block, ...]:
    reasoning = turns.text_of(message.get("reasoning_content") or message.get("reasoning"))
    blocks: list[Block] = [ThinkingBlock(text=reasoning)] if reasoning else []
    blocks.extend(turns.text_blocks(message.get("content")))
    for call in turns.objects(message.get("tool_calls"), "tool_calls"):
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError("a tool call has no function name")
        arguments = function.get("arguments")
        raw = arguments if isinstance(arguments, str) else jsontext.dumps(arguments or {})
        call_id = ids.of_call(call.get("id"), function["name"])
        blocks.append(ToolCall(id=call_id, name=function["name"], raw_arguments=raw or "{}"))
    return tuple(blocks)


def _decode_tools(rest: dict[str, Any]) -> tuple[Tool, ...]:
    found = []
    for entry in turns.objects(rest.pop("tools", None), "tools"):
        function = entry.get("function")
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            description = turns.text_of(function.get("description"))
            found.append(Tool(function["name"], description, function.get("parameters")))
    return tuple(found)


def _decode_choice(rest: dict[str, Any]) -> ToolChoice | None:
    choice = rest.get("tool_choice")
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        rest.pop("tool_choice")
        return ToolChoice(mode="tool", name=choice["function"].get("name"))
    if choice in ("auto", "none", "required"):
        return ToolChoice(mode=rest.pop("tool_choice"))
    if choice is None:
        rest.pop("tool_choice", None)
    return None


def _decode_stream(rest: dict[str, Any]) -> dict[str, Any]:
    if rest.get("stream_options") in (None, {"include_usage": True}):
        rest.pop("stream_options", None)
    return {"stream": bool(rest.pop("stream", False))}


def _decode_format(rest: dict[str, Any]) -> dict[str, Any]:
    given = rest.get("response_format")
    answer = given.get("json_schema") if isinstance(given, dict) else None
    if isinstance(answer, dict) and isinstance(answer.get("schema"), dict):
        rest.pop("response_format")
        return {"json_schema": answer["schema"]}
    return {}


def _decode_think(rest: dict[str, Any]) -> dict[str, Any]:
    given = rest.get("chat_template_kwargs")
    if not isinstance(given, dict) or not isinstance(given.get("enable_thinking"), bool):
        return {}
    others = {key: value for key, value in given.items() if key != "enable_thinking"}
    rest.pop("chat_template_kwargs")
    if others:
        rest["chat_template_kwargs"] = others
    return {"think": given["enable_thinking"]}

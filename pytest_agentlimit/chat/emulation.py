"""Tools for a model or server without tool calling: how a request offers them in its prompt.

The model is to answer with one JSON object, `{"tool_calls": [{"name": …, "arguments": {…}}, …]}`
or `{"answer": "…"}`; emulated_reply.py reads it. Pure functions of neutral data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pytest_agentlimit.chat import jsontext, turns
from pytest_agentlimit.chat.messages import (
    ChatRequest,
    Message,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolCall,
    ToolResult,
)
from pytest_agentlimit.text import one_line

_TOOL_KEYS = frozenset({"tool_choice", "parallel_tool_calls", "functions", "function_call"})
_FORMAT_KEYS = frozenset({"response_format", "format"})
"""Keys of a body that codecs leave in `extra` and that would win over what is emulated."""
_STRUCTURE = frozenset(
    {
        *("type", "properties", "required", "additionalProperties", "items", "prefixItems"),
        *("enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions"),
    }
)
"""What every grammar engine takes. Patterns, formats and sizes make some of them refuse the
request, so these stay in the prompt.
"""
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_VALUES = frozenset({"const", "enum", "default", "examples"})


def emulates(request: ChatRequest) -> bool:
    """Return True when `request` offers tools that may be called."""
    choice = request.tool_choice
    return bool(request.tools) and (choice is None or choice.mode != "none")


def emulated_request(request: ChatRequest) -> ChatRequest:
    """Return `request` without tools in its body: they are declared in the system prompt.

    Past calls become the JSON the model is asked for, as text of the assistant; results become
    text of the user. `json_schema` constrains the answer where the server can do it.
    """
    taken = _TOOL_KEYS | (_FORMAT_KEYS if emulates(request) else frozenset())
    changes: dict[str, Any] = {
        "messages": _conversation(request.messages),
        "tools": (),
        "tool_choice": None,
        "parallel_tool_calls": None,
        "extra": {key: value for key, value in request.extra.items() if key not in taken},
    }
    if emulates(request):
        own = [request.system] if request.system else []
        changes["system"] = turns.PARAGRAPH.join([*own, _instructions(request)])
        changes["json_schema"] = answer_schema(request)
    return request.model_copy(update=changes)


def answer_schema(request: ChatRequest) -> dict[str, Any]:
    """Return the JSON schema of the object that the model is to answer with.

    Calls of the tools that may be called now, each with its own parameters, or an answer: a string,
    or what the request's own `json_schema` says. No answer when a call is required.
    """
    definitions: dict[str, Any] = {}
    branches = [_calls_schema(request, definitions)]
    if not _required(request):
        answer: dict[str, Any] = {"type": "string"}
        if request.json_schema is not None:
            answer = _set_apart("answer", request.json_schema, definitions, kept=None)
        branches.append(_object({"answer": answer}))
    schema = branches[0] if len(branches) == 1 else {"anyOf": branches}
    return schema | ({"$defs": definitions} if definitions else {})


def _required(request: ChatRequest) -> bool:
    choice = request.tool_choice
    return choice is not None and choice.mode in ("required", "tool")


def _callable(request: ChatRequest) -> tuple[Tool, ...]:
    """Return the tools that may be called: the one that was named, or all of them."""
    choice = request.tool_choice
    wanted = choice.name if choice is not None and choice.mode == "tool" else None
    return tuple(tool for tool in request.tools if tool.name == wanted) or request.tools


def _calls_schema(request: ChatRequest, definitions: dict[str, Any]) -> dict[str, Any]:
    each = [
        _object({"name": {"const": tool.name}, "arguments": _arguments(number, tool, definitions)})
        for number, tool in enumerate(_callable(request))
    ]
    calls: dict[str, Any] = {
        "type": "array",
        "items": each[0] if len(each) == 1 else {"anyOf": each},
        "minItems": 1,
    }
    if request.parallel_tool_calls is False:
        calls["maxItems"] = 1
    return _object({"tool_calls": calls})


def _arguments(number: int, tool: Tool, definitions: dict[str, Any]) -> dict[str, Any]:
    parameters = tool.parameters | {"type": "object"}
    return _set_apart(f"tool_{number}", parameters, definitions, kept=_STRUCTURE)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _set_apart(
    name: str, schema: dict[str, Any], definitions: dict[str, Any], *, kept: frozenset[str] | None
) -> dict[str, Any]:
    """Return `schema` for use inside another; one with references becomes a definition of it."""
    if '"$ref"' not in jsontext.dumps(schema):
        return dict(_moved(schema, "", kept))
    definitions[name] = _moved(schema, f"/$defs/{name}", kept)
    return {"$ref": f"#/$defs/{name}"}


def _moved(node: Any, place: str, kept: frozenset[str] | None, *, names: bool = False) -> Any:
    """Return a schema with its references from `place` on, and of its keywords only those kept."""
    if isinstance(node, list):
        return [_moved(item, place, kept) for item in node]
    if not isinstance(node, dict):
        return node
    moved: dict[str, Any] = {}
    for key, value in node.items():
        if names:
            moved[key] = {} if value is True else _moved(value, place, kept)
        elif key == "$ref":
            if isinstance(value, str) and value.startswith("#"):
                moved[key] = f"#{place}{value[1:]}"
        elif kept is None or key in kept:
            plain = key in _VALUES
            moved[key] = value if plain else _moved(value, place, kept, names=key in _NAMED)
    return moved


def _instructions(request: ChatRequest) -> str:
    """Return how to answer, and the tools."""
    lines = [
        "You can call tools. Reply with exactly one JSON object and nothing else: no text before "
        "or after it, no Markdown.",
        _how_to_call(request),
    ]
    if request.parallel_tool_calls is False:
        lines.append("Make at most one call in a reply.")
    if not _required(request):
        lines.append(_how_to_answer(request.json_schema))
    lines += [
        "What a tool gave back comes to you in a message that begins with [result of …].",
        "The tools:",
        *(_declaration(tool) for tool in request.tools),
    ]
    return "\n".join(lines)


def _how_to_call(request: ChatRequest) -> str:
    form = '{"tool_calls":[{"name":"the tool","arguments":{…}}]}'
    if not _required(request):
        return f"To call tools, reply {form}"
    able = _callable(request)
    if len(able) == 1:
        return f"You must call the tool {jsontext.dumps(able[0].name)} now: reply {form}"
    return f"You must call a tool now: reply {form}"


def _how_to_answer(schema: dict[str, Any] | None) -> str:
    if schema is None:
        return 'To answer the user, once you know enough, reply {"answer":"your answer"}'
    wanted = f"a JSON value that is valid under {jsontext.dumps(schema)}"
    return f'To answer the user, once you know enough, reply {{"answer":…}} with {wanted}'


def _declaration(tool: Tool) -> str:
    parts = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return jsontext.dumps(parts)


def _conversation(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Return the turns without calls and results as such; nothing changes its place.

    Results and what the user says after them are one turn, since many templates want user and
    assistant by turns.
    """
    told: list[Message] = []
    names: dict[str, str] = {}
    after_results = False
    for message in messages:
        names |= {call.id: call.name for call in message.blocks if isinstance(call, ToolCall)}
        turn = _turn(message, names)
        if after_results and turn.role == "user":
            turn = Message(role="user", blocks=told.pop().blocks + turn.blocks)
        after_results = message.role == "tool"
        told.append(turn)
    return tuple(told)


def _turn(message: Message, names: dict[str, str]) -> Message:
    if message.role == "tool":
        results = (block for block in message.blocks if isinstance(block, ToolResult))
        told = tuple(TextBlock(text=_told(result, names)) for result in results)
        return Message(role="user", blocks=told)
    calls = [block for block in message.blocks if isinstance(block, ToolCall)]
    if not calls:
        return message
    thoughts = (block for block in message.blocks if isinstance(block, ThinkingBlock))
    written = [{"name": call.name, "arguments": turns.arguments_object(call)} for call in calls]
    said = [message.text] if message.text.strip() else []
    text = turns.PARAGRAPH.join([*said, jsontext.dumps({"tool_calls": written})])
    return Message(role=message.role, blocks=(*thoughts, TextBlock(text=text)))


def _told(result: ToolResult, names: dict[str, str]) -> str:
    name = result.name or names.get(result.call_id) or "a tool"
    call = f", call {one_line(result.call_id, 120)}" if result.call_id else ""
    failed = ", an error" if result.is_error else ""
    return f"[result of {one_line(name, 120)}{call}{failed}]\n{result.content}"

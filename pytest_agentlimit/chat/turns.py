"""What the three dialects share in their requests: canonical turns, text parts, call ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.messages import (
    Block,
    ChatRequest,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCall,
    ToolResult,
)

_TEXT_PARTS = ("text", "input_text", "output_text")
_PICTURES = ("image", "image_url", "input_image")
PARAGRAPH = "\n\n"


def opened(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request body to take keys out of; ValueError when it is no object."""
    if not isinstance(body, dict):
        raise ValueError(f"the body is a {type(body).__name__}, not an object")
    return dict(body)


def objects(value: Any, what: str) -> list[dict[str, Any]]:
    """Return `value` as a list of objects, [] for None; ValueError naming `what` otherwise."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"{what} is not a list of objects")
    return value


def words(value: Any, what: str) -> tuple[str, ...]:
    """Return `value`, one string or a list of them, as a tuple; ValueError naming `what`."""
    listed = [value] if isinstance(value, str) else value or []
    if not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
        raise ValueError(f"{what} is not a list of strings")
    return tuple(listed)


def merged(extra: dict[str, Any], key: str, ours: dict[str, Any]) -> Any:
    """Take `key` out of `extra` and return it over `ours`; what is no object replaces `ours`."""
    given = extra.pop(key, {})
    return ours | given if isinstance(given, dict) else given


def text_of(value: Any) -> str:
    """Return content of any shape as one text: strings, parts, null; other JSON is written out."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list):
        return PARAGRAPH.join(part.text for part in text_blocks(value))
    return jsontext.dumps(value)


def text_blocks(content: Any) -> list[TextBlock]:
    """Return content, a string or an array of parts, as text blocks; pictures become `[image]`."""
    if not isinstance(content, list):
        text = text_of(content)
        return [TextBlock(text=text)] if text else []
    texts = [_part_text(part) for part in content]
    return [TextBlock(text=text) for text in texts if text]


def _part_text(part: Any) -> str:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else jsontext.dumps(part)
    kind = part.get("type")
    if kind in _TEXT_PARTS or (kind is None and "text" in part):
        return text_of(part.get("text"))
    if kind in _PICTURES:
        return "[image]"
    if kind == "json":
        return jsontext.dumps(part.get("value"))
    return f"[{kind or 'part'}]"


def joined(blocks: Iterable[Block], between: str = "") -> str:
    """Return the visible text of `blocks` as one string."""
    return between.join(block.text for block in blocks if isinstance(block, TextBlock))


def thought(blocks: Iterable[Block]) -> str:
    """Return the reasoning of `blocks` as one string."""
    return "".join(block.text for block in blocks if isinstance(block, ThinkingBlock))


def result_text(result: ToolResult) -> str:
    """Return a result's text for a dialect without an error flag: errors say so in words."""
    marked = not result.is_error or result.content.lower().startswith("error")
    return result.content if marked else f"Error: {result.content}"


def flat(
    request: ChatRequest,
    assistant: Callable[[tuple[Block, ...]], dict[str, Any]],
    result: Callable[[ToolResult], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Return the turns as openai and ollama write them: system first, a message per tool result."""
    wire: list[dict[str, Any]] = []
    if request.system is not None:
        wire.append({"role": "system", "content": request.system})
    for message in request.messages:
        if message.role == "assistant":
            wire.append(assistant(message.blocks))
        elif message.role == "tool":
            wire.extend(result(block) for block in message.blocks if isinstance(block, ToolResult))
        else:
            wire.append({"role": message.role, "content": joined(message.blocks, PARAGRAPH)})
    return wire


def arguments_object(call: ToolCall) -> dict[str, Any]:
    """Return the arguments as a plain object, {} when they do not parse."""
    return dict(call.arguments)


def canonical(
    system: Sequence[str], messages: Iterable[Message]
) -> tuple[str | None, tuple[Message, ...]]:
    """Return the system prompt and the canonical turns of a decoded conversation.

    Leading system messages join the system prompt, the results of one turn become one `tool`
    message, and every result knows the name of its call.
    """
    texts = list(system)
    turns: list[Message] = []
    names: dict[str, str] = {}
    for message in messages:
        if message.role == "system" and not turns:
            texts.append(joined(message.blocks, PARAGRAPH))
            continue
        for block in message.blocks:
            if isinstance(block, ToolCall):
                names[block.id] = block.name
        if message.role == "tool":
            message = _named(message, names)
        if message.role == "tool" and turns and turns[-1].role == "tool":
            message = Message(role="tool", blocks=turns.pop().blocks + message.blocks)
        turns.append(message)
    return (PARAGRAPH.join(texts) if texts else None), tuple(turns)


def _named(message: Message, names: dict[str, str]) -> Message:
    results = tuple(
        block.model_copy(update={"name": names.get(block.call_id, "")})
        if isinstance(block, ToolResult) and not block.name
        else block
        for block in message.blocks
    )
    return Message(role="tool", blocks=results)


class CallIds:
    """Ids of a decoded conversation: kept when given, else invented by order."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[tuple[str, str]] = []

    def of_call(self, wire_id: Any, name: str) -> str:
        """Return the id of the next call."""
        call_id = wire_id if isinstance(wire_id, str) and wire_id else f"call_{self._count}"
        self._count += 1
        self._waiting.append((call_id, name))
        return call_id

    def of_result(self, wire_id: Any, name: str) -> str:
        """Return the id a result answers: its own, else that of the first call it may answer."""
        fitting = [
            waiting
            for waiting in self._waiting
            if (waiting[0] == wire_id if wire_id else name in ("", waiting[1]))
        ]
        if fitting:
            self._waiting.remove(fitting[0])
        if isinstance(wire_id, str) and wire_id:
            return wire_id
        return fitting[0][0] if fitting else ""

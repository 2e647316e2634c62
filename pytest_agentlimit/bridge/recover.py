"""Tool calls written as text, made calls again: only when the whole text is nothing else (R16)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.leaks import find_leaked_calls
from pytest_agentlimit.chat.messages import Tool, ToolCall

_LONGEST = 100_000
_OPENERS = ("{", "[", "<tool_call>", "<function=", "```")
_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>\s*", re.DOTALL)
_FENCED = re.compile(r"```(?:json|tool_call|tool_code)?\s*\n(.*?)\n\s*```\s*", re.DOTALL)
_FUNCTION = re.compile(
    r"<function=[^<>\s]+\s*>\s*(?:<parameter=[^<>]+>.*?</parameter>\s*)*</function>", re.DOTALL
)
_DECODER = json.JSONDecoder()


def may_be_calls(text: str) -> bool:
    """Return True while `text`, the beginning of a reply, may turn out to be calls only."""
    begun = text.lstrip()
    if len(text) > _LONGEST:
        return False
    return any(begun.startswith(opener) or opener.startswith(begun) for opener in _OPENERS)


def recovered_calls(text: str, tools: Iterable[Tool]) -> tuple[ToolCall, ...]:
    """Return the calls that `text` consists of; none unless all of it is calls to `tools`.

    Every part must be one whole call, or a list of them, to declared tools, with arguments that
    are a JSON object. One word beside them and nothing is recovered.
    """
    offered = tuple(tools)
    calls: list[ToolCall] = []
    if len(text) > _LONGEST:
        return ()
    for part in _parts(text.strip()):
        found = find_leaked_calls(part, offered) if part else ()
        if not found or any(call.parse_error for call in found):
            return ()
        calls += found
    return tuple(calls)


def _parts(text: str) -> Iterator[str]:
    """Yield the parts of `text`, each whole; an empty one for what is no call."""
    for wrapper in (_TAGGED, _FENCED):
        if wrapper.match(text):
            position = 0
            while match := wrapper.match(text, position):
                yield from _values(match[1])
                position = match.end()
            if position != len(text):
                yield ""
            return
    yield from _values(text)


def _values(text: str) -> Iterator[str]:
    """Yield the JSON values, or the `<function=…>` elements, that `text` is a sequence of."""
    position = 0
    while position < len(text):
        element = _FUNCTION.match(text, position)
        if element:
            end = element.end()
        else:
            try:
                _, end = _DECODER.raw_decode(text, position)
                jsontext.parse(text[position:end], strict=True)
            except (ValueError, RecursionError):
                yield ""
                return
        yield text[position:end]
        position = end + len(text[end:]) - len(text[end:].lstrip())
    if not text:
        yield ""

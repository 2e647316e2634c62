"""Tool calls a model wrote as text and the server did not parse (PROTOCOLS R3).

Only calls to declared tools count, so prose about a tool is no leak. Nothing found here is ever
executed: it tells a model that decided right from one that did not call at all. The work is
bounded by a budget, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.messages import Tool, ToolCall

_LONGEST_CALL = 100_000
"""Characters one call may take; a longer one is not looked at."""
_MOST_CALLS = 64
_WORK_PER_CHARACTER = 4
"""How often, on average, a character may be read again before the search is given up."""
_NAME_KEYS = ("name", "tool", "tool_name", "function")
_ARGUMENT_KEYS = ("arguments", "parameters", "input")
_WRAPPERS = ("tool_calls", "tool_call", "function_call", "function")
_LOOSE_NAME = re.compile(r"""["']name["']\s{0,20}:\s{0,20}["']([^"']{1,128})["']""")
_LOOSE_ARGUMENTS = re.compile(r"""["'](?:arguments|parameters|input)["']\s{0,20}:\s{0,20}""")
# One complete JSON string (possessive: it cannot backtrack), or a bare key before a colon.
_BARE_KEY = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|([A-Za-z_][\w-]{0,127})(?=\s{0,20}:)', re.S)


def find_leaked_calls(text: str, tools: Iterable[Tool]) -> tuple[ToolCall, ...]:
    """Return the calls of `tools` written into `text`, in order; ids are `leaked_0`, `leaked_1` …

    Known forms: `<tool_call>` with or without its end, `<function=name>` with `<parameter=…>`,
    JSON objects or arrays that name a tool and carry its arguments (bare, fenced or in prose),
    `call:name{…}`, `[name]{…}` and `[TOOL_CALLS]`. `raw_arguments` is the text as written, which
    may be broken off.
    """
    declared = {tool.name: tool for tool in tools if tool.name}
    if not declared or not any(name in text for name in declared):
        return ()
    return tuple(
        ToolCall(id=f"leaked_{number}", name=name, raw_arguments=arguments)
        for number, (name, arguments) in enumerate(_Search(text, declared).run())
    )


class _Search:
    """One pass over a text, from anchor to anchor."""

    def __init__(self, text: str, declared: dict[str, Tool]) -> None:
        self._text = text
        self._declared = declared
        self._budget = _WORK_PER_CHARACTER * len(text) + _LONGEST_CALL
        self._calls: list[tuple[str, str]] = []
        names = "|".join(re.escape(name) for name in sorted(declared, key=len, reverse=True))
        # `{` and `[` count only before what may begin a call, so code and prose cost nothing.
        self._anchor = re.compile(
            r"(?P<tag><tool_call>)"
            rf"|<function=(?P<function>{names})\s{{0,20}}>"
            rf"|(?:\[TOOL_CALLS\]|\bcall:|\[)\s{{0,20}}(?P<named>{names})"
            r"(?:\[CALL_ID\][^\[\]{}]{0,128})?(?:\[ARGS\]|\])?\s{0,20}(?=\{)"
            r'|(?P<json>\{\s{0,200}"|\[\s{0,200}\{)'
        )

    def run(self) -> list[tuple[str, str]]:
        position = 0
        while len(self._calls) < _MOST_CALLS and self._budget > 0:
            anchor = self._anchor.search(self._text, position)
            if anchor is None:
                break
            position = max(self._take(anchor), anchor.start() + 1)
        return self._calls[:_MOST_CALLS]

    def _take(self, anchor: re.Match[str]) -> int:
        if anchor["function"]:
            return self._function(anchor["function"], anchor.end())
        if anchor["named"]:
            return self._named(anchor["named"], anchor.end())
        if anchor["tag"]:
            return self._tagged(anchor.end())
        end, value = self._json(anchor.start())
        self._calls.extend(_calls_in(value, self._declared))
        return end

    def _json(self, start: int) -> tuple[int, Any]:
        """Return where the JSON value at `start` ends, and the value (None when it is none)."""
        end = jsontext.Nesting().feed(self._text, start, start + _LONGEST_CALL)
        self._budget -= (end or min(len(self._text), start + _LONGEST_CALL)) - start
        if end is None:
            return start + 1, None
        try:
            return end, jsontext.parse(self._text[start:end])[0]
        except ValueError:
            return start + 1, None

    def _tagged(self, start: int) -> int:
        """Read what follows `<tool_call>`: one JSON call, or the beginning of one."""
        near = self._text[start : start + 200]
        begin = start + len(near) - len(near.lstrip())
        if not self._text.startswith(("{", "["), begin):
            return begin
        end, value = self._json(begin)
        if value is not None:
            self._calls.extend(_calls_in(value, self._declared, tagged=True))
            return end
        stop = self._text.find("<", begin, begin + _LONGEST_CALL)
        stop = min(len(self._text), begin + _LONGEST_CALL) if stop < 0 else stop
        self._budget -= stop - begin
        self._broken(self._text[begin:stop].rstrip())
        return stop

    def _broken(self, body: str) -> None:
        name = _LOOSE_NAME.search(body)
        if name and name[1] in self._declared:
            arguments = _LOOSE_ARGUMENTS.search(body)
            self._calls.append((name[1], body[arguments.end() :] if arguments else ""))

    def _named(self, name: str, start: int) -> int:
        """Read the arguments that follow a bare name; keys and strings may be written loosely."""
        limit = min(len(self._text), start + _LONGEST_CALL)
        end = jsontext.Nesting().feed(self._text, start, limit)
        self._budget -= (end or limit) - start
        written = self._text[start : end or limit]
        self._calls.append((name, _strict_arguments(written)))
        return end or limit

    def _function(self, name: str, start: int) -> int:
        limit = min(len(self._text), start + _LONGEST_CALL)
        ends = [self._text.find(mark, start, limit) for mark in ("</function>", "<function=")]
        end = min((found for found in ends if found >= 0), default=limit)
        self._budget -= (limit if min(ends) < 0 else end) - start
        values = _parameters(self._text[start:end], self._declared[name])
        self._calls.append((name, jsontext.dumps(values)))
        return end


def _calls_in(
    value: Any, declared: dict[str, Tool], *, tagged: bool = False
) -> list[tuple[str, str]]:
    """Return the calls that `value` is: one object, an array of them, or either in a wrapper."""
    if isinstance(value, list):
        each = [_calls_in(item, declared, tagged=tagged) for item in value[:_MOST_CALLS]]
        return [call for calls in each for call in calls] if all(each) else []
    if not isinstance(value, dict):
        return []
    for wrapper in _WRAPPERS:
        if isinstance(value.get(wrapper), dict | list):
            return _calls_in(value[wrapper], declared)
    name = next((value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)), "")
    if name not in declared or "description" in value:
        return []
    key = next((key for key in _ARGUMENT_KEYS if key in value), None)
    if key is None:
        return [(name, "{}")] if tagged else []
    arguments = value[key]
    if isinstance(arguments, str):
        return [(name, arguments)] if arguments.lstrip().startswith("{") else []
    if not isinstance(arguments, dict) or _is_schema(arguments, declared[name]):
        return []
    return [(name, jsontext.dumps(arguments))]


def _is_schema(arguments: dict[str, Any], tool: Tool) -> bool:
    """Return True when a model repeated the declaration of the tool instead of calling it."""
    own = tool.parameters.get("properties")
    declared = own if isinstance(own, dict) else {}
    return (
        arguments.get("type") == "object"
        and "properties" in arguments
        and ("properties" not in declared)
    )


def _strict_arguments(written: str) -> str:
    """Return loosely written arguments as JSON when that is possible, as written when not."""
    strict = _BARE_KEY.sub(
        lambda match: f'"{match[1]}"' if match[1] else match[0], written.replace('<|"|>', '"')
    )
    try:
        jsontext.parse(strict)
    except ValueError:
        return written
    return strict


def _parameters(body: str, tool: Tool) -> dict[str, Any]:
    """Return the `<parameter=key>value</parameter>` pairs; values get their declared type."""
    properties = tool.parameters.get("properties")
    values: dict[str, Any] = {}
    for part in body.split("<parameter=")[1:]:
        key, closed, rest = part.partition(">")
        if closed:
            text = rest.partition("</parameter>")[0].removeprefix("\n").removesuffix("\n")
            kind = properties.get(key.strip()) if isinstance(properties, dict) else None
            values[key.strip()] = _typed(text, kind)
    return values


def _typed(text: str, kind: Any) -> Any:
    if isinstance(kind, dict) and kind.get("type") == "string":
        return text
    try:
        return jsontext.parse(text)[0]
    except ValueError:
        return text

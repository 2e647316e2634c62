"""How answers are judged: by value, never by wording.

Each judge forgives what does not matter (`6,417.` for 6417, `VELMORA` for Velmora) and nothing
else. What a model wrote is untrusted: every function here is linear in it and never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_agentlimit import ToolCall

_TAIL = 2000
_DEEPEST = 16
_SEPARATORS = ",'_\u202f\u00a0"
_NUMBER = re.compile(rf"(?:(?<!\w)-)?(?:\d{{1,3}}(?:[{_SEPARATORS}]\d{{3}})+(?!\d)|\d+)(?:\.\d+)?")


def last_number(text: str) -> float | None:
    """Return the last number in `text`, or None; the last, because people show their working.

    `6417`, `6,417.`, `**6417**`, `6417.0` and `6000 + 417 = 6417` all give 6417.
    """
    found = _NUMBER.findall(text[-_TAIL:])
    if not found:
        return None
    value = float(re.sub(f"[{_SEPARATORS}]", "", found[-1]))
    return int(value) if value.is_integer() else value


def folded(value: Any, depth: int = 0) -> Any:
    """Return `value` with its strings lower-cased and their white space folded.

    Truth values become `True` and `False` as words, which no folded string can be: Python holds
    `True == 1` and JSON does not. Values nested deeper than any task asks for are cut off.
    """
    if depth > _DEEPEST:
        return None
    if isinstance(value, str):
        return " ".join(value.split()).casefold()
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, Mapping):
        return {key: folded(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [folded(item, depth + 1) for item in value]
    return value


def in_order(calls: Iterable[ToolCall]) -> list[tuple[str, Any]]:
    """Return the (name, arguments) of `calls` in the order they were made."""
    return [(call.name, folded(call.arguments)) for call in calls]


def in_any_order(calls: Iterable[ToolCall]) -> list[tuple[str, Any]]:
    """Return the (name, arguments) of `calls` sorted: equal lists mean equal multisets."""
    return sorted(in_order(calls), key=repr)


def asks(text: str) -> bool:
    """Return whether `text` puts a question: it holds a question mark of any script."""
    return any(mark in text for mark in "?？؟")


def schema_problem(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return the first violation of a JSON schema with its path, or None when `value` fits."""
    from jsonschema import Draft202012Validator

    try:
        first = next(iter(Draft202012Validator(schema).iter_errors(value)), None)
    except RecursionError:
        return "$: nested too deeply"
    return None if first is None else f"{first.json_path}: {first.message}"

"""JSON from strangers: parsed without surprises, and followed fragment by fragment.

Imports nothing of this room, so that `messages.py` can use it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic_core import from_json, to_json

MAX_DEPTH = 200
"""Values nested deeper are refused: they would break whatever walks them later. (In `parse`, an
empty list or object may be one level below.)"""

_LONE = re.compile("[\ud800-\udfff]")
_PLAIN_MARK = re.compile(r'["{}\[\]]')
_STRING_MARK = re.compile(r'["\\]')


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_LENIENT = json.JSONDecoder()
_STRICT = json.JSONDecoder(parse_constant=_refuse)
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def parse(text: str, *, strict: bool = False) -> tuple[Any, bool]:
    """Return the value of `text`, and whether lone surrogates in it were replaced.

    `strict` refuses NaN and Infinity. Raises ValueError for everything that is no JSON, for values
    nested deeper than MAX_DEPTH and for integers Python will not read.
    """
    try:
        # Reads what json reads, in half the time, down to the same depth. What it refuses is looked
        # at below, where surrogates are replaced and the reasons are the standard library's.
        return from_json(text, allow_inf_nan=not strict), False
    except ValueError:
        pass
    try:
        value = (_STRICT if strict else _LENIENT).decode(text)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    _refuse_depth(value)
    return scrub(value)


def scrub(value: Any) -> tuple[Any, bool]:
    """Return `value` with lone surrogates replaced by U+FFFD, and whether there were any.

    Raises ValueError for values nested deeper than MAX_DEPTH.
    """
    _refuse_depth(value)
    if _is_clean(value):
        return value, False
    seen: list[bool] = []
    return _scrubbed(value, seen, MAX_DEPTH), bool(seen)


def _is_clean(value: Any) -> bool:
    """Return True when no text in `value` has a lone surrogate: UTF-8 has no place for one."""
    try:
        to_json(value)
    except ValueError:
        return False  # or no plain JSON, so every text in it is looked at
    return True


def _refuse_depth(value: Any) -> None:
    """Raise ValueError for a value nested deeper than MAX_DEPTH."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"JSON nested deeper than {MAX_DEPTH} levels")


def _scrubbed(value: Any, seen: list[bool], room: int) -> Any:
    if isinstance(value, str):
        if value.isascii():  # known without a search, and most of a request is
            return value
        clean = _LONE.sub("\ufffd", value)
        if clean != value:
            seen.append(True)
        return clean
    if not isinstance(value, (dict, list)):
        return value
    if not room:
        raise ValueError(f"JSON nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list):
        return [_scrubbed(item, seen, room - 1) for item in value]
    return {
        _scrubbed(key, seen, room - 1): _scrubbed(item, seen, room - 1)
        for key, item in value.items()
    }


def dumps(value: Any) -> str:
    """Return `value` as compact JSON text, as every codec of this room writes arguments."""
    return _COMPACT.encode(value)


def wire(value: Any) -> bytes:
    """Return `value` as compact JSON in UTF-8; a lone surrogate goes out as its JSON escape."""
    try:
        return to_json(value)
    except ValueError:
        return dumps(value).encode("utf-8", "backslashreplace")


class Nesting:
    """Follows the brackets of one JSON object or array over any split of its text.

    Strings are respected; nothing else of the syntax is checked. Linear in the text.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._opened = False

    @property
    def complete(self) -> bool:
        """True once everything that was opened is closed again."""
        return self._opened and not self.open

    @property
    def open(self) -> bool:
        """True while a bracket or a string waits for its end."""
        return self._depth > 0 or self._in_string

    def feed(self, text: str, start: int = 0, stop: int | None = None) -> int | None:
        """Return the position after the bracket that closes the value, None when still open."""
        stop = len(text) if stop is None else min(stop, len(text))
        while start < stop:
            if self._escaped:
                self._escaped = False
                start += 1
                continue
            mark = (_STRING_MARK if self._in_string else _PLAIN_MARK).search(text, start, stop)
            if mark is None:
                return None
            start = mark.end()
            if self._step(mark.group()):
                return start
        return None

    def _step(self, mark: str) -> bool:
        if self._in_string:
            self._escaped = mark == "\\"
            self._in_string = mark == "\\"
            return False
        if mark == '"':
            self._in_string = True
            return False
        self._opened = True
        self._depth += 1 if mark in "{[" else -1
        return self._depth <= 0

"""What a program says at its end, read from its output: untrusted text, never an exception."""

from __future__ import annotations

import itertools
import re
from typing import Any, NamedTuple

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.text import printable

from .spec import Output

TEXT_LIMIT = 20_000
"""Characters of what is kept of a program's words."""
_OPENING = re.compile(r"^\s{0,20}[\[{]", re.MULTILINE)
_MOST_STARTS = 20


class Said(NamedTuple):
    """Its last words, and whether it says that it failed (None: it does not say)."""

    text: str
    failed: bool | None


def read_output(stdout: str, output: Output) -> Said:
    """Return what the program said in the form of `output`; nothing when it has another form."""
    if output.form == "text":
        return Said(printable(stdout.strip(), TEXT_LIMIT), None)
    item = _item(stdout, output)
    if item is None:
        return Said("", None)
    text = _text(_at(item, output.text)) if output.text else ""
    failed = bool(_at(item, output.error)) if output.error else None
    return Said(printable(text.strip(), TEXT_LIMIT), failed)


def _item(stdout: str, output: Output) -> Any:
    """Return the last item with the wanted values, None when there is none."""
    if output.form == "jsonl":
        items = [_parsed(line) for line in stdout.splitlines()]
    else:
        whole = _json_in(stdout)
        items = whole if isinstance(whole, list) else [whole]
    wanted = output.where.items()
    fitting = (
        item
        for item in reversed(items)
        if isinstance(item, dict | list) and all(_at(item, key) == value for key, value in wanted)
    )
    return next(fitting, None)


def _json_in(stdout: str) -> Any:
    """Return the value that goes from the beginning of a line to the end: warnings come before."""
    starts = (match.start() for match in _OPENING.finditer(stdout))
    values = (_parsed(stdout[start:]) for start in itertools.islice(starts, _MOST_STARTS))
    return next((value for value in values if value is not None), None)


def _parsed(text: str) -> Any:
    try:
        return jsontext.parse(text.strip())[0]
    except ValueError:
        return None


def _at(value: Any, path: str) -> Any:
    """Return what lies at a dotted path, None when nothing does."""
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.removeprefix("-").isdecimal():
            place = int(part[:9])
            value = value[place] if -len(value) <= place < len(value) else None
        else:
            return None
    return value


def _text(value: Any) -> str:
    """Return a string, or the texts of a list of content parts, joined."""
    if isinstance(value, list):
        parts = (part.get("text") for part in value if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) else ""

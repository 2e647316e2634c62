"""The inside of one JSON string, decoded as it comes."""

from __future__ import annotations

import json
import re
from typing import Literal

_HIGH = r"\\u[dD][89abAB][0-9a-fA-F]{2}"
# What can be decoded by itself. A first half of a surrogate pair waits for what follows it.
_UNITS = re.compile(
    r'(?:[^"\\\x00-\x1f]++'
    r'|\\["\\/bfnrt]'
    r"|\\u(?![dD][89abAB])[0-9a-fA-F]{4}"
    rf"|{_HIGH}\\u[dD][c-fC-F][0-9a-fA-F]{{2}}"
    rf"|{_HIGH}(?=[^\\]|\\[^u]|\\u[^dD]|\\u[dD][^c-fC-F]))*+"
)
# What may still become such a unit.
_BEGUN = re.compile(
    rf"\\(?:u[0-9a-fA-F]{{0,3}})?|{_HIGH}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?"
)
_LONE = re.compile("[\ud800-\udfff]")


class JsonString:
    """Decodes the text after an opening quote; any split of it gives the same.

    `rest` is what follows the closing quote once the state is `closed`, and the text from the
    first fault on once it is `broken`; nothing is read after either.
    """

    def __init__(self) -> None:
        self.state: Literal["open", "closed", "broken"] = "open"
        self.rest = ""
        self.pending = ""
        """The beginning of an escape, as written."""
        self.lone = False
        """Half a surrogate pair was replaced."""

    def feed(self, text: str) -> str:
        """Return what `text` adds to the string."""
        raw = self.pending + text
        match = _UNITS.match(raw)
        end = match.end() if match else 0
        self.pending = raw[end:]
        if self.pending.startswith('"'):
            self.state, self.rest, self.pending = "closed", self.pending[1:], ""
        elif self.pending and not _BEGUN.fullmatch(self.pending):
            self.state, self.rest, self.pending = "broken", self.pending, ""
        decoded: str = json.loads(f'"{raw[:end]}"')
        whole = _LONE.sub("\ufffd", decoded)
        self.lone = self.lone or whole != decoded
        return whole

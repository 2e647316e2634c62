"""Text measured in the cells of a terminal: width, cutting, padding and wrapping."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_ASCII = str.maketrans(
    {"·": ",", "–": "-", "—": "-", "×": "x", "≥": ">=", "≤": "<=", "…": "~", "−": "-", "→": "->"}
)


def ascii_only(text: str) -> str:
    """Return `text` for a terminal that cannot show more than ASCII; the rest as escapes."""
    plain = text.replace(" · ", ", ").replace(" … ", " ... ").translate(_ASCII)
    return plain.encode("ascii", "backslashreplace").decode("ascii")


def cell_width(text: str) -> int:
    """Return how many cells `text` takes: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def cut(text: str, width: int) -> str:
    """Return `text` in at most `width` cells; an ellipsis shows that something is missing."""
    if cell_width(text) <= width:
        return text
    kept, used = "", 1
    for char in text:
        used += _cells(char)
        if used > width:
            break
        kept += char
    return kept.rstrip() + "…" if width > 0 else ""


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return `text` cut or filled to exactly `width` cells, at the left unless `right`."""
    shown = cut(text, width)
    space = " " * (width - cell_width(shown))
    return space + shown if right else shown + space


def wrap(parts: Iterable[str], width: int, separator: str = " · ") -> list[str]:
    """Return the parts joined by the separator, in lines of at most `width` cells.

    A line breaks between parts where it can, and inside a part only when that has to be.
    """
    lines = [""]
    for part in parts:
        joined = lines[-1] + separator + part if lines[-1] else part
        if cell_width(joined) <= width:
            lines[-1] = joined
            continue
        lines += _words(part, width)
    return [line for line in lines if line]


def _words(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_width(joined) <= width:
            lines[-1] = joined
        else:
            lines += _pieces(word, width)
    return lines


def _pieces(word: str, width: int) -> list[str]:
    """Return a word in pieces that fit: a long node id is broken and never lost."""
    pieces = [""]
    for char in word:
        if cell_width(pieces[-1] + char) > width:
            pieces.append("")
        pieces[-1] += char
    return pieces


def _cells(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1

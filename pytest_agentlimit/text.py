"""Untrusted text made safe to print: terminals, Markdown and one-line messages.

Model output, tool arguments and server errors pass through here before anyone sees them.
"""

from __future__ import annotations

import re

ELLIPSIS = " … "
# C0 and C1 controls (but tab and newline), the escape that starts every terminal sequence among
# them, lone surrogates, and the bidirectional overrides that can make text read as another text.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff]"
)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~&$@:])")


def printable(text: str, limit: int = 2000) -> str:
    """Return `text` with every control character shown as an escape, at most `limit` characters.

    The middle is cut, since both ends of a reply carry the evidence. The result encodes to UTF-8.
    """
    shown = _UNPRINTABLE.sub(_escaped, text[: 4 * limit] if len(text) > 8 * limit else text)
    if len(text) > 8 * limit:
        shown += _UNPRINTABLE.sub(_escaped, text[-4 * limit :])
    if len(shown) <= limit:
        return shown
    half = (limit - len(ELLIPSIS)) // 2
    return shown[:half] + ELLIPSIS + shown[len(shown) - half :]


def one_line(text: str, limit: int = 200) -> str:
    """Return `text` printable, on one line, with runs of white space folded."""
    return printable(" ".join(text[: 16 * limit].split()), limit)


def markdown(text: str, limit: int = 200) -> str:
    """Return `text` as one line that renders literally in Markdown, tables and HTML included."""
    return _MARKDOWN.sub(r"\\\1", one_line(text, limit)).replace("\\<", "&lt;").replace("\\>", "&gt;")


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

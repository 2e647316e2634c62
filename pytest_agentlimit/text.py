"""Untrusted text made safe to print: terminals, Markdown and one-line messages.

Model output, tool arguments and server errors pass through here before anyone sees them.
"""

from __future__ import annotations

import re

ELLIPSIS = " … "
# C0 and C1 controls (but tab and newline), the escape that starts every terminal sequence among
# them; lone surrogates, which no file can hold; the bidirectional and the invisible characters,
# which make text read as another text. The joiners that scripts and emoji need (200c, 200d) stay.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")

# The runner takes `::command` at the start of a line, and its older `##[command]` anywhere in one
# (actions/runner, src/Runner.Common/ActionCommand.cs).
_COMMAND = re.compile(r"^([^\S\n]*):(?=:)|##(?=\[)", re.MULTILINE)

_WORD_JOINER = "\u2060"
_MARKDOWN = str.maketrans(
    {
        # Entities where a renderer may look before it honours a backslash: HTML and table cells.
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        "|": "&#124;",
        **{char: "\\" + char for char in "\\`*_{}[]#~$^"},
        "@": "@" + _WORD_JOINER,
    }
)
# GitHub turns these into links and pictures after Markdown is rendered, when no backslash is left
# to see: @user, user@host, #1, GH-1, http://, www., :emoji:. An invisible word joiner breaks each;
# it stands nowhere else, because a node id that was copied from a report must still work.
_AFTER = re.compile(
    r"(?<=#)(?=\w)|(?<=:)(?=//)|(?<=(?<!:):)(?=[\w+-]+:(?!:))|(?<=GH)(?=-\d)|(?<=www)(?=\.)", re.I
)
# What starts a list, a heading or a table when it stands first; the rest is escaped anywhere.
_BLOCK = re.compile(r"^(\d{1,9}(?=[.)](?: |$))|(?=[-+=:]))")
_BACKTICKS = re.compile(r"`+")


def escape_controls(text: str) -> str:
    """Return `text`, whole, with every control character but tab and newline as an escape.

    The result encodes to UTF-8 and cannot drive a terminal. Use `printable` to bound it as well.
    """
    return _UNPRINTABLE.sub(_escaped, text)


def escape_surrogates(text: str) -> str:
    """Return `text` with lone surrogates as escapes, so that it encodes to UTF-8."""
    return _SURROGATE.sub(_escaped, text)


def without_commands(text: str) -> str:
    """Return `text` with a backslash in what a GitHub Actions runner would take as a command.

    For logs of such a runner only: everything that is printed there is read for commands.
    """
    return _COMMAND.sub(lambda match: f"{match[1]}:\\" if match[1] is not None else "##\\", text)


def printable(text: str, limit: int = 2000) -> str:
    """Return `text` with every control character shown as an escape, at most `limit` characters.

    The middle is cut, since both ends of a reply carry the evidence. The result encodes to UTF-8.
    """
    return _bounded(escape_controls(_ends(text, 4 * limit)), limit)


def one_line(text: str, limit: int = 200) -> str:
    """Return `text` printable, on one line, with runs of white space folded."""
    return printable(" ".join(_ends(text, 8 * limit).split()), limit)


def markdown(text: str, limit: int = 200) -> str:
    """Return `text` as one line that renders literally in Markdown, tables and HTML included.

    It starts no block, no link, no image, no mention. The limit holds for what is rendered.
    """
    shown = _AFTER.sub(_WORD_JOINER, one_line(text, limit)).translate(_MARKDOWN)
    return _BLOCK.sub(r"\1\\", shown)


def markdown_code(text: str, limit: int = 200) -> str:
    """Return `text` as one line of Markdown code, for what a model wrote; not for table cells.

    The fence is longer than any run of backticks inside, so the text cannot end it.
    """
    shown = one_line(text, limit) or " "
    fence = "`" * (1 + max((len(run) for run in _BACKTICKS.findall(shown)), default=0))
    edge = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{edge}{shown}{edge}{fence}"


def _ends(text: str, keep: int) -> str:
    """Return enough of a huge text to cut it in the middle later, so that no work is wasted."""
    return text if len(text) <= 2 * keep else text[:keep] + text[len(text) - keep :]


def _bounded(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    if limit <= len(ELLIPSIS):
        return text[: max(0, limit)]
    half = (limit - len(ELLIPSIS)) // 2
    return text[: limit - len(ELLIPSIS) - half] + ELLIPSIS + text[len(text) - half :]


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

"""The summary below the test output: tables and verdicts laid out for a terminal.

Lines come with the markup names of pytest's terminal writer, so that nothing here needs pytest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from pytest_agentlimit.reports.cells import ascii_only, cell_width, cut, pad, wrap
from pytest_agentlimit.reports.facts import Fact, Tone
from pytest_agentlimit.reports.view import CheckRow, GateView, ModelView, RunView

Line = tuple[str, dict[str, bool]]
"""A line without its newline, and markup such as `{"bold": True, "red": True}`."""

WIDEST = 120
"""Beyond this a reader loses the row."""
_NARROWEST = 40
_LABEL = 13
_GAP = "  "
_COLUMNS = (
    # header, field of CheckRow, right-aligned
    ("weight", "weight", True),
    ("trials", "trials", False),
    ("rate, 95 %", "rate", False),
    ("P50", "p50", True),
    ("budget", "budget", True),
    ("blame", "blame", False),
)
_MARKUP: dict[Tone, dict[str, bool]] = {
    "good": {"green": True},
    "bad": {"red": True},
    "odd": {"yellow": True},
    "strong": {"bold": True},
    "plain": {},
}


def terminal_lines(
    view: RunView, width: int = 80, unicode: bool = True, verbose: bool = False
) -> list[Line]:
    """Return the lines to print, none wider than `width` cells.

    `unicode` False keeps to ASCII; `verbose` lists the gate rules that passed as well.
    """
    columns = max(_NARROWEST, min(width, WIDEST))
    lines: list[Line] = []
    shown: RunView = view if unicode else _in_ascii(view)
    for model in shown.models:
        lines += [*_model(model, columns), ("", {})]
    lines += _gate(shown.gate, columns, verbose)
    for note in shown.notes:
        lines += _labelled(Fact("note", (note,), "odd"), columns)
    lines = [(cut(text.rstrip(), width), markup) for text, markup in lines]
    if unicode:
        return lines
    # What was cut ends in an ellipsis; its stand-in is as wide.
    return [(ascii_only(text), markup) for text, markup in lines]


def _in_ascii(value: Any) -> Any:
    """Return a view with every text in ASCII, before anything is measured."""
    if isinstance(value, str):
        return ascii_only(value)
    if isinstance(value, tuple):
        return tuple(map(_in_ascii, value))
    names = [field.name for field in dataclasses.fields(value)]
    return dataclasses.replace(value, **{name: _in_ascii(getattr(value, name)) for name in names})


def _model(model: ModelView, width: int) -> Iterator[Line]:
    for line in wrap((model.name, *model.served), width):
        yield line, {"bold": True}
    if model.rows:
        yield from _table(model.rows, width)
    if model.legend:
        yield model.legend, {}
    yield "", {}
    for fact in model.facts:
        yield from _labelled(fact, width)


def _table(rows: tuple[CheckRow, ...], width: int) -> Iterator[Line]:
    widths = _widths(rows, width)
    yield _row("check", [header for header, _, _ in _COLUMNS], widths), {"bold": True}
    files = list(dict.fromkeys(row.file for row in rows))
    for file in files:
        if len(files) > 1:
            yield file, {}
        for row in rows:
            if row.file == file:
                yield _row(row.name, _fields(row), widths), _MARKUP[row.tone]


def _widths(rows: tuple[CheckRow, ...], width: int) -> list[int]:
    """Return the widths of the columns; the first, the check's name, gets what is left."""
    texts = zip((header for header, _, _ in _COLUMNS), *map(_fields, rows), strict=True)
    widths = [max(map(cell_width, column)) for column in texts]
    left = width - sum(widths) - len(_GAP) * len(widths)
    longest = max(cell_width(row.name) for row in rows)
    return [max(len("check"), min(longest, left)), *widths]


def _row(name: str, texts: list[str], widths: list[int]) -> str:
    shown = [pad(name, widths[0])]
    for (_, _, right), text, width in zip(_COLUMNS, texts, widths[1:], strict=True):
        shown.append(pad(text, width, right=right))
    return _GAP.join(shown)


def _fields(row: CheckRow) -> list[str]:
    return [getattr(row, name) for _, name, _ in _COLUMNS]


def _gate(gate: GateView, width: int, verbose: bool) -> Iterator[Line]:
    for text, _ in _labelled(Fact("gate", (gate.word, gate.comment)), width):
        yield text, _MARKUP[gate.tone] | {"bold": True}
    for rule in gate.rules:
        if verbose or rule.verdict != "pass":
            said = f"{rule.verdict}: {rule.message}"
            yield from _labelled(Fact(f" {rule.name}", (said,), rule.tone), width)


def _labelled(fact: Fact, width: int) -> Iterator[Line]:
    """Yield a fact behind its label, further lines indented under the first."""
    for index, line in enumerate(wrap(fact.parts, width - _LABEL)):
        label = fact.label if index == 0 else ""
        yield f"{label:<{_LABEL}}{line}", _MARKUP[fact.tone]

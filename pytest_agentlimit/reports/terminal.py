"""The summary below the test output: tables and verdicts laid out for a terminal.

Lines come with the markup names of pytest's terminal writer, so that nothing here needs pytest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from pytest_agentlimit.reports.cells import ascii_only, cell_width, cut, pad, wrap
from pytest_agentlimit.reports.facts import Fact, Tone
from pytest_agentlimit.reports.head_to_head import HeadToHead, SideTable
from pytest_agentlimit.reports.view import CheckRow, GateView, ModelView, RunView

Line = tuple[str, dict[str, bool]]
"""A line without its newline, and markup such as `{"bold": True, "red": True}`."""

WIDEST = 120
"""Beyond this a reader loses the row."""
_NARROWEST = 40
_NARROWEST_NAME = 16
"""A table that leaves less than this for the names of checks is split."""
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

    `unicode` False keeps to ASCII; `verbose` lists the gate rules that passed and the levels
    of ladders as well.
    """
    columns = max(_NARROWEST, min(width, WIDEST))
    lines: list[Line] = []
    shown: RunView = view if unicode else _in_ascii(view)
    for fact in shown.audit:
        lines += _labelled(fact, columns)
    for model in shown.models:
        lines += [*_model(model, columns, verbose), ("", {})]
    for section in shown.head_to_head:
        lines += [*_head_to_head(section, columns), ("", {})]
    if not shown.audit:
        lines += _gate(shown.gate, columns, verbose)
    for note in shown.notes:
        lines += _labelled(Fact("note", (note,), "odd"), columns)
    return _fitted(lines, width, unicode)


def comparison_lines(view: HeadToHead, width: int = 80, unicode: bool = True) -> list[Line]:
    """Return a comparison alone, laid out as in the summary of a run."""
    shown: HeadToHead = view if unicode else _in_ascii(view)
    columns = max(_NARROWEST, min(width, WIDEST))
    return _fitted(list(_head_to_head(shown, columns)), width, unicode)


def _fitted(lines: list[Line], width: int, unicode: bool) -> list[Line]:
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


def _model(model: ModelView, width: int, verbose: bool) -> Iterator[Line]:
    for line in wrap((model.name, *model.served), width):
        yield line, {"bold": True}
    if model.rows:
        yield from _table(model.rows, width)
    if model.legend:
        yield model.legend, {}
    yield "", {}
    for ladders in model.ladders:
        yield from _side_table(ladders.table, _side_widths(ladders.table, width)[0])
        yield "", {}
    for fact in model.facts:
        yield from _labelled(fact, width)
    for ladders in model.ladders:
        for fact in (*ladders.facts, *(ladders.levels if verbose else ())):
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


def _head_to_head(view: HeadToHead, width: int) -> Iterator[Line]:
    """Yield one table of all models where it fits, else one for each pair."""
    widths, fits = _side_widths(view.table, width)
    once = fits or len(view.pairs) == 1
    if once:
        yield from _heading(view.title, width)
        yield from _side_table(view.table, widths)
    for pair in view.pairs:
        if len(view.pairs) > 1:
            if once or pair != view.pairs[0]:
                yield "", {}
            yield from _heading(pair.title, width)
        if not once:
            yield from _side_table(pair.table, _side_widths(pair.table, width)[0])
        yield "", {}
        for fact in (*pair.facts, *(view.caveats if pair is view.pairs[-1] else ())):
            yield from _labelled(fact, width)


def _heading(text: str, width: int) -> Iterator[Line]:
    for line in wrap((text,), width):
        yield line, {"bold": True}


def _side_table(table: SideTable, widths: list[int]) -> Iterator[Line]:
    def laid_out(texts: Iterable[str]) -> str:
        cells = zip(texts, widths, table.columns, strict=True)
        return _GAP.join(pad(text, size, right=of.align == "right") for text, size, of in cells)

    yield laid_out(column.header for column in table.columns), {"bold": True}
    files = list(dict.fromkeys(row.file for row in table.rows))
    for file in files:
        if len(files) > 1:
            yield file, {}
        for row in table.rows:
            if row.file == file:
                yield laid_out(row.texts), {}


def _side_widths(table: SideTable, width: int) -> tuple[list[int], bool]:
    """Return the widths of the columns, and whether enough is left for the first, the names."""
    texts = [tuple(column.header for column in table.columns), *(row.texts for row in table.rows)]
    longest, *widths = (max(map(cell_width, column)) for column in zip(*texts, strict=True))
    left = width - sum(widths) - len(_GAP) * len(widths)
    fits = left >= min(longest, _NARROWEST_NAME)
    return [max(len("check"), min(longest, left)), *widths], fits


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

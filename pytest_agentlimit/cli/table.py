"""Rows for people: a table on a terminal, one aligned line each in pipes and logs."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print `rows`; the headers only on a terminal, so that pipes get nothing but rows."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        from rich.table import Table
        from rich.text import Text

        table = Table(*headers, box=None, pad_edge=False)
        table.columns[0].no_wrap = True
        for row in rows:
            # Text, because a model's name may look like markup.
            table.add_row(*map(Text, row))
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())

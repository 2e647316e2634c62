"""`agentlimit report`: what a run said at its end, in any format, as often as you like."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from pytest_agentlimit.reports.render import FinishedRun
    from pytest_agentlimit.reports.terminal import Line
    from pytest_agentlimit.runs.records import RunData

RUN_HELP = "latest, the id of a run or its beginning, or the folder of a run."
KIND_HELP = "term, json, markdown, junit or github."
_NARROW = 40
"""Below this a terminal's width is not believed, as in pytest."""

Run = Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)]
Kind = Annotated[str, typer.Option("--as", metavar="TYPE", help=KIND_HELP)]


def report(
    run: Run = "latest",
    kind: Kind = "term",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write to this file instead."),
    ] = None,
) -> None:
    """Print the report of a run again, or write it to a file; nothing is asked of any model."""
    require_kind(kind)
    from pytest_agentlimit.reports.render import FinishedRun

    opened = open_run(run)
    finished = FinishedRun(opened.data)
    if out is not None:
        write(finished, kind, out)
    else:
        show(finished, kind, opened.path)


class OpenedRun(NamedTuple):
    """A run and where it lies."""

    path: Path
    data: RunData


def open_run(text: str) -> OpenedRun:
    """Return the run that `text` names in the project of the working directory.

    Raises UsageProblem when there is none, or it cannot be understood.
    """
    from pytest_agentlimit.runs.journal import RunFolder
    from pytest_agentlimit.runs.store import find_run, project_root

    path = find_run(text, project_root(Path.cwd()))
    return OpenedRun(path, RunFolder.open(path).load())


def require_kind(kind: str) -> None:
    """Raise UsageProblem, naming the nearest, when there is no such report."""
    import difflib

    from pytest_agentlimit.errors import UsageProblem
    from pytest_agentlimit.reports.writing import KINDS
    from pytest_agentlimit.text import one_line

    if kind in KINDS:
        return
    near = difflib.get_close_matches(kind.lower(), KINDS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageProblem(
        f"--as: there is no report type {one_line(kind)!r}; {hint}The types are {', '.join(KINDS)}"
    )


def show(run: FinishedRun, kind: str, path: Path | None = None) -> None:
    """Print a report: `term` as wide as the terminal, the others as they would be written.

    `path` is where the run is kept, for the last line of the `term` report.
    """
    from pytest_agentlimit.reports.render import can_show, render
    from pytest_agentlimit.reports.terminal import terminal_lines

    if kind != "term":
        typer.echo(render(kind, run).encode(), nl=False)
        return
    unicode = can_show(getattr(sys.stdout, "encoding", None))
    print_lines(terminal_lines(run.view, width=terminal_width(), unicode=unicode))
    if path is not None:
        typer.echo(f"run kept in {near(path)}")


def write(run: FinishedRun, kind: str, out: Path) -> None:
    """Write a report to `out`, whole or not at all, and say where it is."""
    from pytest_agentlimit.reports.render import render
    from pytest_agentlimit.reports.writing import write_report

    path = write_report(kind, out, render(kind, run), option="-o FILE")
    typer.echo(f"report written to {near(path)}")


def print_lines(lines: list[Line]) -> None:
    """Print lines in the colours pytest gives them, on a terminal that takes colours."""
    from pytest_agentlimit.text import without_commands

    on_actions = os.environ.get("GITHUB_ACTIONS") == "true"
    for line, markup in lines:
        text = without_commands(line) if on_actions else line
        colour = next((name for name in ("red", "green", "yellow") if name in markup), None)
        styled = typer.style(text, fg=colour, bold=markup.get("bold"))
        typer.echo(styled if markup else text, color=False if os.environ.get("NO_COLOR") else None)


def terminal_width() -> int:
    """Return how many columns to fill."""
    columns = shutil.get_terminal_size(fallback=(80, 24)).columns
    return columns if columns >= _NARROW else 80


def near(path: Path) -> str:
    """Return a path as it is shortest from here, safe to print."""
    from pytest_agentlimit.text import one_line

    shown = os.path.relpath(path)
    return one_line(str(path) if shown.startswith("..") else shown, 300)

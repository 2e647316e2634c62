"""`agentlimit compare`: two runs, reports or locks side by side, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_agentlimit.cli.report import near, print_lines, terminal_width

if TYPE_CHECKING:
    from pytest_agentlimit.runs.sides import Side

KINDS = ("term", "markdown", "json")
_SIDE = "A run (latest, id, folder), a JSON report or a lock; #MODEL behind it chooses one."


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=_SIDE)],
    b: Annotated[str, typer.Argument(metavar="B", help="The same, to compare A with.")],
    kind: Annotated[
        str, typer.Option("--as", metavar="TYPE", help="term, markdown or json.")
    ] = "term",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write to this file instead."),
    ] = None,
) -> None:
    """Compare A with B: the gap with its interval, the speed, and what can be said of them.

    Exit 1, with what differs, when they did not run the same checks in the same way.
    """
    from pytest_agentlimit.errors import UsageProblem
    from pytest_agentlimit.runs.comparisons import unlike
    from pytest_agentlimit.runs.sources import read_source, two_sides
    from pytest_agentlimit.runs.store import project_root
    from pytest_agentlimit.text import one_line

    if kind not in KINDS:
        raise UsageProblem(f"--as is one of {', '.join(KINDS)}, not {one_line(kind)!r}")
    root = project_root(Path.cwd())
    one, other = two_sides(read_source(a, root), read_source(b, root))
    differences = unlike(one, other)
    if differences:
        raise UsageProblem(
            f"{one_line(one.name, 80)} and {one_line(other.name, 80)} cannot be compared: "
            f"{'; '.join(differences)}. Compare runs of the same checks; weights and budgets can "
            "be made equal with: agentlimit regate"
        )
    _say(one, other, kind, out)


def _say(a: Side, b: Side, kind: str, out: Path | None) -> None:
    from pytest_agentlimit.reports.head_to_head import changed, of_sides
    from pytest_agentlimit.reports.markdown import comparison_markdown
    from pytest_agentlimit.reports.render import can_show
    from pytest_agentlimit.reports.terminal import comparison_lines
    from pytest_agentlimit.reports.writing import write_report
    from pytest_agentlimit.runs.comparisons import compare as compared

    part = compared(a, b)
    view = of_sides([a, b], [part], (changed(a, b),))
    if out is None and kind == "term":
        import sys

        unicode = can_show(getattr(sys.stdout, "encoding", None))
        print_lines(comparison_lines(view, terminal_width(), unicode))
        return
    if kind == "term":
        text = "".join(f"{line}\n" for line, _ in comparison_lines(view))
    elif kind == "markdown":
        text = comparison_markdown(view)
    else:
        from pytest_agentlimit.reports.json_report import comparison_json

        text = comparison_json(part)
    if out is None:
        typer.echo(text.encode(), nl=False)
    else:
        path = write_report(kind, out.expanduser(), text, option="-o FILE")
        typer.echo(f"comparison written to {near(path)}")

"""`agentlimit regate`: a run held against another bar, without a model call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pytest_agentlimit.cli.report import Kind, Run, open_run, require_kind, show, write

if TYPE_CHECKING:
    from pytest_agentlimit.runs.regate import Mode

MODES: tuple[Mode, ...] = ("point", "strict", "proven", "off")


def regate(
    run: Run = "latest",
    min_score: Annotated[
        str | None, typer.Option(metavar="PCT", help="The score to reach, in per cent.")
    ] = None,
    p95: Annotated[
        str | None,
        typer.Option("--p95", metavar="BUDGET", help="within-budget, or one duration such as 6s."),
    ] = None,
    gate: Annotated[
        str | None,
        typer.Option(metavar="|".join(MODES), help="What an inconclusive rule does."),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=N", help="Weight of the checks that fit; the last that fits holds."
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN=6s", help="Latency budget of the checks that fit."),
    ] = None,
    blocker: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="The checks that fit fail the gate when they fail."),
    ] = None,
    kind: Kind = "term",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write this report to a file as well."),
    ] = None,
) -> None:
    """Judge a run again under other weights, budgets and thresholds; exit 1 when it would be red.

    What is not given stays as it was. The run itself is not changed.

    PATTERN is a part of a check's id or short name, or a glob of its id.
    """
    require_kind(kind)
    from pytest_agentlimit.reports.render import FinishedRun
    from pytest_agentlimit.runs.gate import evaluate, is_red
    from pytest_agentlimit.runs.regate import regate as judge_again

    judged = FinishedRun(
        judge_again(
            open_run(run).data,
            min_score=_percentage(min_score),
            p95=_p95(p95),
            mode=_mode(gate),
            weights=_pairs(weight, "--weight", _weight),
            budgets=_pairs(budget, "--budget", _milliseconds),
            blockers=blocker or (),
        )
    )
    show(judged, "term" if out else kind)
    if out is not None:
        write(judged, kind, out)
    settings = judged.data.manifest.gate
    if is_red(evaluate(judged.data, judged.summary.models), settings):
        raise typer.Exit(1)


def _percentage(text: str | None) -> float | None:
    from pytest_agentlimit.errors import UsageProblem
    from pytest_agentlimit.units import percentage

    try:
        return None if text is None else percentage(text, "--min-score")
    except ValueError as error:
        raise UsageProblem(str(error)) from None


def _p95(text: str | None) -> Literal["within-budget"] | float | None:
    from pytest_agentlimit.errors import UsageProblem

    if text is None:
        return None
    if text == "within-budget":
        return "within-budget"
    try:
        return _milliseconds(text)
    except ValueError as error:
        raise UsageProblem(f"--p95: {error} or within-budget") from None


def _mode(text: str | None) -> Mode | None:
    from pytest_agentlimit.errors import UsageProblem
    from pytest_agentlimit.text import one_line

    for mode in MODES:
        if text == mode:
            return mode
    if text is None:
        return None
    raise UsageProblem(f"--gate is one of {', '.join(MODES)}, not {one_line(text)!r}")


def _pairs(given: list[str] | None, option: str, read: Callable[[str], float]) -> dict[str, float]:
    """Return value by pattern, in the order given; a pattern may hold a `=` itself."""
    from pytest_agentlimit.errors import UsageProblem
    from pytest_agentlimit.text import one_line

    found: dict[str, float] = {}
    for text in given or []:
        pattern, equals, value = text.rpartition("=")
        if not equals or not pattern:
            raise UsageProblem(f"{option} takes PATTERN=VALUE, not {one_line(text)!r}")
        try:
            found.pop(pattern, None)
            found[pattern] = read(value)
        except ValueError as error:
            raise UsageProblem(f"{option} {one_line(text)}: {error}") from None
    return found


def _weight(text: str) -> float:
    import math

    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"a weight is a number above 0, not {text!r}")
    return value


def _milliseconds(text: str) -> float:
    from pytest_agentlimit.units import duration_ms

    return duration_ms(text)

"""`agentlimit runs`: the runs of this project, and the way to be rid of old ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import timedelta

    from pytest_agentlimit.runs.schema import ModelPart
    from pytest_agentlimit.runs.store import Pruned, RunRow

SHOWN = 20
"""How many runs are listed unless more are asked for: each is read to the end for its score."""

app = typer.Typer(help="List the runs of this project, newest first.")


@app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="List every run.")] = False,
) -> None:
    """List the runs of this project, newest first: id, start, models, size, score, gate, state."""
    if context.invoked_subcommand is not None:
        return
    from pytest_agentlimit.cli.table import print_table
    from pytest_agentlimit.runs.store import count_runs, list_runs, project_root

    root = project_root(Path.cwd())
    total = count_runs(root)
    if not total:
        typer.echo("no runs here yet: run pytest with --agent-model")
        return
    rows = list_runs(root, None if every else SHOWN)
    print_table(_HEADERS, [_cells(row) for row in rows])
    if len(rows) < total:
        typer.echo(f"the newest {len(rows)} of {total} runs; --all lists every one")


@app.command()
def prune(
    keep: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Keep the newest N runs.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Remove runs older than this, such as 30d or 12h."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove old runs of this project; a run that is being written stays.

    With both --keep and --older-than a run goes only when both let it go.
    """
    from datetime import UTC, datetime

    from pytest_agentlimit.runs import store

    done = store.prune(
        store.project_root(Path.cwd()),
        now=datetime.now(UTC),
        keep=keep,
        older_than=None if older_than is None else _age(older_than),
        dry_run=dry_run,
    )
    _say(done, "would remove" if dry_run else "removed")


_MOST_MODELS = 3
_HEADERS = ("run", "started", "models", "checks × trials", "score", "gate", "state")


def _cells(row: RunRow) -> tuple[str, ...]:
    from pytest_agentlimit.text import one_line

    lines = row.damaged_lines
    state = f"{row.state}, {lines} damaged line{'s' * (lines != 1)}" if lines else row.state
    if row.summary is None:
        return (one_line(row.id, 60), "–", "–", "–", "–", "–", state)
    models = row.summary.models
    return (
        one_line(row.id, 60),
        one_line(row.summary.run.started, 30).removesuffix("+00:00").replace("T", " "),
        _several([one_line(model.name, 40) for model in models], "models") or "none",
        _size(models),
        _several(list(map(_score, models)), "scores") or "not measured",
        _gate(row),
        state,
    )


def _several(texts: list[str], noun: str) -> str:
    """Return the texts in a row, or only how many there are where a row would not be read."""
    return ", ".join(texts) if len(texts) <= _MOST_MODELS else f"{len(texts)} {noun}"


def _gate(row: RunRow) -> str:
    if row.purpose != "score" or row.summary is None:
        return row.purpose  # such a run gates nothing
    return row.summary.gate.verdict.upper() if row.gate_asked else "not asked"


def _size(models: tuple[ModelPart, ...]) -> str:
    """Return "10 × 6", or "10 × 4–6" where checks have different numbers of trials."""
    counts = [sum(check.outcomes.values()) for model in models for check in model.checks]
    checks = {check.id for model in models for check in model.checks}
    if not counts:
        return "no trials"
    few, many = min(counts), max(counts)
    return f"{len(checks)} × {few}" if few == many else f"{len(checks)} × {few}–{many}"


def _score(model: ModelPart) -> str:
    from pytest_agentlimit.reports import numbers

    score = model.score
    if score.value is None or score.low is None or score.high is None:
        return numbers.NOT_MEASURED
    return f"{numbers.percent(score.value)} ({numbers.interval(score.low, score.high)})"


def _age(text: str) -> timedelta:
    from datetime import timedelta

    from pytest_agentlimit.errors import UsageProblem
    from pytest_agentlimit.units import duration_ms

    days = text.strip().removesuffix("d")
    try:
        if days != text.strip():
            return 24 * timedelta(milliseconds=duration_ms(f"{days}h"))
        return timedelta(milliseconds=duration_ms(text))
    except ValueError as error:
        raise UsageProblem(f"--older-than: {error}, or days, such as 30d") from None
    except OverflowError:
        raise UsageProblem("--older-than: no run is that old; give days, such as 30d") from None


def _say(done: Pruned, verb: str) -> None:
    from pytest_agentlimit.errors import AgentLimitError
    from pytest_agentlimit.text import one_line

    for name in done.removed:
        typer.echo(f"{verb} {one_line(name)}")
    for name in done.busy:
        typer.echo(f"kept {one_line(name)}: it is being written")
    if not (done.removed or done.busy or done.failed):
        typer.echo("nothing to remove")
    if done.failed:
        raise AgentLimitError(
            f"could not be removed: {', '.join(done.failed)}. Make the folders writable, or "
            "remove them by hand"
        )

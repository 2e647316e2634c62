"""The `agentlimit` command: one file a verb, and nothing heavy imported before a verb runs."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from pytest_agentlimit import __version__
from pytest_agentlimit.cli import (
    blackout,
    bridge,
    compare,
    doctor,
    fit,
    lock,
    merge,
    models,
    pull,
    regate,
    report,
    runs,
)
from pytest_agentlimit.errors import AgentLimitError

app = typer.Typer(
    name="agentlimit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("pull")(pull.pull)
app.command("models")(models.models)
app.command("doctor")(doctor.doctor)
app.command("fit")(fit.fit)
app.command("bridge")(bridge.bridge)
app.command("drill")(blackout.drill)
app.command("report")(report.report)
app.command("regate")(regate.regate)
app.command("merge")(merge.merge)
app.command("compare")(compare.compare)
app.command("lock")(lock.lock)
app.add_typer(runs.app, name="runs")


def main() -> None:
    """Run the command line. Exits 1 with one message for what cannot work, 2 for wrong usage."""
    # Warnings of the client are for a run's log; unhandled, Python would print them between lines.
    logging.getLogger("agentlimit").addHandler(logging.NullHandler())
    try:
        app()
    except AgentLimitError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pytest-agentlimit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Find where a model breaks as an agent, and prove it."""

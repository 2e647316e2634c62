"""`agentlimit lock`: what a run counted, in a small file for git."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_agentlimit.cli.report import Run, near, open_run

if TYPE_CHECKING:
    from pytest_agentlimit.runs.lock import Lock


def lock(
    run: Run = "latest",
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="The lock (default agentlimit.lock.json)."
        ),
    ] = None,
) -> None:
    """Write what a run counted to a file for git; --agent-baseline holds later models against it.

    The run has to be finished and scored. A file that is no lock is never overwritten.
    """
    from pytest_agentlimit.runs.lock import LOCK_NAME, write_lock
    from pytest_agentlimit.runs.locking import caution, described, lock_of

    data = open_run(run).data
    made = lock_of(data)
    path = (out or Path(LOCK_NAME)).expanduser()
    old = _replaced(path)
    written = write_lock(made, path)
    typer.echo(f"{near(written)}: {described(made, old)}")
    if said := caution(data):
        typer.echo(f"note: {said}")


def _replaced(path: Path) -> Lock | None:
    """Return the lock that is about to be replaced, None when there is none.

    Raises UsageProblem when the file is there and is not a lock that can be read.
    """
    from pytest_agentlimit.errors import UsageProblem
    from pytest_agentlimit.runs.lock import read_lock

    if not path.exists():
        return None
    try:
        return read_lock(path)
    except UsageProblem as error:
        raise UsageProblem(
            f"nothing was written: {near(path)} is there and would be lost. {error}. "
            "Remove it, or name another file with -o"
        ) from None

"""`agentlimit merge`: the shards of a CI run become one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pytest_agentlimit.cli.report import show


def merge(
    shards: Annotated[
        list[str],
        typer.Argument(
            metavar="SHARD",
            help="Runs: ids, folders, or folders that hold the folders of several runs.",
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            "-o",
            metavar="DIR",
            help="The project to keep the merged run in, under .agentlimit/runs; default: here.",
        ),
    ] = None,
) -> None:
    """Make one run of the shards of a run, and print its report.

    A trial that several shards ran counts once; one that none ran is named.

    Runs of different suites, models, seeds or settings are refused.
    """
    from pytest_agentlimit.reports.render import FinishedRun
    from pytest_agentlimit.runs.journal import RunFolder
    from pytest_agentlimit.runs.merge import merge as put_together
    from pytest_agentlimit.runs.merge import write_run
    from pytest_agentlimit.runs.store import find_shards, project_root

    here = project_root(Path.cwd())
    found = {path.resolve(): path for text in shards for path in find_shards(text, here)}
    merged = put_together([RunFolder.open(path).load() for path in found.values()])
    folder = write_run(merged, root or here)
    show(FinishedRun(folder.load()), "term", folder.path)

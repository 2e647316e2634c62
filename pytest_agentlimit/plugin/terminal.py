"""What a run says on the terminal: the models at the top, the verdict at the end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentlimit.reports.render import can_show
from pytest_agentlimit.reports.terminal import terminal_lines
from pytest_agentlimit.text import one_line

from . import github

if TYPE_CHECKING:
    import pytest

    from pytest_agentlimit.endpoints.spec import EndpointSpec
    from pytest_agentlimit.runs.journal import RunFolder

    from .context import RunContext
    from .reporting import FinishedRun


def header_lines(specs: list[EndpointSpec], context: RunContext) -> list[str]:
    """Return a line per model, saying which rule resolved its name, and one with the seed."""
    lines = [
        f"agentlimit: {one_line(spec.name)} = {one_line(_place(spec), 120)} ({spec.source})"
        for spec in specs
    ]
    if context.harness is not None:
        notes = context.harness.spec["notes"]
        there = context.harness.missing or " ".join(["agent.run goes through it.", notes]).strip()
        lines.append(f"agentlimit: harness {context.harness.label}: {one_line(there, 300)}")
    return [*lines, f"agentlimit: seed {context.seed} (repeat with --agent-seed={context.seed})"]


def print_summary(
    reporter: pytest.TerminalReporter, run: FinishedRun, folder: RunFolder, written: list[str]
) -> None:
    """Print the tables, the gate and where everything is kept."""
    writer = reporter._tw  # the public section() and write_line() do not tell the width
    reporter.section("agentlimit", "=", bold=True)
    lines = terminal_lines(
        run.view,
        width=writer.fullwidth,
        unicode=_can_show(writer),
        verbose=reporter.config.get_verbosity() > 0,
    )
    for text, markup in lines:
        reporter.write_line(github.defuse(text), **markup)
    here = Path(reporter.config.invocation_params.dir)
    reporter.write_line(f"run kept in {_near(folder.path, here)}")
    for path in written:
        reporter.write_line(f"report written to {_near(Path(path), here)}")
    for line in reporter.config.stash.get(github.CLOSING, []):
        reporter.write_line(line)


def _place(spec: EndpointSpec) -> str:
    if spec.kind == "embedded":
        return f"llama.cpp with {Path(spec.gguf or spec.model).name}"
    if spec.kind == "null":
        return "a null model, in this process"
    return f"{spec.dialect}+{spec.base_url}#{spec.model}"


def _near(path: Path, here: Path) -> str:
    shown = os.path.relpath(path, here)
    return one_line(str(path) if shown.startswith("..") else shown, 300)


def _can_show(writer: object) -> bool:
    """Return whether the terminal's encoding holds what the tables are drawn with."""
    return can_show(getattr(getattr(writer, "_file", None), "encoding", None))

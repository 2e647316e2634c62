"""What a run does on GitHub Actions: a job summary, annotations, and no commands of a model's.

The environment is read here and nowhere else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_agentlimit.reports.render import FinishedRun

CLOSING = pytest.StashKey[list[str]]()
"""Lines to print below the summary, as they are."""


def on_actions() -> bool:
    """Return whether this process writes to the log of a GitHub Actions step."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def summary_file() -> Path | None:
    """Return the file whose content GitHub shows as the summary of this step, None elsewhere."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    return Path(name) if name else None


def is_offered() -> bool:
    """Return whether the environment takes a job summary, asked for or not."""
    return on_actions() and summary_file() is not None


def append_summary(run: FinishedRun, dest: Path) -> Path:
    """Append the Markdown report to `dest`, what is there kept, and return `dest`.

    Raises AgentLimitError when that cannot be done, also when the summary is full.
    """
    from pytest_agentlimit.errors import AgentLimitError
    from pytest_agentlimit.reports.github import step_summary
    from pytest_agentlimit.reports.writing import append_report

    used = dest.stat().st_size if dest.is_file() else 0
    text = step_summary(run.view, used)
    if not text:
        raise AgentLimitError(
            f"the github report was not written to {dest}: it holds the 1 MiB that GitHub shows "
            "of a step already. Write less in this step, or name a file with "
            "--agent-report=github:FILE; the run itself is kept in its run folder"
        )
    return append_report("github", dest, text)


def commands(run: FinishedRun, root: Path) -> list[str]:
    """Return the annotations of a run as lines for stdout; `root` is pytest's."""
    from pytest_agentlimit.reports.github import workflow_commands

    return workflow_commands(run.view, run.summary, run.data, _in_repository(root))


def defuse(text: str) -> str:
    """Return `text`, on Actions with a backslash in what the runner would take as a command."""
    if not on_actions():
        return text
    from pytest_agentlimit.text import without_commands

    return without_commands(text)


def _in_repository(root: Path) -> str:
    """Return where `root` lies in the checked-out repository, empty when that is not known."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if not workspace:
        return ""
    try:
        return root.resolve().relative_to(Path(workspace).resolve()).as_posix()
    except ValueError:
        return ""

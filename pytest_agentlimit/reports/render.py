"""A finished run as text, one function for every kind of report: at its end and years later."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from pytest_agentlimit.reports.github import step_summary
from pytest_agentlimit.reports.json_report import to_json
from pytest_agentlimit.reports.junit import to_junit
from pytest_agentlimit.reports.markdown import to_markdown
from pytest_agentlimit.reports.terminal import terminal_lines
from pytest_agentlimit.reports.view import RunView, build_view
from pytest_agentlimit.runs.records import RunData
from pytest_agentlimit.runs.schema import RunSummary
from pytest_agentlimit.runs.summary import summarise


class FinishedRun:
    """A run at its end: what was recorded, its summary, and how reports show it."""

    def __init__(self, data: RunData, summary: RunSummary | None = None) -> None:
        self.data = data
        self.summary = summarise(data) if summary is None else summary

    @cached_property
    def view(self) -> RunView:
        """Every number formatted once."""
        return build_view(self.summary, self.data)


def render(kind: str, run: FinishedRun) -> str:
    """Return the report of a kind in `writing.KINDS`, as it is written to a file."""
    return _RENDERERS[kind](run)


def can_show(encoding: str | None) -> bool:
    """Return whether an encoding holds what the tables are drawn with."""
    try:
        "–×·≥≤…−→".encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _term(run: FinishedRun) -> str:
    return "".join(f"{line}\n" for line, _ in terminal_lines(run.view, verbose=True))


_RENDERERS: dict[str, Callable[[FinishedRun], str]] = {
    "term": _term,
    "json": lambda run: to_json(run.summary),
    "markdown": lambda run: to_markdown(run.view),
    "junit": lambda run: to_junit(run.summary, run.data),
    "github": lambda run: step_summary(run.view),
}

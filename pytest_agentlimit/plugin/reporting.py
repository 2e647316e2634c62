"""Report files of a run, with what conftest hooks add to them."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_agentlimit.errors import AgentLimitError
from pytest_agentlimit.reports.json_report import to_json
from pytest_agentlimit.reports.markdown import to_markdown
from pytest_agentlimit.reports.terminal import terminal_lines
from pytest_agentlimit.reports.view import RunView, build_view
from pytest_agentlimit.reports.writing import parse_report_option, write_report

if TYPE_CHECKING:
    import pytest

    from pytest_agentlimit.runs.records import RunData
    from pytest_agentlimit.runs.schema import RunSummary


class FinishedRun:
    """A run at its end: what was recorded, its summary, and how reports show it."""

    def __init__(self, data: RunData, summary: RunSummary) -> None:
        self.data = data
        self.summary = summary

    @cached_property
    def view(self) -> RunView:
        """Every number formatted once."""
        return build_view(self.summary, self.data)


def write_reports(config: pytest.Config, wanted: tuple[str, ...], run: FinishedRun) -> list[str]:
    """Write the report files in `wanted` and return their paths as text.

    Raises AgentLimitError for the first that cannot be written; the others are written all the
    same.
    """
    written, problems = [], []
    for given in wanted:
        request = parse_report_option(given)
        path = request.path(Path(config.invocation_params.dir))
        if path is None:
            continue  # the terminal: printed anyway
        try:
            text = _text(config, request.kind, run)
            written.append(str(write_report(request.kind, path, text)))
        except AgentLimitError as error:
            problems.append(error)
    if problems:
        raise problems[0]
    return written


def _text(config: pytest.Config, kind: str, run: FinishedRun) -> str:
    if kind == "json":
        return _json(config, run)
    if kind == "markdown":
        return to_markdown(run.view)
    return "".join(f"{line}\n" for line, _ in terminal_lines(run.view, verbose=True))


def _json(config: pytest.Config, run: FinishedRun) -> str:
    text = to_json(run.summary)
    hook = config.hook.pytest_agentlimit_update_report
    if not hook.get_hookimpls():
        return text
    report: dict[str, Any] = json.loads(text)
    hook(report=report)
    return json.dumps(report, indent=2) + "\n"

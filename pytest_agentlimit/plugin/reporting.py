"""Report files of a run, with what conftest hooks add to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_agentlimit.errors import AgentLimitError
from pytest_agentlimit.reports.render import FinishedRun as FinishedRun
from pytest_agentlimit.reports.render import render
from pytest_agentlimit.reports.writing import ReportRequest, parse_report_option, write_report

from . import github

if TYPE_CHECKING:
    import pytest


def write_reports(config: pytest.Config, wanted: tuple[str, ...], run: FinishedRun) -> list[str]:
    """Write the report files in `wanted` and return their paths as text.

    Raises AgentLimitError for the first that cannot be written; the others are written all the
    same. On GitHub Actions a `github` report is written unasked; where that fails, it is said.
    """
    written, problems = [], []
    requests = [parse_report_option(given) for given in wanted]
    for request in requests:
        try:
            written += _write(config, request, run)
        except AgentLimitError as error:
            problems.append(error)
    asked = any(request.kind == "github" for request in requests)
    if asked or github.is_offered():
        config.stash[github.CLOSING] = github.commands(run, config.rootpath)
    if not asked and github.is_offered():
        written += _write_unasked(config, run)
    if problems:
        raise problems[0]
    return written


def _write(config: pytest.Config, request: ReportRequest, run: FinishedRun) -> list[str]:
    path = request.path(Path(config.invocation_params.dir))
    if path is None:
        return []  # the terminal: printed anyway
    if request.kind == "github":
        offered = github.summary_file() if request.dest is None else None
        return [str(github.append_summary(run, offered or path))]
    text = render(request.kind, run)
    if request.kind == "json":
        text = _with_hooks(config, text)
    return [str(write_report(request.kind, path, text))]


def _write_unasked(config: pytest.Config, run: FinishedRun) -> list[str]:
    """Write the job summary nobody asked for: a warning is all its failure is worth."""
    try:
        return _write(config, ReportRequest("github"), run)
    except AgentLimitError as error:
        config.stash[github.CLOSING].insert(0, f"warning: {error}")
        return []


def _with_hooks(config: pytest.Config, text: str) -> str:
    """Return the JSON report with what conftest hooks change in it."""
    hook = config.hook.pytest_agentlimit_update_report
    if not hook.get_hookimpls():
        return text
    report: dict[str, Any] = json.loads(text)
    hook(report=report)
    return json.dumps(report, indent=2) + "\n"

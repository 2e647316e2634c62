"""Tracebacks of checks that end at the line of the test: what failed is the model, not our code."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

from pytest_agentlimit.errors import AgentLimitError

_PACKAGE = Path(__file__).parents[1]
_SUITES = _PACKAGE / "example_suites"


def end_at_the_test(call: pytest.CallInfo[Any]) -> None:
    """Leave this package's frames out of the traceback of an error this package raised on purpose.

    Their messages say what happened and what to do. An error that nobody expected keeps every
    frame, and so does every error under `--full-trace`.
    """
    if call.excinfo is None or not isinstance(call.excinfo.value, AgentLimitError):
        return
    for frame, _ in traceback.walk_tb(call.excinfo.tb):
        if _ours(Path(frame.f_code.co_filename)):
            # pytest looks for this name in a frame's locals, then in its module.
            frame.f_globals.setdefault("__tracebackhide__", _on_purpose)


def _on_purpose(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    return isinstance(excinfo.value, AgentLimitError)


def _ours(path: Path) -> bool:
    return path.is_relative_to(_PACKAGE) and not path.is_relative_to(_SUITES)

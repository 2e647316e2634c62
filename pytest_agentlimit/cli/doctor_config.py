"""What the doctor says of an OpenClaw config, before it asks any endpoint."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_agentlimit.endpoints.openclaw_check import CheckedConfig, ConfigFault

_MARKS = {"error": "✗", "warning": "?"}
_INDENT = " " * 6


def checked_config(given: str | None, words: Collection[str]) -> CheckedConfig | None:
    """Return the OpenClaw config and its faults, None when there is none or it has no part in it.

    It has one when it is `given`, when no model is, and when the names, sources or problems of
    models (`words`) begin with it.
    """
    from pytest_agentlimit.endpoints.openclaw import AGENT, PRIMARY
    from pytest_agentlimit.endpoints.openclaw_check import check_file

    config = check_file(given, Path.cwd(), os.environ)
    if config is None or given is not None or not words:
        return config
    starts = (PRIMARY, AGENT, f"{config.file}:", f"OpenClaw config {config.file}")
    return config if any(word.startswith(starts) for word in words) else None


def config_lines(config: CheckedConfig, fix_hints: bool) -> Iterator[str]:
    """Yield the lines of one config: each fault with its place, its name and the next step."""
    from pytest_agentlimit.reports.numbers import count
    from pytest_agentlimit.text import one_line

    yield f"OpenClaw config {one_line(config.file)}"
    for fault in config.faults:
        yield from _fault_lines(fault, fix_hints)
    warnings = len(config.faults) - config.errors
    told = [count(config.errors, "error")] if config.errors else []
    told += [count(warnings, "warning")] if warnings else []
    yield f"  {', '.join(told) or 'no fault seen'}"


def _fault_lines(fault: ConfigFault, fix_hints: bool) -> Iterator[str]:
    from pytest_agentlimit.text import one_line

    place = f"{one_line(fault.path, 300)}: " if fault.path else ""
    included = f" (in {one_line(fault.included)})" if fault.included else ""
    message = one_line(fault.message, 1000)
    yield f"  {_MARKS[fault.severity]} {place}{message}{included} [{fault.code}]"
    if fault.fix is None:
        return
    yield f"{_INDENT}next: {one_line(fault.fix.sentence, 400)}"
    if fix_hints and fault.fix.line:
        yield f"{_INDENT}line: {one_line(fault.fix.line)}"


def config_json(config: CheckedConfig) -> dict[str, Any]:
    """Return one config as plain data, for `--json`."""
    return {
        "file": config.file,
        "faults": [fault.model_dump(mode="json") for fault in config.faults],
    }

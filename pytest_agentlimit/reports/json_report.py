"""The JSON report: schema version 1, for programs and for comparing runs later."""

from __future__ import annotations

import json
import math
from typing import Any

from pytest_agentlimit.runs.schema import ComparisonPart, RunSummary
from pytest_agentlimit.text import escape_surrogates


def to_json(summary: RunSummary) -> str:
    """Return the report as indented JSON with a final newline, in ASCII.

    A latency that never ended is the string "Infinity". Lone surrogates, which a model can make a
    server send, become visible escapes: strict JSON parsers refuse them otherwise.
    """
    # Not model_dump_json: it raises on a lone surrogate.
    return json.dumps(_plain(summary.model_dump(by_alias=True)), indent=2, allow_nan=False) + "\n"


def comparison_json(part: ComparisonPart) -> str:
    """Return one comparison as `to_json` writes it, under the keys it has in a report."""
    found = {"schema_version": 1, "comparisons": [part.model_dump(by_alias=True)]}
    return json.dumps(_plain(found), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return a value of JSON types that any parser takes."""
    if isinstance(value, str):
        return escape_surrogates(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value).replace("inf", "Infinity").replace("nan", "NaN")
    return value

"""What tells one text of a check from the next, so that unlike runs are not compared."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest

GENERATOR_VERSION = "GENERATOR_VERSION"
"""A module of checks may set this; it then stands for the text of every check in the module."""


def check_version(item: pytest.Item) -> str | None:
    """Return the version of the check `item` runs: its module's own, else a hash of its source.

    Blank lines, comment lines and indentation do not count. None when there is no source.
    """
    declared = getattr(getattr(item, "module", None), GENERATOR_VERSION, None)
    if declared is not None:
        return f"generator {declared}"
    function = getattr(item, "function", None)
    return None if function is None else _source_hash(inspect.unwrap(function))


@lru_cache(maxsize=4096)
def _source_hash(function: Callable[..., Any]) -> str | None:
    try:
        lines = inspect.getsource(function).splitlines()
    except (OSError, TypeError):
        return None
    text = "\n".join(line for raw in lines if (line := raw.strip()) and not line.startswith("#"))
    return f"source {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:12]}"

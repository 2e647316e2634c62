"""Speed and statistics against the budgets of the design: measured, printed, never asserted.

A slow machine is not a bug, so a run that misses a budget says so and exits 0.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from budgets import Ledger

T = TypeVar("T")
Sample = Callable[[Callable[[], T], int], list[T]]
LEDGER: pytest.StashKey[Ledger] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEDGER] = Ledger()


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """Where measurements go."""
    return request.config.stash[LEDGER]


@pytest.fixture
def sample(benchmark: Any) -> Sample[Any]:
    """Call something several times under pytest-benchmark; return what each call returned.

    One more call comes first and is forgotten: it fills caches and compiles files.
    """

    def run(once: Callable[[], Any], rounds: int) -> list[Any]:
        returned: list[Any] = []
        benchmark.pedantic(lambda: returned.append(once()), rounds=rounds, warmup_rounds=1)
        return returned[1:]

    return run


@pytest.fixture
def only_our_plugin(tmp_path: Path) -> dict[str, str]:
    """An environment in which pytest loads no installed plugin unless it is named.

    Compiled files are kept as on any machine, and in a folder of the test: without them, the
    compiler would be measured.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled"),
    }


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ledger = terminalreporter.config.stash[LEDGER]
    if not ledger.rows:
        return
    terminalreporter.section("measured against the budgets")
    for line in ledger.lines:
        terminalreporter.write_line(line)
    missed = sum(row.missed for row in ledger.rows)
    judged = sum(row.limit is not None for row in ledger.rows)
    terminalreporter.write_line("")
    terminalreporter.write_line(
        f"{missed} of {judged} budgets missed, Python {sys.version.split()[0]}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )

"""What an installed plugin costs a session that does not use it."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

from budgets import Ledger
from conftest import Sample

TIMED = """
import pytest
from time import perf_counter as clock
start = clock()
import pytest_agentlimit.plugin
print(clock() - start)
"""
PLAIN = "def test_plain():\n    assert 1 + 1 == 2\n"


def test_import(sample: Sample[Any], ledger: Ledger, only_our_plugin: dict[str, str]) -> None:
    def milliseconds() -> float:
        argv = [sys.executable, "-c", TIMED]
        done = subprocess.run(argv, env=only_our_plugin, capture_output=True, check=True, text=True)
        return 1000 * float(done.stdout)

    ledger.median("plugin import, over bare pytest", sample(milliseconds, 30), "ms", 10)


def test_unused_session(
    sample: Sample[Any], ledger: Ledger, tmp_path: Path, only_our_plugin: dict[str, str]
) -> None:
    (tmp_path / "test_plain.py").write_text(PLAIN)
    numbers = count()

    def cpu_ms(*args: str) -> float:
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
        process = subprocess.Popen(
            argv, cwd=tmp_path, env=only_our_plugin, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return 1000 * (usage.ru_utime + usage.ru_stime)

    def with_plugin() -> float:
        return cpu_ms("-p", "pytest_agentlimit.plugin")

    def difference() -> float:
        # One right after the other, in either order: what else the machine does hits both.
        if next(numbers) % 2:
            return with_plugin() - cpu_ms()
        return -cpu_ms() + with_plugin()

    ledger.median("CPU of a session that does not use it", sample(difference, 30), "ms", 20)

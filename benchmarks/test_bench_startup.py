"""What an installed plugin costs a session that does not use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from budgets import Ledger
from conftest import Sample

PAIRS = 25
TIMED = "from time import perf_counter as clock; t = clock(); import {}; print(clock() - t)"
PLAIN = "def test_plain():\n    assert 1 + 1 == 2\n"


def test_import(sample: Sample[Any], ledger: Ledger) -> None:
    def seconds(modules: str) -> float:
        argv = [sys.executable, "-c", TIMED.format(modules)]
        return float(subprocess.run(argv, capture_output=True, check=True, text=True).stdout)

    # Pairs, one right after the other: what else the machine does then hits both.
    found = sample(lambda: -seconds("pytest") + seconds("pytest, pytest_agentlimit.plugin"), PAIRS)
    ledger.median("plugin import, over bare pytest", [1000 * s for s in found], "ms", 10)


def test_unused_session(
    sample: Sample[Any], ledger: Ledger, tmp_path: Path, only_our_plugin: dict[str, str]
) -> None:
    (tmp_path / "test_plain.py").write_text(PLAIN)

    def cpu_seconds(*args: str) -> float:
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
        process = subprocess.Popen(
            argv, cwd=tmp_path, env=only_our_plugin, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_utime + usage.ru_stime

    found = sample(lambda: -cpu_seconds() + cpu_seconds("-p", "pytest_agentlimit.plugin"), PAIRS)
    ledger.median("CPU of a session that does not use it", [1000 * s for s in found], "ms", 20)

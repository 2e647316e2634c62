"""What every task is made of, and how what it left in the workspace is judged.

Judged is what stands in the files, and never what a model says of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from pytest_agentlimit.agents.sandbox import SandboxResult
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.agents.workspace import FileMissing, Workspace
from pytest_agentlimit.errors import ExpectationFailed, ToolProblem
from pytest_agentlimit.text import one_line

NOBODY = " Nobody can answer questions while you work."
_AGE_S = 3600
_PYTHON = 'python3 -s -X pycache_prefix="$TMPDIR"'
"""No compiled file of an earlier run is read, and none is left in the workspace."""


@dataclass(frozen=True)
class Task:
    """A goal in plain words, and the files the workspace starts with: path to text."""

    goal: str
    files: dict[str, str]

    def lay_out(self, workspace: Workspace) -> None:
        """Write the files as if they were an hour old.

        Python would not notice an edit in the second in which it compiled a file.
        """
        for path, text in self.files.items():
            workspace.write(path, text)
            file = workspace.path / path
            then = file.stat().st_mtime - _AGE_S
            os.utime(file, (then, then))

    def expect_kept(self, workspace: Workspace, run: Transcript, *changed: str) -> None:
        """Require that every file but those `changed` is what it was, byte for byte."""
        __tracebackhide__ = True
        for path, text in self.files.items():
            if path not in changed:
                kept = content(workspace, path) == text.encode()
                require(kept, run, f"{path} was changed, and had to stay as it was")


def content(workspace: Workspace, path: str) -> bytes:
    """Return what a file holds; one that is missing or cannot be read is a failed check."""
    __tracebackhide__ = True
    try:
        return workspace.read_bytes(path)
    except FileMissing as missing:
        raise missing.with_traceback(None) from None  # the line of the check is what matters
    except ToolProblem as problem:
        raise ExpectationFailed(str(problem)) from None


def run_python(workspace: Workspace, arguments: str) -> SandboxResult:
    """Return what Python did with `arguments` (quoted for a shell), in the sandbox."""
    return workspace.shell(f"{_PYTHON} {arguments}", timeout_s=20.0)


def why(done: SandboxResult) -> str:
    """Return in one line why a program failed: the last line it wrote, or that it ran on."""
    if done.timed_out:
        return "it did not end in time"
    last = (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
    return f"exit code {done.exit_code}: {one_line(last)}"


def require(met: bool, run: Transcript, wrong: str) -> None:
    """Return when `met`; else raise ExpectationFailed with what is wrong, and how the run ended."""
    __tracebackhide__ = True
    if met:
        return
    lines = [
        wrong,
        f"the run ended with reply {len(run.steps)} ({run.stopped_because}); its last words: "
        f"{one_line(run.final_text, 400)!r}",
        f"blame: {run.blame}",
    ]
    raise ExpectationFailed("\n".join(lines), blame=run.blame)

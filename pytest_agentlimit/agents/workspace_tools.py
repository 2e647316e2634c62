"""The workspace as tools for a model: terse descriptions, and results it can act on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from pytest_agentlimit.chat.messages import Tool

from .sandbox import SandboxResult
from .tools import tool
from .workspace import GREP_LIMIT, SHELL_TIME_S, Workspace

_WORKSPACE = "agentlimit_workspace"

Seconds = Annotated[float, Field(gt=0, le=SHELL_TIME_S)]


def workspace_tools(workspace: Workspace) -> tuple[Tool, ...]:
    """Return read_file, write_file, edit_file, list_files, grep and shell on `workspace`."""

    @tool
    def read_file(path: str) -> str:
        """Read a text file.

        path: Relative to the workspace.
        """
        content = workspace.read_bytes(path)
        if b"\0" in content:
            return f"binary file of {len(content)} bytes, it begins {content[:200]!r}"
        return content.decode("utf-8", "backslashreplace")

    @tool
    def write_file(path: str, content: str) -> str:
        """Create a file or replace its whole content. Missing folders are created.

        path: Relative to the workspace.
        content: The new content.
        """
        workspace.write(path, content)
        return f"wrote {len(content)} characters"

    @tool
    def edit_file(path: str, old: str, new: str) -> str:
        """Replace one piece of a text file.

        path: Relative to the workspace.
        old: The text to replace, exactly as in the file; it must occur once.
        new: What takes its place.
        """
        workspace.edit(path, old, new)
        return "replaced"

    @tool
    def list_files(path: str = ".") -> str:
        """List a folder. Names of folders end in a slash.

        path: Relative to the workspace.
        """
        return "\n".join(workspace.list(path)) or "the folder is empty"

    @tool
    def grep(pattern: str, path: str = ".") -> str:
        """Search files for a regular expression. Shows file, line number and line.

        pattern: A Python regular expression.
        path: A file or folder, relative to the workspace.
        """
        matches = workspace.grep(pattern, path)
        more = f"\n[the first {GREP_LIMIT} matches]" if len(matches) == GREP_LIMIT else ""
        return "\n".join(matches) + more if matches else "no match"

    @tool
    def shell(command: str, timeout_s: Seconds = 10.0) -> str:
        """Run a shell command in the workspace. There is no network.

        command: The command line.
        timeout_s: Seconds until it is stopped.
        """
        return _report(workspace.shell(command, timeout_s), timeout_s)

    tools = (read_file, write_file, edit_file, list_files, grep, shell)
    for made in tools:
        setattr(made.function, _WORKSPACE, workspace)
    return tools


def workspace_of(tools: Iterable[Tool]) -> Workspace | None:
    """Return the one workspace that all of `tools` work on; None when there is no such one."""
    found = [getattr(item.function, _WORKSPACE, None) for item in tools]
    first = next(iter(found), None)
    one = all(workspace is first for workspace in found)
    return first if one and isinstance(first, Workspace) else None


def _report(done: SandboxResult, timeout_s: float) -> str:
    ended = f"stopped after {timeout_s:g} s" if done.timed_out else f"exit code {done.exit_code}"
    parts = [ended, done.stdout.rstrip()]
    if done.stderr.strip():
        parts.append(f"stderr:\n{done.stderr.rstrip()}")
    return "\n".join(part for part in parts if part)

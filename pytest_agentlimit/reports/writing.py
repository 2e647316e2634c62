"""Reports on their way to disk: what was asked for, where it goes, and writing it whole or not."""

from __future__ import annotations

import contextlib
import difflib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from pytest_agentlimit.errors import AgentLimitError, UsageProblem
from pytest_agentlimit.text import one_line

DEFAULT_FILES = {"json": "agentlimit-report.json", "markdown": "agentlimit-report.md"}
KINDS = ("term", *DEFAULT_FILES)


@dataclass(frozen=True)
class ReportRequest:
    """One `--agent-report=KIND[:DEST]`; `dest` is None where the default is meant."""

    kind: str
    dest: str | None = None

    def path(self, folder: Path) -> Path | None:
        """Return the file to write, relative names under `folder`; None means the terminal."""
        if self.dest is not None:
            return folder / Path(self.dest).expanduser()
        name = DEFAULT_FILES.get(self.kind)
        return None if name is None else folder / name


def parse_report_option(text: str) -> ReportRequest:
    """Return the request of "json", "markdown:out.md" or "term".

    Raises UsageProblem for an unknown kind, naming the nearest, and for an empty file name.
    """
    kind, colon, dest = text.partition(":")
    if kind not in KINDS:
        near = difflib.get_close_matches(kind.lower(), KINDS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageProblem(
            f"--agent-report: there is no report type {one_line(kind)!r}; {hint}"
            f"The types are {', '.join(KINDS)}, each with an optional file: json:out.json"
        )
    if colon and not dest.strip():
        raise UsageProblem(
            f"--agent-report: {kind}: has no file after the colon; "
            f"write {kind}:FILE, or {kind} alone for the default"
        )
    return ReportRequest(kind=kind, dest=dest if colon else None)


def write_report(kind: str, dest: Path, text: str) -> Path:
    """Write `text` as UTF-8 to `dest`, whole or not at all, and return where it went.

    Missing folders are made; a symbolic link is followed. Raises AgentLimitError with one readable
    sentence when the file cannot be written; an older report is then still there.
    """
    try:
        target = Path(os.path.realpath(dest))
        if target.is_dir():
            raise IsADirectoryError("it is a folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, text.encode("utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise AgentLimitError(
            f"the {kind} report was not written to {one_line(str(dest))}: {one_line(why)}. "
            f"Name another file with --agent-report={kind}:FILE, or make room and rights there; "
            "the run itself is kept in its run folder"
        ) from error
    return target


def _write(target: Path, data: bytes) -> None:
    if target.exists() and not target.is_file():
        # A pipe or device such as /dev/stdout: renaming a file over it would replace it.
        target.write_bytes(data)
        return
    # Beside the target, since a rename is atomic within one file system only. Not tempfile: its
    # files are private, and a report is to be read by whoever may read the folder.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise

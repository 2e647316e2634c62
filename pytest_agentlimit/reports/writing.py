"""Reports on their way to disk: what was asked for, where it goes, and writing it whole or not."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from pytest_agentlimit.errors import AgentLimitError, UsageProblem
from pytest_agentlimit.files import write_whole
from pytest_agentlimit.text import one_line

DEFAULT_FILES = {
    "json": "agentlimit-report.json",
    "markdown": "agentlimit-report.md",
    "junit": "agentlimit-junit.xml",
    "github": "agentlimit-github.md",
}
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


def write_report(kind: str, dest: Path, text: str, option: str = "") -> Path:
    """Write `text` as UTF-8 to `dest`, whole or not at all, and return where it went.

    `option` is how to name another file, if not `--agent-report=KIND:FILE`. Missing folders are
    made; a symbolic link is followed. Raises AgentLimitError with one readable sentence when the
    file cannot be written; an older report is then still there.
    """
    try:
        return write_whole(dest, text.encode("utf-8"))
    except (OSError, ValueError) as error:
        raise _not_written(kind, dest, error, option) from error


def append_report(kind: str, dest: Path, text: str) -> Path:
    """Append `text` as UTF-8 to `dest`, keeping what is there, and return `dest`.

    Missing folders are made. Raises AgentLimitError as `write_report` does.
    """
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with dest.open("ab") as file:
            file.write(text.encode("utf-8"))
    except (OSError, ValueError) as error:
        raise _not_written(kind, dest, error) from error
    return dest


def _not_written(kind: str, dest: Path, error: Exception, option: str = "") -> AgentLimitError:
    why = getattr(error, "strerror", None) or str(error)
    return AgentLimitError(
        f"the {kind} report was not written to {one_line(str(dest))}: {one_line(why)}. "
        f"Name another file with {option or f'--agent-report={kind}:FILE'}, "
        "or make room and rights there; the run itself is kept in its run folder"
    )

"""The run folder: a manifest, and a journal with one flushed line for everything that happened.

A line is a JSON object with a `kind`: `expected` (node ids), `trial` (a record), `note` (a
sentence), `finished` (duration and notes). Memory holds every line of the process; the file is a
copy of it that survives the process. So a full disk costs the copy and not the run.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.runs.energy import EnergyUse
from pytest_agentlimit.runs.lines import read_lines, split_lines
from pytest_agentlimit.runs.records import Manifest, RunData, RungRecord, TrialRecord
from pytest_agentlimit.text import one_line, printable

HOME = ".agentlimit"
"""The folder all runs of a project live under; it ignores itself in git."""
WRITER_LOCK = "writer.lock"
"""Held by the process that writes a run."""


def runs_folder(root: Path) -> Path:
    """Return where the runs of the project at `root` are kept."""
    return root / HOME / "runs"


def new_run_id() -> str:
    """Return the UTC time and four random bytes, so that runs sort by the second."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


class RunFolder:
    """One run on disk: `.agentlimit/runs/<id>/{manifest.json, journal.jsonl, artifacts/}`.

    Made by `create` or `open`. No method that writes raises: what could not be written is kept,
    tried again with the next line, and told by `problem`.
    """

    def __init__(self, path: Path, manifest: Manifest, lines: list[str], torn: bool) -> None:
        self.path = path
        self.manifest = manifest
        self._lines = lines
        self._written = len(lines)
        self._torn = torn
        """The file ends inside a line: the next write must start a new one."""
        self._manifest_saved = True
        self._error = ""
        self._lock = FileLock(path / WRITER_LOCK)

    @classmethod
    def create(cls, root: Path, manifest: Manifest, run_id: str = "") -> RunFolder:
        """Return a new folder under `root`; `manifest.run_id` is replaced by the folder's name."""
        name = run_id or new_run_id()
        folder = cls(runs_folder(root) / name, manifest, [], torn=False)
        folder.update_manifest(manifest.model_copy(update={"run_id": name}))
        folder._take_lock()
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return a run made earlier, to be read or continued.

        Raises UsageProblem when there is no run at `path` or its manifest cannot be understood. A
        missing journal is a run in which nothing happened.
        """
        where = one_line(str(path), 500)
        try:
            manifest = Manifest.model_validate_json((path / "manifest.json").read_bytes())
            file = path / "journal.jsonl"
            journal = file.read_bytes() if file.exists() else b""
        except ValidationError as error:
            raise UsageProblem(
                f"the manifest of the run in {where} cannot be understood "
                f"({error.error_count()} problems): it is damaged, or from another version of "
                "pytest-agentlimit; read it with the version that wrote it"
            ) from None
        except OSError as error:
            raise UsageProblem(
                f"no run can be read in {where} ({_reason(error)}); "
                f"give a folder below {HOME}/runs that holds a manifest.json"
            ) from None
        return cls(path, manifest, *split_lines(journal))

    @classmethod
    def resume(cls, path: Path) -> RunFolder:
        """Return a run made earlier, to be continued by this process alone until `close`.

        Raises UsageProblem as `open` does, and when another process is writing it.
        """
        folder = cls.open(path)
        if not folder._take_lock():
            raise UsageProblem(
                f"the run {one_line(path.name)} is being written by another process; wait until "
                "that session has ended, then resume"
            )
        return cls._opened_again(folder)

    @classmethod
    def _opened_again(cls, folder: RunFolder) -> RunFolder:
        """Return the run as it is now that nobody else writes it."""
        again = cls.open(folder.path)
        again._lock = folder._lock
        return again

    def close(self) -> None:
        """Let other processes resume the run."""
        self._lock.release()

    @property
    def artifacts(self) -> Path:
        """Where evidence too large for a record goes."""
        return self.path / "artifacts"

    @property
    def problem(self) -> str | None:
        """One sentence when something of this run is not on disk, else None."""
        if not self._error:
            return None
        waiting = len(self._lines) - self._written
        return (
            f"the journal in {one_line(str(self.path), 500)} could not be written "
            f"({self._error}). Lines kept in memory only: {waiting}; reports of this session are "
            "whole, the folder is not. Free some space or make it writable, and write a report "
            "with --agent-report"
        )

    def update_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest; on disk it is the old one or the new one, never half of one."""
        self.manifest = manifest
        self._manifest_saved = False
        self._catch_up()

    def append(self, record: TrialRecord) -> None:
        """Keep one trial; its line is with the operating system when this returns."""
        self._add(f'{{"kind":"trial","record":{record.model_dump_json()}}}')

    def expect(self, nodeids: Iterable[str]) -> None:
        """Keep the node ids of the collected trials, in order; repeats are one trial.

        Give ids of trials only: an ordinary test has no record and would count as lost
        (`runs.expected.expected_trial` tells which are).
        """
        # A file name that is no UTF-8 must not make the whole line unreadable.
        listed = [nodeid.encode("utf-8", "backslashreplace").decode() for nodeid in nodeids]
        self._add(json.dumps({"kind": "expected", "nodeids": listed}))

    def climb(self, nodeid: str, rung: RungRecord) -> None:
        """Keep one trial of a climb that is under way, so that a killed run can go on with it."""
        line = {"kind": "rung", "nodeid": nodeid, "rung": rung.model_dump(mode="json")}
        self._add(json.dumps(line))

    def note(self, text: str) -> None:
        """Keep one sentence that a reader of the run must know."""
        self._add(json.dumps({"kind": "note", "text": printable(text)}))

    def finish(
        self,
        duration_s: float,
        notes: Iterable[str] = (),
        energy: Mapping[str, EnergyUse] | None = None,
    ) -> None:
        """Keep that the run, or this part of a resumed one, came to its end."""
        used = {model: use.model_dump() for model, use in (energy or {}).items()}
        line = {"kind": "finished", "duration_s": duration_s, "energy": used}
        self._add(json.dumps({**line, "notes": [printable(text) for text in notes]}))

    def load(self) -> RunData:
        """Return everything known of the run, lines that are not on disk included.

        Damaged lines are left out and named in `notes`.
        """
        data = read_lines(self.manifest, self._lines)
        if self.problem is None:
            return data
        return data.model_copy(update={"notes": (*data.notes, self.problem)})

    def _take_lock(self) -> bool:
        """Return False when another process writes this run; where locks fail, nobody is kept out.

        The operating system gives the lock back when the process dies, however it dies.
        """
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError:
            pass
        return True

    def _add(self, line: str) -> None:
        self._lines.append(line)
        self._catch_up()

    def _catch_up(self) -> None:
        """Bring the disk up to date with memory, or remember why it is not."""
        try:
            if not self._manifest_saved:
                self._save_manifest()
            self._write_waiting()
            self._error = ""
        except OSError as error:
            self._error = _reason(error)

    def _save_manifest(self) -> None:
        self.artifacts.mkdir(parents=True, exist_ok=True)
        ignore = self.path.parent.parent / ".gitignore"
        if ignore.parent.name == HOME and not ignore.exists():
            with suppress(OSError):
                ignore.write_text("*\n", encoding="utf-8")
        scratch = self.path / f"manifest.json.{os.getpid()}.tmp"
        try:
            scratch.write_text(self.manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
            scratch.replace(self.path / "manifest.json")
        except OSError:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise
        self._manifest_saved = True

    def _write_waiting(self) -> None:
        """Bring the file up to date, one line at a time, so that a retry is never a big one."""
        if self._written == len(self._lines):
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = os.open(self.path / "journal.jsonl", flags, 0o644)
        try:
            while self._written < len(self._lines):
                data = self._lines[self._written].encode() + b"\n"
                self._write_whole(descriptor, b"\n" + data if self._torn else data)
                self._written += 1
        finally:
            os.close(descriptor)

    def _write_whole(self, descriptor: int, data: bytes) -> None:
        """Write all of `data`, or take back the part that got through and raise OSError."""
        done = 0
        try:
            while done < len(data):
                done += os.write(descriptor, data[done:])
        except OSError:
            if done:
                self._take_back(descriptor, done)
            raise
        self._torn = False

    def _take_back(self, descriptor: int, done: int) -> None:
        try:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - done)
        except OSError:
            self._torn = True


def _reason(error: OSError) -> str:
    return one_line(error.strerror or type(error).__name__)

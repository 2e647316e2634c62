"""The runs of a project: found by a few letters of an id, listed, and deleted when they are old.

A run is a real folder below `.agentlimit/runs`, or anywhere else when its path is given.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from pytest_agentlimit.errors import AgentLimitError, UsageProblem
from pytest_agentlimit.runs.journal import HOME, WRITER_LOCK, RunFolder, runs_folder
from pytest_agentlimit.runs.lines import UNFINISHED, is_damage
from pytest_agentlimit.runs.schema import RunSummary
from pytest_agentlimit.runs.summary import summarise
from pytest_agentlimit.text import one_line

LATEST = "latest"
MOST_NAMED = 5
"""How many ids a message lists."""
SHARD_DEPTH = 3
"""How many folders deep the runs of a downloaded artefact are looked for."""
_ID = re.compile(r"(\d{8}T\d{6})Z-[0-9a-f]{8}")


@dataclass(frozen=True)
class RunRow:
    """One run as a list shows it; `summary` is None when it cannot be read."""

    id: str
    path: Path
    state: Literal["finished", "unfinished", "damaged"]
    summary: RunSummary | None = None
    gate_asked: bool = False
    purpose: Literal["score", "classify", "audit"] = "score"
    damaged_lines: int = 0
    """Lines of the journal that made no sense and were left out."""


@dataclass(frozen=True)
class Pruned:
    """What `prune` removed, or would remove; ids, oldest last."""

    removed: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()
    """Runs that are old enough and being written right now."""
    failed: tuple[str, ...] = ()
    """Runs that could not be removed, each with the reason."""


def project_root(start: Path) -> Path:
    """Return the nearest folder at or above `start` that keeps runs, else `start`."""
    for folder in (start, *start.parents):
        if runs_folder(folder).is_dir():
            return folder
    return start


def find_run(text: str, root: Path) -> Path:
    """Return the folder of the run that `text` names in the project at `root`.

    `text` is "latest", an id, a path to a folder with a manifest.json, or the beginning of one id.
    Raises UsageProblem, naming the nearest ids, when that is no run or more than one.
    """
    known = _runs(root)
    if text == LATEST and known:
        return known[0]
    by_id = {path.name: path for path in known}
    if text in by_id:
        return by_id[text]
    path = Path(text)
    if text and _is_run(path):
        return path
    fitting = [name for name in by_id if text and name.startswith(text)]
    if len(fitting) == 1:
        return by_id[fitting[0]]
    if fitting:
        raise UsageProblem(
            f"{one_line(text)!r} is the beginning of {len(fitting)} runs: {_listed(fitting)}; "
            "give more of the id"
        )
    raise UsageProblem(_not_found(text, path, list(by_id), root))


def find_shards(text: str, root: Path) -> list[Path]:
    """Return the run that `text` names, or all runs in the folder it names, sorted by path.

    A folder is searched `SHARD_DEPTH` deep. Raises UsageProblem when there is none.
    """
    folder = Path(text)
    if not text or _is_run(folder) or not os.path.isdir(folder):
        return [find_run(text, root)]
    found = sorted(_below(folder, SHARD_DEPTH))
    if not found:
        raise UsageProblem(
            f"no run is in {one_line(text)}: no manifest.json up to {SHARD_DEPTH} folders deep; "
            f"give the folder of a run, as it was below {HOME}/runs"
        )
    return found


def list_runs(root: Path, limit: int | None = None) -> list[RunRow]:
    """Return the runs of a project, newest first, at most `limit`; damaged ones are in it.

    Reading a run takes time in proportion to its journal, so only those that are returned are.
    """
    return [_row(path) for path in _runs(root)[:limit]]


def count_runs(root: Path) -> int:
    """Return how many runs the project has, without reading them."""
    return len(_runs(root))


def prune(
    root: Path,
    *,
    now: datetime,
    keep: int | None = None,
    older_than: timedelta | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove old runs and return which; with `dry_run`, only return which it would be.

    The newest `keep` stay, and whatever is not `older_than`; with both, a run must be neither. A
    run that is being written stays. Only folders that lie in `.agentlimit/runs` themselves are
    touched: a symbolic link is not followed. Raises UsageProblem when neither is given, or when
    the place of the runs is itself a link.
    """
    if keep is None and older_than is None:
        raise UsageProblem(
            "nothing says which runs may go: give --keep=N, --older-than=30d or both"
        )
    _require_no_link(root)
    old = _runs(root)[keep or 0 :]
    if older_than is not None:
        old = [path for path in old if now - _made(path) > older_than]
    removed: list[str] = []
    busy: list[str] = []
    failed: list[str] = []
    for path in old:
        try:
            (removed if _remove(path, dry_run) else busy).append(path.name)
        except OSError as error:
            failed.append(f"{one_line(path.name)} ({error.strerror or type(error).__name__})")
    return Pruned(tuple(removed), tuple(busy), tuple(failed))


def _runs(root: Path) -> list[Path]:
    """Return the run folders of a project, newest first."""
    try:
        with os.scandir(runs_folder(root)) as entries:
            folders = [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AgentLimitError(
            f"the runs in {one_line(str(runs_folder(root)), 500)} cannot be listed "
            f"({error.strerror or type(error).__name__}); make the folder readable"
        ) from None
    runs = [path for path in folders if _ID.fullmatch(path.name) or _is_run(path)]
    return sorted(runs, key=lambda path: (_made(path), _touched(path), path.name), reverse=True)


def _is_run(path: Path) -> bool:
    # Not Path.is_file: it raises for a name that is too long.
    return os.path.isfile(path / "manifest.json")


def _made(path: Path) -> datetime:
    """Return when a run was made: what its id says, else when its folder last changed."""
    found = _ID.fullmatch(path.name)
    if found:
        try:
            return datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            pass
    return datetime.fromtimestamp(_touched(path), UTC).replace(microsecond=0)


def _touched(path: Path) -> float:
    """Return when the manifest was written: it tells runs of the same second apart."""
    for file in (path / "manifest.json", path):
        try:
            return file.stat().st_mtime
        except OSError:
            continue
    return 0.0


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the runs in a folder; a run holds no other runs."""
    if _is_run(folder):
        yield folder
    elif depth:
        with os.scandir(folder) as entries:
            inside = [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]
        for path in inside:
            yield from _below(path, depth - 1)


def _row(path: Path) -> RunRow:
    """Return the row without the records it was made from: a list of a thousand must fit."""
    try:
        data = RunFolder.open(path).load()
        summary = summarise(data)
    except (AgentLimitError, ValueError, ArithmeticError):
        # A list is for finding out which run is broken; opening that run says why.
        return RunRow(path.name, path, "damaged")
    return RunRow(
        path.name,
        path,
        "unfinished" if UNFINISHED in data.notes else "finished",
        summary,
        data.manifest.gate.asked,
        data.manifest.purpose,
        sum(map(is_damage, data.notes)),
    )


def _remove(path: Path, dry_run: bool) -> bool:
    """Return False for a run that is being written; else it is gone, or would be."""
    lock = FileLock(path / WRITER_LOCK)
    if dry_run and not (path / WRITER_LOCK).exists():
        return True
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    try:
        if not dry_run:
            shutil.rmtree(path)
    finally:
        lock.release()
    return True


def _require_no_link(root: Path) -> None:
    for folder in (root / HOME, runs_folder(root)):
        if folder.is_symlink():
            raise UsageProblem(
                f"{one_line(str(folder), 500)} is a symbolic link, and nothing behind a link is "
                "deleted; remove runs where it points to by hand"
            )


def _not_found(text: str, path: Path, ids: list[str], root: Path) -> str:
    shown = one_line(text)
    if not ids:
        none = f"there are no runs in {one_line(str(runs_folder(root)), 500)}"
        if text == LATEST:
            return f"{none}; run pytest with --agent-model first, or give the folder of a run"
        return f"no run is called {shown!r}, and {none}; give the folder of a run"
    if os.path.isdir(path) and os.sep in text:
        return f"{shown} holds no manifest.json, so it is not the folder of a run"
    near = difflib.get_close_matches(text, ids, n=3, cutoff=0.5)
    hint = f"the nearest are {_listed(near)}" if near else f"the newest is {one_line(ids[0])}"
    return f"no run is called {shown!r} among {len(ids)}; {hint}; agentlimit runs lists them"


def _listed(ids: list[str]) -> str:
    named = ", ".join(one_line(name) for name in ids[:MOST_NAMED])
    return named if len(ids) <= MOST_NAMED else f"{named} and {len(ids) - MOST_NAMED} more"

"""The files of a workspace at one moment, and what changed between two of them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .result import Changes

MOST_FILES = 2000
HASHED_BYTES = 1_000_000
LEFT_OUT = frozenset({".git", "node_modules"})
_MOST_FOLDERS = 2000

_Parts = tuple[str, ...]


class _File(NamedTuple):
    """One file; equal for files that hold the same."""

    kind: int
    size: int
    sign: object
    """The hash of a small file, the target of a link, the time of the last change of the rest."""


class Snapshot(NamedTuple):
    """The files by path, in order; `complete` is False when there were more than are here."""

    files: dict[_Parts, _File]
    complete: bool


def snapshot(root: Path) -> Snapshot:
    """Return at most 2,000 files below `root`; links are not followed, .git is left out."""
    files: dict[_Parts, _File] = {}
    for parts, entry in _entries(root):
        if len(files) == MOST_FILES or entry is None:
            return Snapshot(files, complete=False)
        described = _described(entry)
        if described is not None:
            files[parts] = described
    return Snapshot(files, complete=True)


def changes(before: Snapshot, after: Snapshot) -> Changes:
    """Return what changed, as far as both reach."""
    ends = [max(one.files, default=()) for one in (before, after) if not one.complete]
    old, new = (
        {parts: file for parts, file in one.files.items() if not ends or parts <= min(ends)}
        for one in (before, after)
    )
    return Changes(
        made=_shown(new.keys() - old.keys()),
        changed=_shown({parts for parts in old.keys() & new.keys() if old[parts] != new[parts]}),
        removed=_shown(old.keys() - new.keys()),
    )


def _entries(root: Path) -> Iterator[tuple[_Parts, os.DirEntry[str] | None]]:
    """Yield everything that is no folder, in the order of the parts of its path.

    None in place of an entry: there are too many folders to go on.
    """
    waiting: list[tuple[_Parts, os.DirEntry[str]]] = _listed(root, ())
    folders = 0
    while waiting:
        parts, entry = waiting.pop()
        if not entry.is_dir(follow_symlinks=False):
            yield parts, entry
        elif entry.name not in LEFT_OUT:
            folders += 1
            if folders > _MOST_FOLDERS:
                yield parts, None
                return
            waiting += _listed(Path(entry.path), parts)


def _listed(folder: Path, parts: _Parts) -> list[tuple[_Parts, os.DirEntry[str]]]:
    """Return what is in a folder, last first; nothing of one that is closed to us, or gone."""
    try:
        with os.scandir(folder) as entries:
            found = [((*parts, entry.name), entry) for entry in entries]
    except OSError:
        return []
    return sorted(found, key=lambda pair: pair[0], reverse=True)


def _described(entry: os.DirEntry[str]) -> _File | None:
    """Return what a file is now, None when it is gone."""
    try:
        seen = entry.stat(follow_symlinks=False)
        kind = stat.S_IFMT(seen.st_mode)
        if stat.S_ISLNK(seen.st_mode):
            return _File(kind, 0, os.readlink(entry.path))
        small = stat.S_ISREG(seen.st_mode) and seen.st_size <= HASHED_BYTES
        sign = _hash(entry.path) if small else seen.st_mtime_ns
    except OSError:
        return None
    return _File(kind, seen.st_size, sign)


def _hash(path: str) -> str | None:
    """Return the hash of the first bytes of a file; None when it cannot be read."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(opened, "rb") as file:
        return hashlib.sha256(file.read(HASHED_BYTES)).hexdigest()


def _shown(paths: set[_Parts]) -> tuple[str, ...]:
    """Return paths as text, sorted; names that are not UTF-8 show as escapes."""
    joined = ("/".join(parts) for parts in sorted(paths))
    return tuple(os.fsencode(path).decode("utf-8", "backslashreplace") for path in joined)

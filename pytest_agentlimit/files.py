"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_whole(path: Path, data: bytes) -> Path:
    """Write `data` to `path`, whole or not at all, and return where it went.

    Missing folders are made; a symbolic link is followed. Raises OSError or ValueError when that
    cannot be done; what was there before is then still there.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError("it is a folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not target.is_file():
        # A pipe or device such as /dev/stdout: renaming a file over it would replace it.
        target.write_bytes(data)
    else:
        _replace(target, data)
    return target


def _replace(target: Path, data: bytes) -> None:
    # Beside the target, since a rename is atomic within one file system only. Not tempfile: its
    # files are private, and this one is to be read by whoever may read the folder.
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

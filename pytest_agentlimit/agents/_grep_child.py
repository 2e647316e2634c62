"""Searches the files of a folder for a pattern; run inside the sandbox, never imported.

A hostile pattern can take for ever, so it runs where there is a time limit. Reads one JSON object
from stdin (`pattern`, `path`, `limit`, `max_bytes`) and prints one: `matches` (lines such as
`notes.txt:3: text`), or `problem` (a bad pattern).
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from typing import Any


def main(job: dict[str, Any]) -> None:
    """Print the answer to `job`."""
    try:
        pattern = re.compile(job["pattern"])
    except (re.error, RecursionError, OverflowError) as error:
        print(json.dumps({"problem": str(error)}))
        return
    matches: list[str] = []
    for path in files(job["path"]):
        for number, line in enumerate(lines(path, job["max_bytes"]), 1):
            if pattern.search(line):
                matches.append(f"{os.path.normpath(path)}:{number}: {line.strip()[:200]}")
        if len(matches) >= job["limit"]:
            break
    print(json.dumps({"matches": matches[: job["limit"]]}))


def files(path: str) -> Iterator[str]:
    """Yield the regular files at or below `path` in order; links are not followed."""
    if stat.S_ISREG(os.lstat(path).st_mode):
        yield path
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            full = os.path.join(folder, name)
            if stat.S_ISREG(os.lstat(full).st_mode):
                yield full


def lines(path: str, max_bytes: int) -> list[str]:
    """Return the lines of a text file, of a binary or unreadable one none."""
    try:
        with open(path, "rb") as file:
            content = file.read(max_bytes)
    except OSError:
        return []
    return [] if b"\0" in content else content.decode("utf-8", "replace").splitlines()


if __name__ == "__main__":
    main(json.load(sys.stdin))

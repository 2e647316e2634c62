"""What the controller tells its workers during a run: what it found out, and what has been decided.

xdist has no channel for messages of a plugin, so the board is a small file in the run folder. A
worker on another machine does not see it and runs every trial, which costs time and nothing else:
the summary leaves out what was not needed.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_POLL_S = 0.05
_LONGEST_DOUBT_S = 60.0
"""A controller that was killed decides nothing any more."""
NOT_NEEDED = "not needed"
"""How the reason of a trial that was left out begins; such a trial has no record."""


class Board:
    """Decisions on models and checks; without a path they stay in this process."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.stops: dict[str, int] = {}
        """Model to the last round that is needed."""
        self.flips: dict[str, dict[str, int]] = {}
        """Model to check to the last trial that is needed."""
        self.in_doubt: list[str] = []
        """Models whose endpoint the controller is looking at right now."""
        self.gone: dict[str, str] = {}
        """Model to why its endpoint cannot be called any more."""
        self.preflights: dict[str, dict[str, Any]] = {}
        """Model to what was found out about its endpoint before the first trial."""
        self._seen: tuple[int, int] | None = None

    def publish(self) -> None:
        """Write the board for the workers; a disk that is full makes them run more, no error."""
        if self.path is None:
            return
        scratch = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        with suppress(OSError):
            scratch.write_text(json.dumps(self._content()), encoding="utf-8")
            scratch.replace(self.path)

    def read(self) -> None:
        """Take over what the controller has published since the last time."""
        if self.path is None:
            return
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._seen:
                return
            content: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return  # nothing was published yet
        self._seen = stamp
        for name, value in content.items():
            setattr(self, name, value)

    def wait_while_in_doubt(self, model: str) -> None:
        """Hold a trial back while its endpoint is looked at, but not for ever."""
        until = time.monotonic() + _LONGEST_DOUBT_S
        while model in self.in_doubt and time.monotonic() < until:
            time.sleep(_POLL_S)
            self.read()

    @property
    def lock_folder(self) -> Path | None:
        """Where the locks of endpoints are that belong to this run alone."""
        return None if self.path is None else self.path.with_name("locks")

    def remove(self) -> None:
        """Take the file and the locks away: the run is over."""
        if self.path is not None and self.lock_folder is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            shutil.rmtree(self.lock_folder, ignore_errors=True)

    def why_not_needed(self, model: str, check: str, number: int) -> str | None:
        """Return why a trial need not run, None when it has to; `check` is the stem of its id."""
        last = self.stops.get(model)
        if last is not None and number > last:
            return f"{NOT_NEEDED}: the evidence gate decided after round {last}"
        flip = self.flips.get(model, {}).get(check)
        if flip is not None and number > flip:
            return f"{NOT_NEEDED}: the check is flaky, trial {flip} differed"
        return None

    def _content(self) -> dict[str, Any]:
        names = ("stops", "flips", "in_doubt", "gone", "preflights")
        return {name: getattr(self, name) for name in names}

"""One caller at a time at an endpoint, over all processes of this user (METHOD 4.4).

A *caller* is a process with a call under way. Calls that one process makes in parallel are part of
the trial it runs, so they share its place; what spoils a latency is the call of somebody else.

Each endpoint has a folder of lock files. All locks are flocks on open descriptors, so a process
that dies in any way leaves nothing locked. In the folder:

`queue`         held by the waiter whose turn is next; the others sleep in the kernel behind it
`door`          held for microseconds to look, to take a place or to give one back: nobody can
                change what another is counting
`PLACES-NUMBER` one a place, held while its process has a call under way; the name says how many
                callers that process can stand, so a looser session never disturbs a stricter one
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from pytest_agentlimit.endpoints.outgoing import is_loopback
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.text import one_line

_POLL_S = 0.004
_POLL_MORE_S = 0.002
_DEFAULT_PORTS = {"http": 80, "https": 443}

_log = logging.getLogger("agentlimit")


class Turn:
    """The turn of one call, a context manager; this one waits for nobody and counts nothing."""

    waited_s: float = 0.0
    """Seconds stood in line; never latency."""
    inflight_start: int | None = None
    """Callers at the endpoint when the turn began, this process included; None: not known."""
    inflight_end: int | None = None
    """The same when it ended."""

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return None


class Turnstile:
    """Lets at most `places` callers at a time through to the server called `key`.

    Waiters are served in the order they came. With sessions that declare different numbers the
    strictest one under way holds. Threads of a process that has a place join it at once, so a
    place is free again after the last of its calls. Where no lock can be had every call passes,
    counts are None, and one warning is logged. A suspended process keeps its place, in the line
    as at the endpoint.
    """

    def __init__(self, key: str, places: int, folder: Path) -> None:
        if places < 1:
            raise ValueError(f"a turnstile has at least one place, not {places}")
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        self._places = places
        self.waited_s = 0.0
        """Seconds that calls of this process stood in line, also where they gave up."""
        self._line = _lines.setdefault(folder / name, _Line(folder / name))

    def turn(self) -> Turn:
        """Return a turn: entering it blocks until there is a place, leaving it gives it back."""
        return _QueuedTurn(self, self._line, self._places)


def turnstile_for(spec: EndpointSpec, places: int, folder: Path | None = None) -> Turnstile:
    """Return the turnstile of the server that `spec` is served by.

    `folder` holds the locks of an embedded server, which only one session knows of.
    """
    private = folder if spec.kind == "embedded" else None
    return Turnstile(server_key(spec.base_url), places, private or lock_folder())


def server_key(base_url: str) -> str:
    """Return scheme, host and port of `base_url`: one server is one machine, whatever the path.

    The names of this machine are one name, and a port that goes without saying is said.
    """
    parts = urlsplit(base_url)
    host = (parts.hostname or "").rstrip(".")
    host = "localhost" if is_loopback(host) else host
    return f"{parts.scheme}://{host}:{parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)}"


def lock_folder() -> Path:
    """Return where the lock files of this user are; the folder is made when it is needed."""
    import platformdirs

    return platformdirs.user_cache_path("pytest-agentlimit") / "locks"


class _QueuedTurn(Turn):
    def __init__(self, turnstile: Turnstile, line: _Line, places: int) -> None:
        self._turnstile = turnstile
        self._line = line
        self._places = places

    def __enter__(self) -> Turn:
        asked = time.perf_counter()
        try:
            self.inflight_start = self._line.enter(self._places)
        except BaseException:  # Ctrl-C or a test's time-out may come when the place is taken
            self._line.leave()
            raise
        finally:
            self.waited_s = time.perf_counter() - asked
            self._turnstile.waited_s += self.waited_s
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.inflight_end = self._line.leave()
        except BaseException:  # the same: leaving twice is harmless, not leaving stops everybody
            self._line.leave()
            raise


class _Line:
    """What this process knows of the line at one endpoint: its threads with a call, its place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._warned = False
        self._reset()

    def _reset(self) -> None:
        self._gate = threading.Lock()
        # By thread, not by call: an entry that an exception left behind goes with the next call.
        self._threads: set[int] = set()
        self._place: io.FileIO | None = None
        self._files: list[io.FileIO] = []

    def enter(self, places: int) -> int | None:
        """Return the number of callers once this process has a place, None without locks."""
        with self._gate:
            try:
                callers = self._queue(places) if self._place is None else self._count()
            except (OSError, ImportError) as error:
                self._warn(error)
                return None
            self._threads.add(threading.get_ident())
            return callers

    def leave(self) -> int | None:
        """Return the number of callers, and give the place back after the last call."""
        if self._place is None:  # seen without the gate: a thread that queues holds it for long
            return None
        with self._gate:
            self._threads.discard(threading.get_ident())
            try:
                return self._count(leaving=True)
            except OSError as error:
                self._warn(error)
                return None
            finally:
                self._settle()

    def forget(self) -> None:
        """Let go, in a forked child, of what is the parent's; closing a copy unlocks nothing."""
        for file in self._files:
            file.close()
        self._reset()

    def _queue(self, places: int) -> int:
        os.makedirs(self._folder, exist_ok=True)
        with self._open("queue") as queue:
            _lock(queue)
            while True:
                with self._open("door") as door:
                    _lock(door)
                    held = self._held()
                    limit = min([places, *held.values()])
                    if len(held) < limit:
                        self._take(places)
                        return len(held) + 1
                self._wait(list(held), everybody=limit == 1)

    def _count(self, *, leaving: bool = False) -> int:
        with self._open("door") as door:
            _lock(door)
            callers = len(self._held())
            if leaving:
                self._settle()  # behind the door: who comes next must not count this caller
            return callers

    def _held(self) -> dict[str, int]:
        """Return the places that are held, and how many callers each holder can stand."""
        held = {}
        for name in os.listdir(self._folder):
            places, dash, _ = name.partition("-")
            if dash and places.isdecimal():
                with self._open(name) as place:
                    if not _lock(place, shared=True, wait=False):
                        held[name] = int(places)
        return held

    def _wait(self, names: list[str], *, everybody: bool) -> None:
        """Return when one of the places is free, or the first where all of them have to be.

        Shared locks: they pass for free places in nobody's count. Several places can only be
        polled; the pauses grow with their number, so that a waiter costs 2 % of a core at most.
        """
        with ExitStack() as stack:
            watched = [stack.enter_context(self._open(name)) for name in names]
            if everybody:
                _lock(watched[0], shared=True)
                return
            while not any(_lock(place, shared=True, wait=False) for place in watched):
                time.sleep(_POLL_S + _POLL_MORE_S * len(watched))

    def _take(self, places: int) -> None:
        """Hold the first free place of this kind; call it at the door."""
        for number in count():
            # Kept before it is locked, so that an exception at any point leaves it to `leave`.
            self._place = self._open(f"{places}-{number}")
            if _lock(self._place, wait=False):
                return
            self._place.close()

    def _settle(self) -> None:
        if self._place is not None and not self._threads:
            self._place.close()
            self._place = None

    def _open(self, name: str) -> io.FileIO:
        """Return a lock file that is unlocked by closing it, remembered for a forked child.

        A `with` on the file itself: its exit is one step that no signal handler can come before.
        """
        self._files = [file for file in self._files if not file.closed]
        self._files.append(io.FileIO(self._folder / name, "a"))
        return self._files[-1]

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "calls of several processes to one endpoint are not kept apart, so latencies may "
                "hold the work of others: cannot lock in %s: %s. Next: make that folder writable",
                one_line(str(self._folder)),
                one_line(str(error)),
            )


def _lock(file: io.FileIO, *, shared: bool = False, wait: bool = True) -> bool:
    """Return True with the lock held until `file` is closed, False when another holds it."""
    import fcntl  # not on Windows

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_lines: dict[Path, _Line] = {}
"""By folder: every turnstile of a process at one endpoint shares its place."""


def _forget_all() -> None:
    for line in _lines.values():
        line.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)

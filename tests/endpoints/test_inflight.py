from __future__ import annotations

import fcntl
import io
import logging
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from types import FrameType

import pytest
from inflight_kit import CALLER, CROWD, KEY, PATIENCE_S, Process, enters, leaves

from pytest_agentlimit.endpoints.inflight import Turnstile

HAMMER = (
    CROWD
    + """
import hashlib
log = os.open(sys.argv[4], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
rounds = int(sys.argv[5])
def work():
    for _ in range(30):
        with turnstile.turn() as turn:
            os.write(log, b"+%d\\n" % turn.inflight_start)
            os.write(log, b">\\n")
            hashlib.pbkdf2_hmac("sha256", b"work", b"salt", rounds)
            os.write(log, b"<\\n")
        os.write(log, b"-%d\\n" % turn.inflight_end)
crowd(6, work)
"""
)
# A thread stands in line, and the main thread behind it, when Ctrl-C comes.
BEHIND_A_THREAD = """
import os, signal, sys, threading, time
from pathlib import Path
from pytest_agentlimit.endpoints.inflight import Turnstile
turnstile = Turnstile(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
def call():
    with turnstile.turn() as turn:
        print("in", turn.inflight_start, flush=True)
def interrupt():
    main = threading.main_thread().ident
    seen = 0
    while seen < 5:
        frame = sys._current_frames()[main]
        seen = seen + 1 if frame.f_code.co_filename.endswith("inflight.py") else 0
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGINT)
first = threading.Thread(target=call)
first.start()
print("ready", flush=True)
sys.stdin.readline()
threading.Thread(target=interrupt, daemon=True).start()
try:
    with turnstile.turn():
        print("in too early", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
first.join()
"""
FORKED = """
import os, sys
from pathlib import Path
from pytest_agentlimit.endpoints.inflight import Turnstile
turnstile = Turnstile(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
with turnstile.turn():
    if os.fork() == 0:
        with turnstile.turn() as turn:
            print("in", turn.inflight_start, flush=True)
        print("out", turn.inflight_end, flush=True)
    sys.stdin.readline()
"""
# A time-out that raises wherever it finds the trial, as pytest-timeout's does.
INTERRUPTED_ANYWHERE = """
import random, signal, sys
from pathlib import Path
from pytest_agentlimit.endpoints.inflight import Turnstile
turnstile = Turnstile(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
class Late(Exception): pass
def late(*_): raise Late
signal.signal(signal.SIGALRM, late)
dice = random.Random(7)
hits = 0
for _ in range(600):
    try:
        signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, 4e-4))
        with turnstile.turn():
            pass
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Late:
        hits += 1
with turnstile.turn() as turn:
    pass
print("hit" if hits > 50 else "missed", turn.inflight_start, turn.inflight_end, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def callers(start):
    def start_some(number: int, places: int = 1) -> list[Process]:
        some = [start(CALLER, places) for _ in range(number)]
        assert [caller.heard() for caller in some] == ["ready"] * number
        return some

    return start_some


@pytest.fixture
def turnstile(tmp_path):
    return Turnstile(KEY, 1, tmp_path / "locks")


@pytest.fixture
def someone_waits(tmp_path):
    def wait_for_it() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for path in (tmp_path / "locks").glob("*/queue"):
                with path.open("ab") as queue:
                    try:
                        fcntl.flock(queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        return
            time.sleep(0.005)
        raise AssertionError("nobody stands in line")

    return wait_for_it


@pytest.mark.parametrize("places", [1, 2])
def test_processes_that_hammer_are_never_more_than_the_places(start, tmp_path, places):
    assert start(HAMMER, places, tmp_path / "log", 2000).popen.wait(PATIENCE_S) == 0
    inside = 0
    most = 0
    for line in (tmp_path / "log").read_text().split():
        inside += {">": 1, "<": -1}.get(line, 0)
        most = max(most, inside)
    assert (most, inside) == (places, 0)


@pytest.mark.parametrize("places", [1, 2, 4])
def test_counts_are_exact_however_short_the_calls(start, tmp_path, places):
    assert start(HAMMER, places, tmp_path / "log", 1).popen.wait(PATIENCE_S) == 0
    lines = (tmp_path / "log").read_text().split()
    starts = Counter(int(line[1:]) for line in lines if line[0] == "+")
    ends = Counter(int(line[1:]) for line in lines if line[0] == "-")
    # For each caller who comes as the n-th, one leaves while there are n.
    assert starts == ends
    assert starts.total() == 6 * 30
    assert max(starts) <= places


def test_counts_are_those_of_the_moment(callers, someone_waits):
    first, second, third = callers(3, places=2)
    assert enters(first) == "in 1"
    assert enters(second) == "in 2"
    third.tell()
    someone_waits()
    assert leaves(first) == "out 2"
    assert third.heard() == "in 2"
    assert leaves(second) == "out 2"
    assert leaves(third) == "out 1"
    assert enters(first) == "in 1"


def test_a_place_comes_free_when_its_holder_is_killed(callers, someone_waits):
    holder, waiter = callers(2)
    assert enters(holder) == "in 1"
    waiter.tell()
    someone_waits()
    holder.kill()
    assert waiter.heard() == "in 1"
    assert leaves(waiter) == "out 1"


def test_a_killed_waiter_stands_in_nobodys_way(callers, someone_waits):
    holder, killed, waiter = callers(3)
    assert enters(holder) == "in 1"
    killed.tell()
    someone_waits()
    waiter.tell()
    killed.kill()
    assert leaves(holder) == "out 1"
    assert waiter.heard() == "in 1"


def test_an_interrupted_waiter_leaves_the_line(callers, someone_waits):
    holder, interrupted, waiter = callers(3)
    assert enters(holder) == "in 1"
    interrupted.tell()
    someone_waits()
    interrupted.popen.send_signal(signal.SIGINT)
    assert interrupted.heard() == "interrupted"
    waiter.tell()
    someone_waits()
    assert leaves(holder) == "out 1"
    assert waiter.heard() == "in 1"
    assert leaves(waiter) == "out 1"
    assert enters(interrupted) == "in 1"


def test_an_interrupt_does_not_wait_for_a_thread_in_the_line(callers, start, someone_waits):
    (holder,) = callers(1)
    assert enters(holder) == "in 1"
    program = start(BEHIND_A_THREAD)
    assert program.heard() == "ready"
    someone_waits()
    program.tell()
    assert program.heard() == "interrupted"
    assert leaves(holder) == "out 1"
    assert program.heard() == "in 1"
    assert program.popen.wait(PATIENCE_S) == 0


def test_a_timeout_may_raise_anywhere(callers, start):
    program = start(INTERRUPTED_ANYWHERE)
    assert program.heard() == "hit 1 1"
    (other,) = callers(1)
    assert enters(other) == "in 1"


def test_an_interrupt_after_any_lock_leaves_nothing_locked(turnstile, callers, monkeypatch):
    (other,) = callers(1)
    flock = fcntl.flock
    for moment in count(1):
        left = moment

        def interrupted(file: io.FileIO, kind: int) -> None:
            nonlocal left
            left -= 1
            try:
                flock(file, kind)
            finally:
                if left == 0:
                    raise KeyboardInterrupt

        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(fcntl, "flock", interrupted)
            with turnstile.turn():
                pass
        assert enters(other) == "in 1"
        assert leaves(other) == "out 1"
        if left > 0:
            break
    assert moment > 5


def test_an_interrupt_at_any_step_leaves_nothing_locked(turnstile, callers):
    (other,) = callers(1)
    before = sys.gettrace()
    for moment in count(1):
        left = moment

        def interrupt(frame: FrameType, event: str, arg: object) -> None:
            nonlocal left
            code = frame.f_code
            # Signals are seen where a function begins; an exit has not begun to work there.
            if code.co_filename.endswith("inflight.py") and code.co_name != "__exit__":
                left -= 1
                if left == 0:
                    raise KeyboardInterrupt

        with suppress(KeyboardInterrupt):
            turn = turnstile.turn()
            sys.settrace(interrupt)
            with turn:
                pass
        sys.settrace(before)
        assert enters(other) == "in 1"
        assert leaves(other) == "out 1"
        if left > 0:
            break
    assert moment > 10


def test_an_error_at_the_end_gives_the_place_back(turnstile, callers, monkeypatch):
    def unsupported(*_: object) -> None:
        raise OSError(37, "No locks available")

    (other,) = callers(1)
    with monkeypatch.context() as patch, turnstile.turn() as turn:
        patch.setattr(fcntl, "flock", unsupported)
    assert (turn.inflight_start, turn.inflight_end) == (1, None)
    assert enters(other) == "in 1"


def test_a_forked_child_is_a_caller_of_its_own(callers, start):
    program = start(FORKED, 2)
    assert program.heard() == "in 2"
    assert program.heard() == "out 2"
    program.kill()  # the child lives on, with copies of everything its parent had open
    (other,) = callers(1, places=2)
    assert enters(other) == "in 1"


def test_the_stricter_session_is_not_disturbed(callers, someone_waits):
    (strict,), (loose,) = callers(1, places=1), callers(1, places=4)
    assert enters(strict) == "in 1"
    loose.tell()
    someone_waits()
    assert leaves(strict) == "out 1"
    assert loose.heard() == "in 1"


def test_the_stricter_session_waits_for_everybody(callers, someone_waits):
    (strict,), loose = callers(1, places=1), callers(2, places=4)
    assert [enters(caller) for caller in loose] == ["in 1", "in 2"]
    strict.tell()
    someone_waits()
    assert [leaves(caller) for caller in loose] == ["out 2", "out 1"]
    assert strict.heard() == "in 1"


def test_other_servers_have_lines_of_their_own(callers, tmp_path):
    (caller,) = callers(1)
    assert enters(caller) == "in 1"
    with Turnstile("http://localhost:8080", 1, tmp_path / "locks").turn() as turn:
        assert turn.inflight_start == 1


def test_a_burst_of_one_process_shares_its_place(turnstile, callers, someone_waits, tmp_path):
    everybody = threading.Barrier(3)
    go = threading.Event()
    same_server = Turnstile(KEY, 1, tmp_path / "locks")

    def call(number: int) -> tuple[int | None, int | None]:
        with (same_server if number else turnstile).turn() as turn:
            everybody.wait(PATIENCE_S)
            if number:
                assert go.wait(PATIENCE_S)
        return turn.inflight_start, turn.inflight_end

    (other,) = callers(1)
    with ThreadPoolExecutor(3) as pool:
        burst = [pool.submit(call, number) for number in range(3)]
        assert burst[0].result(PATIENCE_S) == (1, 1)
        other.tell()
        someone_waits()  # the first call is over, and the place is not free
        go.set()
        assert [call.result(PATIENCE_S) for call in burst] == [(1, 1)] * 3
        assert other.heard() == "in 1"


def test_a_turn_ends_with_any_exception(turnstile, callers):
    (other,) = callers(1)
    with pytest.raises(BaseException, match="anything"), turnstile.turn():
        raise BaseException("anything")
    assert enters(other) == "in 1"


def test_the_wait_is_told(turnstile, callers, someone_waits):
    (holder,) = callers(1)
    assert enters(holder) == "in 1"

    def call() -> tuple[float, float]:
        before = time.perf_counter()
        with turnstile.turn() as turn:
            return turn.waited_s, time.perf_counter() - before

    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(call)
        someone_waits()
        seen = time.perf_counter()
        for _ in range(20):
            someone_waits()
        still_waiting = time.perf_counter()
        leaves(holder)
        waited_s, longest = waiter.result(PATIENCE_S)
    assert still_waiting - seen <= waited_s <= longest


def test_without_locks_every_call_passes_with_one_warning(tmp_path, caplog):
    (tmp_path / "locks").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "agentlimit"):
        for _ in range(2):
            turnstile = Turnstile(KEY, 1, tmp_path / "locks")
            for _ in range(2):
                with turnstile.turn() as turn:
                    pass
                assert (turn.inflight_start, turn.inflight_end) == (None, None)
    (warning,) = caplog.messages
    assert "cannot lock in" in warning
    assert "Next: make that folder writable" in warning


def test_a_file_system_without_locks_is_no_error(turnstile, monkeypatch, tmp_path):
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with turnstile.turn() as turn:
        pass
    assert (turn.inflight_start, turn.inflight_end) == (None, None)


def test_locks_that_vanish_during_a_call_are_no_error(turnstile, tmp_path):
    with turnstile.turn() as turn:
        shutil.rmtree(tmp_path / "locks")
    assert (turn.inflight_start, turn.inflight_end) == (1, None)


def test_a_turnstile_without_places_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one place, not 0"):
        Turnstile(KEY, 0, tmp_path)

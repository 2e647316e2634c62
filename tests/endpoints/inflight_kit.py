"""Processes that stand in line at one endpoint, and do what a test tells them."""

from __future__ import annotations

import subprocess
import sys
import threading

KEY = "http://localhost:11434"
PATIENCE_S = 30

# Takes and leaves a turn with every line it is told, and says what it counted.
CALLER = """
import sys
from pathlib import Path
from pytest_agentlimit.endpoints.inflight import Turnstile
key, places, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
turnstile = Turnstile(key, places, folder)
print("ready", flush=True)
for command in sys.stdin:
    try:
        with turnstile.turn() as turn:
            print("in", turn.inflight_start, flush=True)
            sys.stdin.readline()
        print("out", turn.inflight_end, flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
# Forks children that all do `work` once they are told to, and fails when one of them does.
CROWD = """
import os, sys
from pathlib import Path
from pytest_agentlimit.endpoints.inflight import Turnstile
turnstile = Turnstile(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
def crowd(number, work):
    doors = [os.pipe() for _ in range(number)]
    children = []
    for mine, _ in doors:
        children.append(os.fork())
        if children[-1] == 0:
            for _, theirs in doors:
                os.close(theirs)
            os.read(mine, 1)
            try:
                work()
                os._exit(0)
            finally:
                os._exit(1)
    for _, theirs in doors:
        os.close(theirs)
    sys.exit(sum(os.waitpid(child, 0)[1] for child in children))
"""


class Process:
    """A process that does what one of the programs above says."""

    def __init__(self, program: str, *args: object) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        # What would hang for ever says nothing instead, and the test fails.
        self._patience = threading.Timer(PATIENCE_S, self.popen.kill)
        self._patience.start()

    def tell(self) -> None:
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def heard(self) -> str:
        return self.popen.stdout.readline().strip()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(PATIENCE_S)

    def close(self) -> None:
        self._patience.cancel()
        with self.popen:
            self.popen.kill()


def enters(caller: Process) -> str:
    """Return what a caller says when it is in."""
    caller.tell()
    return caller.heard()


leaves = enters
"""Return what a caller says when it is out."""

"""What every child process needs: its output read within bounds, its folder removed for sure."""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import time
from pathlib import Path
from typing import IO

TICK_S = 0.05


class BoundedOutput:
    """The first and the last bytes of a stream of any length."""

    def __init__(self, limit: int) -> None:
        self.half = (limit + 1) // 2
        self.head, self.tail, self.total = bytearray(), bytearray(), 0

    def add(self, chunk: bytes) -> None:
        """Take more of the stream."""
        self.total += len(chunk)
        room = self.half - len(self.head)
        self.head += chunk[:room]
        self.tail += chunk[room:]
        del self.tail[: -self.half]

    def text(self) -> str:
        """Return what was kept; a cut in the middle says how much it took."""
        cut = self.total - len(self.head) - len(self.tail)
        gap = f"\n[… {cut} bytes cut …]\n".encode() if cut else b""
        return (bytes(self.head) + gap + bytes(self.tail)).decode("utf-8", "replace")


def drain(
    process: subprocess.Popen[bytes],
    outputs: dict[IO[bytes], BoundedOutput],
    deadline: float,
    *,
    linger_s: float | None = None,
) -> bool:
    """Read until the end of all output and return True, or False at the deadline.

    A process that outlives the program may hold the pipes open: what it says after a moment of
    silence, or later than `linger_s` after the program's end, is not awaited.
    """
    with selectors.DefaultSelector() as selector:
        for pipe, output in outputs.items():
            if not pipe.closed:
                selector.register(pipe, selectors.EVENT_READ, output)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            ready = selector.select(min(left, TICK_S))
            for key, _ in ready:
                chunk = os.read(key.fd, 65_536)
                if chunk:
                    key.data.add(chunk)
                else:
                    selector.unregister(key.fileobj)
            if process.poll() is None:
                continue
            if not ready:
                return True
            if linger_s is not None:
                deadline, linger_s = min(deadline, time.monotonic() + linger_s), None
    return True


def remove_folder(folder: Path) -> None:
    """Remove a folder whatever a program made in it."""
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):  # folders closed to us, or deeper than Python can go
        opening = ["find", str(folder), "-type", "d", "-exec", "chmod", "u+rwx", "{}", ";"]
        subprocess.run(opening, check=False, capture_output=True)
        subprocess.run(["rm", "-rf", "--", str(folder)], check=False, capture_output=True)

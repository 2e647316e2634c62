"""Tries to do what the sandbox should prevent, and prints what it could not do.

Run inside the sandbox by `sandbox.protections`, never imported. Reads one JSON object from stdin:
`read` and `write` (paths outside), `tcp` and `udp` (ports), `secret` (an environment variable of
the caller), `parent` (the caller's process id), `memory_mb`, `file_mb`, `processes`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any


def main(job: dict[str, Any]) -> None:
    """Print a JSON object: for each protection, whether it stopped the attempt."""
    mebi = 1 << 20
    held = {
        "memory": refused(lambda: bytearray(2 * job["memory_mb"] * mebi)),
        "file_size": refused(lambda: write("big", b"x" * (job["file_mb"] + 1) * mebi)),
        "processes": refused(lambda: breed(job["processes"] + 8)),
        "network": refused(lambda: connect(job["tcp"])) and refused(lambda: send(job["udp"])),
        "filesystem": refused(lambda: read(job["read"]))
        and refused(lambda: write(job["write"], b"x"))
        and refused(lambda: os.chmod(job["read"], 0o600)),
        "environment": job["secret"] not in os.environ
        and refused(lambda: read(f"/proc/{job['parent']}/environ")),
    }
    print(json.dumps(held))


def refused(attempt: Callable[[], object]) -> bool:
    """Return whether `attempt` was stopped."""
    try:
        attempt()
    except (OSError, MemoryError):
        return True
    return False


def read(path: str) -> bytes:
    """Return the first bytes of a file."""
    with open(path, "rb") as file:
        return file.read(16)


def write(path: str, content: bytes) -> None:
    """Write a file."""
    with open(path, "wb") as file:
        file.write(content)


def breed(count: int) -> None:
    """Have `count` children alive at once."""
    children: list[int] = []
    try:
        for _ in range(count):
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)


def connect(port: int) -> None:
    """Open a TCP connection to the caller."""
    socket.create_connection(("127.0.0.1", port), timeout=1).close()


def send(port: int) -> None:
    """Send a datagram to the caller."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", port))


if __name__ == "__main__":
    main(json.load(sys.stdin))

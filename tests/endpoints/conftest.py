from __future__ import annotations

import socket

import pytest
from inflight_kit import CALLER, KEY, Process


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


@pytest.fixture
def start(tmp_path):
    """Starts processes at one turnstile, which end with the test."""
    started: list[Process] = []

    def start_one(program: str = CALLER, places: int = 1, *more: object) -> Process:
        started.append(Process(program, KEY, places, tmp_path / "locks", *more))
        return started[-1]

    yield start_one
    for process in started:
        process.close()

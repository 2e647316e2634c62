from __future__ import annotations

from collections.abc import Iterator

import pytest
from bridge_kit import Stage

from pytest_agentlimit.testing import say


@pytest.fixture(scope="module")
def shared_stage() -> Iterator[Stage]:
    with Stage().open() as stage:
        yield stage


@pytest.fixture
def stage(shared_stage: Stage) -> Iterator[Stage]:
    """A bridge to an openai upstream; the next reply is `stage.next`."""
    shared_stage.next = say("Hello.")
    shared_stage.upstream.requests.clear()
    yield shared_stage
    assert shared_stage.upstream.problems == []

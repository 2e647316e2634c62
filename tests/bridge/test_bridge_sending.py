from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pytest_agentlimit.bridge.sending import Answer, while_it_stays

Notes = list[str]
Work = Callable[[Answer, asyncio.Event, Notes], Awaitable[None]]


def played(work: Work) -> Notes:
    """Return what happened to `work`, whose client says that it is gone when the event is set."""
    notes: Notes = []

    async def main() -> None:
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            notes.append(message["type"])

        answer = Answer(send, "openai")
        try:
            task = asyncio.current_task()
            assert task is not None
            await while_it_stays(
                receive, answer, work(answer, gone, notes), lambda: notes.append("left")
            )
        finally:
            await asyncio.sleep(0)
            others = asyncio.all_tasks() - {task}
            notes.append(f"tasks left: {len(others)}")

    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        notes.append("cancelled")
    return notes


async def leaves_first(answer: Answer, gone: asyncio.Event, notes: Notes) -> None:
    gone.set()
    await asyncio.sleep(60)
    notes.append("went on")


async def leaves_after(answer: Answer, gone: asyncio.Event, notes: Notes) -> None:
    await answer.whole(b"{}")
    gone.set()  # a server says so of every client, as soon as its answer is complete
    await asyncio.sleep(0.01)
    notes.append("went on")


async def leaves_within(answer: Answer, gone: asyncio.Event, notes: Notes) -> None:
    await answer.part(b"data: 1", "text/event-stream", {})
    await leaves_first(answer, gone, notes)


SENT = ["http.response.start", "http.response.body"]


@pytest.mark.parametrize(
    ("work", "notes"),
    [
        (leaves_first, ["left", "tasks left: 0", "cancelled"]),
        (leaves_within, [*SENT, "left", "tasks left: 0", "cancelled"]),
        (leaves_after, [*SENT, "went on", "tasks left: 0"]),
    ],
)
def test_a_client_leaves(work: Work, notes: Notes) -> None:
    assert played(work) == notes


def test_work_that_fails_says_so() -> None:
    async def fails(answer: Answer, gone: asyncio.Event, notes: Notes) -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        played(fails)

"""Climbing a ladder: trials where they tell most, until the ceiling is known (METHOD 5).

The same seed and the same outcomes give the same trials, numbered alike: that is how a climb that
was killed goes on, and how several trials at once change nothing but the time it takes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from pytest_agentlimit.errors import Blame, EndpointError, UsageProblem
from pytest_agentlimit.measure.ceiling import Ceiling, CeilingSearch

MOST_INFRA = 5
"""So many trials in a row that infrastructure ended are the end of the climb."""


class Rung(NamedTuple):
    """One trial of a climb, as it is kept."""

    number: int
    level: int
    outcome: Literal["passed", "failed", "infra"]
    mode: str | None = None
    blame: Blame | None = None
    detail: str = ""
    latency_ms: float | None = None
    transcript: str = ""
    measures: Mapping[str, float] = {}


class ClimbStopped(EndpointError):
    """Infrastructure ended so many trials in a row that the climb was given up."""


class AttemptProblem(UsageProblem):
    """The attempt itself is broken: it raised, hung or returned something odd."""


Try = Callable[[int, int], Rung]
"""Makes one trial: level and number to what came of it; raises AttemptProblem."""


def climb(
    search: CeilingSearch,
    attempt: Try,
    *,
    width: int = 1,
    limit_s: float,
    known: Mapping[int, Rung] | None = None,
    tell: Callable[[Rung], None] = lambda rung: None,
) -> Ceiling:
    """Return the ceiling that `search` finds with `attempt`, `width` trials at a time.

    `known` are trials of an earlier part, by number. `tell` hears of each new one as it ends. A
    trial ended by infrastructure is no evidence: another one takes its place. Raises ClimbStopped
    when that happens again and again, AttemptProblem when an attempt takes more than `limit_s`,
    and what an attempt raises.
    """
    number = in_a_row = 0
    earlier = known or {}
    while waiting := search.next_levels(width):
        while waiting:
            batch = list(enumerate(waiting, number + 1))
            number += len(batch)
            waiting = []
            for rung in _batch(batch, attempt, limit_s, earlier, tell):
                if rung.outcome == "infra":
                    # Not those of an earlier part: the endpoint may be back.
                    in_a_row += rung.number not in earlier
                    waiting.append(rung.level)
                    _give_up_after(in_a_row, rung)
                else:
                    in_a_row = 0
                    search.record(rung.level, rung.outcome == "passed")
    return search.result()


def _batch(
    batch: Sequence[tuple[int, int]],
    attempt: Try,
    limit_s: float,
    earlier: Mapping[int, Rung],
    tell: Callable[[Rung], None],
) -> list[Rung]:
    """Return the trials of (number, level) in order; those that are known already are not made."""
    found = {
        number: earlier[number]
        for number, level in batch
        if number in earlier and earlier[number].level == level
    }
    ended: queue.SimpleQueue[Rung | BaseException] = queue.SimpleQueue()
    missing = [(number, level) for number, level in batch if number not in found]
    for number, level in missing:
        # A daemon: an attempt that hangs must not keep the process alive.
        threading.Thread(
            target=_try, args=(attempt, level, number, ended), name="agentlimit-climb", daemon=True
        ).start()
    for _ in missing:
        try:
            rung = ended.get(timeout=limit_s)
        except queue.Empty:
            left = [level for number, level in missing if number not in found]
            raise AttemptProblem(_hung(left, limit_s)) from None
        if isinstance(rung, BaseException):
            raise rung
        found[rung.number] = rung
        tell(rung)
    return [found[number] for number, _ in batch]


def _try(
    attempt: Try, level: int, number: int, ended: queue.SimpleQueue[Rung | BaseException]
) -> None:
    try:
        ended.put(attempt(level, number))
    except BaseException as error:  # it is raised again where the climb waits
        ended.put(error)


def _hung(levels: Sequence[int], limit_s: float) -> str:
    return (
        f"an attempt at level {levels[0]} did not end within {limit_s:g} s, and was not waiting "
        "for the model all that time. Next: look for a loop or a lock in the attempt or in its "
        "tools, or give climb(…, timeout=…) more"
    )


def _give_up_after(in_a_row: int, rung: Rung) -> None:
    if in_a_row >= MOST_INFRA:
        raise ClimbStopped(
            f"the climb was given up: {in_a_row} trials in a row came to no end, the last one at "
            f"level {rung.level}: {rung.detail}",
            kind="climb_stopped",
            blame=rung.blame or "network",
            hint="What was found is kept; when the endpoint is back, --agent-resume goes on",
        )

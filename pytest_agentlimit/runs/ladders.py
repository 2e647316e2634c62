"""What a climb came to: the ceiling, worked out again from its trials, and how it fails above."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from pytest_agentlimit.errors import Blame
from pytest_agentlimit.measure.ceiling import Ceiling, CeilingSearch
from pytest_agentlimit.runs.records import LadderRecord, RungRecord
from pytest_agentlimit.text import one_line

_MOST_MODES = 3


class Climb(NamedTuple):
    """A climb and what its trials lead to."""

    ladder: LadderRecord
    ceiling: Ceiling
    """Its `ended` is open when the climb was cut short, in whatever phase."""


def climb_of(ladder: LadderRecord) -> Climb | None:
    """Return a climb with its ceiling, None when it never began.

    The trials are given to the search in the batches they were made in, so that it takes the same
    turns as in the run.
    """
    if not ladder.levels:
        return None
    search = CeilingSearch(ladder.levels, ladder.reliability, ladder.seed, at_least=ladder.at_least)
    made = iter(sorted(ladder.rungs, key=lambda rung: rung.number))
    while levels := search.next_levels(ladder.width):
        missing = len(levels)
        for rung in made:
            if rung.outcome != "infra":
                search.record(rung.level, rung.outcome == "passed")
                missing -= 1
            if not missing:
                break
        else:
            return Climb(ladder, search.result()._replace(ended="open"))
    return Climb(ladder, search.result())


def ceiling_of(ladder: LadderRecord) -> Ceiling | None:
    """Return the ceiling that the trials of a climb lead to, None when it never began."""
    climb = climb_of(ladder)
    return None if climb is None else climb.ceiling


def first_failures(ladder: LadderRecord, ceiling: Ceiling) -> list[RungRecord]:
    """Return the failed trials of the first rung above the ceiling that has any, in order."""
    above = [rung for rung in ladder.rungs if rung.level > ceiling.ceiling]
    failed = [rung for rung in above if rung.outcome == "failed"]
    lowest = min((rung.level for rung in failed), default=None)
    return [rung for rung in failed if rung.level == lowest]


def modes_of(rungs: list[RungRecord]) -> dict[str, int]:
    """Return how many of `rungs` failed in each mode, the most frequent first."""
    return dict(Counter(rung.mode or "wrong_final" for rung in rungs).most_common())


def blame_of(ladder: LadderRecord) -> Blame:
    """Return who has to act on a climb that ended too low: most of its first failures say."""
    ceiling = ceiling_of(ladder)
    failed = [] if ceiling is None else first_failures(ladder, ceiling)
    blames = Counter(rung.blame for rung in failed if rung.blame is not None)
    return blames.most_common(1)[0][0] if blames else "model"


def climb_lines(ladder: LadderRecord, ceiling: Ceiling) -> Iterator[str]:
    """Yield what a climb found, in lines for the person whose test failed."""
    unit = f" {one_line(ladder.unit, 40)}" if ladder.unit else ""
    found = f"ceiling {ceiling.ceiling}{unit}"
    if ceiling.at_least is not None:
        found = "where the ceiling is was not looked for"
    yield (
        f"{found}; at reliability {ladder.reliability:g} its 90 % interval is "
        f"{ceiling.low}–{ceiling.high}, n = {ceiling.trials} trials"
    )
    tried = [tally for tally in ceiling.counts if tally.trials]
    yield "level: " + ", ".join(f"{one.level}: {one.passes}/{one.trials}" for one in tried)
    failed = first_failures(ladder, ceiling)
    if failed:
        modes = list(modes_of(failed).items())[:_MOST_MODES]
        shown = ", ".join(f"{mode} ×{number}" for mode, number in modes)
        yield f"first failures, at level {failed[0].level}: {shown}"
        yield f"blame: {blame_of(ladder)}; for example: {one_line(failed[0].detail, 300)}"
        if failed[0].transcript:
            yield failed[0].transcript

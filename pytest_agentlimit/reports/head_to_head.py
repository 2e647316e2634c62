"""Models side by side, in words: the table, the gap, the speed, and one sentence for each pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.measure.compare import SpeedRatio
from pytest_agentlimit.reports import numbers
from pytest_agentlimit.reports.facts import Fact
from pytest_agentlimit.runs.baseline import against, changes, pick
from pytest_agentlimit.runs.comparisons import ALPHA, Speed, counts_of, speed_of, unlike
from pytest_agentlimit.runs.names import check_name
from pytest_agentlimit.runs.points import gap, p_number, p_value, points
from pytest_agentlimit.runs.records import Manifest
from pytest_agentlimit.runs.schema import ComparisonPart
from pytest_agentlimit.runs.sides import Side, SideCheck, SideLadder
from pytest_agentlimit.runs.trials import ModelTrials
from pytest_agentlimit.text import one_line

SAME = "same fingerprint"


@dataclass(frozen=True)
class Column:
    """One column of the table; its header is that of the report."""

    header: str
    align: Literal["left", "right"]


@dataclass(frozen=True)
class SideRow:
    """One check: a text for each column."""

    file: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class SideTable:
    """Checks with the counts and medians of two or more models."""

    columns: tuple[Column, ...]
    rows: tuple[SideRow, ...]


@dataclass(frozen=True)
class Pair:
    """One model against another."""

    title: str
    table: SideTable
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class HeadToHead:
    """All pairs of two or more models."""

    title: str
    table: SideTable
    """All models at once; for two models that of their pair."""
    pairs: tuple[Pair, ...]
    caveats: tuple[Fact, ...] = ()
    """What to keep in mind about all pairs together."""


def of_sides(
    sides: Sequence[Side], parts: Sequence[ComparisonPart], caveats: tuple[Fact, ...] = ()
) -> HeadToHead:
    """Return models side by side; `parts` are their comparisons, pair by pair in order.

    `caveats` are said after the last pair.
    """
    marks = [_mark(i) for i in range(len(sides))]
    shown = [f"{mark} {one_line(side.name, 60)}" for mark, side in zip(marks, sides, strict=True)]
    places = [(i, j) for i in range(len(sides)) for j in range(i + 1, len(sides))]
    pairs = tuple(
        Pair(
            title=f"{shown[i]} against {shown[j]}",
            table=_table([sides[i], sides[j]], [marks[i], marks[j]]),
            facts=of_pair(sides[i], sides[j], part, (marks[i], marks[j])),
        )
        for (i, j), part in zip(places, parts, strict=True)
    )
    if len(pairs) == 1:
        return HeadToHead(pairs[0].title, pairs[0].table, pairs, caveats)
    caveat = f"{len(pairs)} pairs, each judged on its own: with more pairs, more chance finds"
    several = Fact("keep in mind", (caveat,), "odd")
    return HeadToHead(" · ".join(shown), _table(sides, marks), pairs, (several, *caveats))


def of_pair(a: Side, b: Side, part: ComparisonPart, marks: tuple[str, str]) -> tuple[Fact, ...]:
    """Return what is said of two models, the verdict last; `marks` stand for them in short."""
    found = [
        _difference(a, b, part),
        _detectable(part),
        _speed(a, b),
        *_ladders(a, b, part, marks),
        _verdict(part),
    ]
    return tuple(fact for fact in found if fact is not None)


def changed(a: Side, b: Side) -> Fact:
    """Return what differs between what served two sides, from the first to the second."""
    return Fact("served by", tuple(changes(a.fingerprint, b.fingerprint)) or (SAME,))


def baseline_facts(trials: ModelTrials, manifest: Manifest) -> tuple[Fact, ...]:
    """Return how a model stands against the baseline of the gate, and what changed since.

    Empty without a baseline.
    """
    lock = manifest.gate.baseline
    if lock is None:
        return ()
    try:
        locked = pick(lock, trials.name)
    except UsageProblem:
        return (Fact("baseline", ("none for this model: see the gate",), "odd"),)
    one, other = against(trials, manifest.shape, lock)
    said = f"{one_line(locked.name, 60)} of run {one_line(lock.run_id, 60)}"
    counts = counts_of(one, other)
    if unlike(one, other) or not counts.a:
        return (Fact("baseline", (f"cannot be compared with {said}: see the gate",), "odd"),)
    seen = f"{gap(*counts.differ())} against {said}, {counts.size}"
    return (Fact("baseline", (seen, *(changes(locked.fingerprint, one.fingerprint) or [SAME]))),)


def _mark(index: int) -> str:
    return ascii_uppercase[index] if index < len(ascii_uppercase) else f"M{index + 1}"


def _table(sides: Sequence[Side], marks: Sequence[str]) -> SideTable:
    """Return the checks that any side was scored on; with two sides there is a sign."""
    sign = [Column(f"{marks[0]}−{marks[1]}", "left")] if len(sides) == 2 else []
    columns = (
        Column("check", "left"),
        Column("weight", "right"),
        *(Column(mark, "right") for mark in marks),
        *sign,
        *(Column(f"{mark} P50", "right") for mark in marks),
    )
    checks = dict.fromkeys(check for side in sides for check in side.checks)
    return SideTable(columns, tuple(_row(check, sides) for check in checks))


def _row(check: str, sides: Sequence[Side]) -> SideRow:
    found = [side.checks.get(check) for side in sides]
    known = [one for one in found if one is not None]
    texts = (
        check_name(check),
        f"{known[0].weight:g}",
        *(f"{one.passes:g}/{one.trials:g}" if one else numbers.NOTHING for one in found),
        *([_sign(*found)] if len(found) == 2 else []),
        *(numbers.duration(one.p50_ms if one else None) for one in found),
    )
    return SideRow(one_line(check.partition("::")[0]) if "::" in check else "", texts)


def _sign(a: SideCheck | None, b: SideCheck | None) -> str:
    if a is None or b is None:
        return numbers.NOTHING
    one, other = a.passes / a.trials, b.passes / b.trials
    return "=" if one == other else "+" if one > other else "−"


def _difference(a: Side, b: Side, part: ComparisonPart) -> Fact:
    if part.difference is None or part.low is None or part.high is None or part.p_value is None:
        return Fact("difference", (numbers.NOT_MEASURED,))
    counts = counts_of(a, b)
    parts = [
        f"{gap(part.difference, part.low, part.high)}, 95 % interval",
        f"{p_value(part.p_value)} (label swap)",
        counts.size,
    ]
    alone = len({*a.checks} ^ {*b.checks})
    if alone:
        parts.append(f"{numbers.count(alone, 'check')} left out: scored on one side only")
    return Fact("difference", tuple(parts))


def _detectable(part: ComparisonPart) -> Fact | None:
    if part.smallest_detectable is None:
        return None
    seen = f"{points(part.smallest_detectable)} could have been seen, 4 times in 5"
    if part.smallest_detectable > 1:
        seen = "not even 100 points could have been seen 4 times in 5"
    return Fact("smallest gap", (seen,))


def _speed(a: Side, b: Side) -> Fact:
    speed = speed_of(a, b)
    left_out = numbers.count(speed.timeouts, "check") + " with a timeout left out"
    more = [left_out] if speed.timeouts else []
    if "report" in (a.source, b.source):
        more.append("from the medians in the report file")
    if speed.ratio is None:
        return Fact("speed", (f"{numbers.NOT_MEASURED}: {_no_speed(a, b, speed)}",))
    return Fact("speed", (*_speed_parts(a, b, speed.ratio), *more))


def _no_speed(a: Side, b: Side, speed: Speed) -> str:
    if "lock" in (a.source, b.source):
        return "a lock holds no latencies"
    if speed.timeouts:
        return f"a trial of each of {numbers.count(speed.timeouts, 'check')} timed out"
    return "no check has a latency on both sides"


def _speed_parts(a: Side, b: Side, ratio: SpeedRatio) -> list[str]:
    """Claim that one is faster only where the sign flip and the interval both say so."""
    test = f"{p_value(ratio.sign_p)} (sign), {p_number(ratio.p)} (sign flip)"
    n = numbers.count(ratio.n, "check")
    if ratio.low is None or ratio.high is None:
        return ["no difference in speed shown: not enough checks (n = 1, need 2 for an interval)"]
    if ratio.p <= ALPHA and (ratio.low > 1 or ratio.high < 1):
        slower = ratio.low > 1
        name, wins = (b.name, ratio.b_faster) if slower else (a.name, ratio.a_faster)
        times = (ratio.value, ratio.low, ratio.high)
        value, low, high = times if slower else (1 / times[0], 1 / times[2], 1 / times[1])
        seen = f"{value:.2f} times ({low:.2f}–{high:.2f})"
        return [f"{one_line(name, 60)} is faster in {wins} of {n}: {seen}", test]
    seen = f"{one_line(a.name, 60)} takes {ratio.value:.2f} times as long"
    interval = f"({ratio.low:.2f}–{ratio.high:.2f})"
    return [f"no difference in speed shown: {seen} {interval}", f"n = {n}", test]


def _ladders(a: Side, b: Side, part: ComparisonPart, marks: tuple[str, str]) -> Iterator[Fact]:
    """Yield how likely each ceiling of a is the higher one, or why that cannot be said."""
    compared = {(pair.id, pair.trial): pair for pair in part.ladders}
    climbs = Counter(check for check, _ in a.ladders)
    for key, one in a.ladders.items():
        other, pair = b.ladders.get(key), compared.get(key)
        if other is None:
            continue
        check, trial = key
        name = check_name(check) + (f", trial {trial}" if climbs[check] > 1 else "")
        if pair is None:
            yield Fact("ladder", (f"{name}: not compared, other levels or reliability",), "odd")
            continue
        higher, tied = numbers.chance(pair.p_higher), numbers.chance(pair.p_tied)
        said = f"{name}: P({marks[0]} above {marks[1]}) {higher}, tied {tied}"
        yield Fact("ladder", (said, *map(_ceiling, marks, (one, other))))


def _ceiling(mark: str, one: SideLadder) -> str:
    found = str(one.ceiling) if one.ceiling else f"not even {one.levels[0]}"
    return f"{mark} {found} (90 %: {one.low}–{one.high}, n = {one.trials})"


def _verdict(part: ComparisonPart) -> Fact:
    return Fact("verdict", (one_line(part.verdict, 500),), "strong")

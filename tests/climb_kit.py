"""Climbs without a model: what a search asks for, answered by a rule."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from pytest_agentlimit.measure.ceiling import CeilingSearch
from pytest_agentlimit.runs.records import LadderRecord, RungRecord

LEVELS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
MODES = ("wrong_final", "loop", "wrong_final")

Rule = Callable[[int], bool]


def up_to(highest: int) -> Rule:
    """Pass every level up to one, and none above it."""
    return lambda level: level <= highest


def all_but(dip: int, highest: int) -> Rule:
    """Pass every level up to one, but for one below it."""
    return lambda level: level <= highest and level != dip


def climbed(
    rule: Rule,
    *,
    name: str = "chain",
    unit: str = "hops",
    levels: Sequence[int] = LEVELS,
    reliability: float = 0.8,
    at_least: int | None = None,
    most: int = 1000,
    infra: Collection[int] = (),
    **failure: Any,
) -> LadderRecord:
    """The record of a climb of at most `most` trials; those numbered in `infra` are no evidence.

    `failure` goes into the trials that failed.
    """
    search = CeilingSearch(levels, reliability, 1, at_least=at_least)
    rungs: list[RungRecord] = []
    while len(rungs) < most and (level := search.next_level()) is not None:
        number = len(rungs) + 1
        if number in infra:
            rungs.append(
                RungRecord(
                    number=number, level=level, outcome="infra", mode="transport_error",
                    blame="network", detail="HTTP 503",
                )
            )  # fmt: skip
            continue
        passed = rule(level)
        search.record(level, passed)
        lost: dict[str, Any] = {
            "mode": MODES[number % 3],
            "blame": "model",
            "detail": f"expected 7 at level {level}, got 8",
            "transcript": "call: hop {}\nresult: 8\nmodel: it is 8\nend: answered",
        }
        rungs.append(
            RungRecord(
                number=number,
                level=level,
                outcome="passed" if passed else "failed",
                latency_ms=100.0 * level + number,
                **({} if passed else lost | failure),
            )
        )
    return LadderRecord(
        name=name,
        unit=unit,
        levels=tuple(levels),
        reliability=reliability,
        at_least=at_least,
        seed=1,
        rungs=tuple(rungs),
    )

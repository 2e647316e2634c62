"""What the trials of a ladder say about its ceiling: a posterior on a grid of curves (METHOD 5).

A curve is p(L) = (1 − lapse)·exp(−ln 2·(L/m)^k): the chance to pass at level L, which halves at m,
as a constant risk per step (k = 1) or as a cliff (k ≥ 2). Each curve of the grid, a cell, has a
ceiling; what is known of the ceiling is the weight of the cells that share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from itertools import groupby
from operator import add, mul
from typing import NamedTuple

STEEPNESSES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.3, 16.0)
LAPSES = (0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2)
CLIFF = 2.0
"""From this steepness on, a fall is a cliff."""
LAPSE_SCALE = 0.12
LEAST_CHANCE = 1e-4
"""No curve is surer than this of a pass or of a miss, so one odd trial never rules all out."""
ROUNDER = 1.5 * 2.0**12
"""Added and taken away, it rounds to multiples of 2**-40, whose sums are exact up to thousands:
logarithms so rounded add up to the same whatever the order of the trials."""
NEGLIGIBLE = 1e-9
"""Groups of cells with less weight than this tell nothing about where to try next."""

Question = Callable[[int, bool], int]
"""Sorts cells by their rungs passed and whether they are cliffs into the answers looked for."""


class _Cell(NamedTuple):
    """One curve, by what is asked of it: rungs up to its ceiling, cliff or not, and itself."""

    rungs: int
    cliff: bool
    log_m: float
    steepness: float
    lapse: float


class _Block(NamedTuple):
    """Neighbouring cells with as many rungs, all of them cliffs or none."""

    rungs: int
    cliff: bool
    cells: slice
    chances: tuple[list[float], ...]
    """The chance to pass a trial, by rung and cell."""


class Grid:
    """The curves a ladder of `levels` may follow, with all that does not depend on trials.

    Rungs are counted from 0; `levels` rise. Weights are lists with one number per cell.
    """

    def __init__(self, levels: Sequence[int], reliability: float) -> None:
        logs = [math.log2(level) for level in levels]
        cells = sorted(_cells(logs, reliability))
        self.levels = tuple(levels)
        self.prior = [_rounded(-cell.lapse / LAPSE_SCALE) for cell in cells]
        """The logarithms of the weights before any trial, up to a constant."""
        chances = [_chances(cells, log) for log in logs]
        self._passed = [[_rounded(math.log(p)) for p in column] for column in chances]
        self._missed = [[_rounded(math.log1p(-p)) for p in column] for column in chances]
        self._costs = [math.sqrt(level + 2) for level in levels]
        self._blocks = _blocks(cells, chances)

    def after(self, logs: list[float], rung: int, passed: bool) -> list[float]:
        """Return the logarithms of the weights after one more trial on a rung."""
        return list(map(add, logs, (self._passed if passed else self._missed)[rung]))

    def weigh(self, logs: list[float]) -> list[float]:
        """Return the weights, sum 1."""
        top = max(logs)
        raw = list(map(math.exp, [log - top for log in logs]))
        scale = 1 / sum(raw)
        return [weight * scale for weight in raw]

    def rungs(self, weights: list[float]) -> tuple[float, ...]:
        """Return the chance that the ceiling is 0, 1, 2 … rungs high."""
        found = [0.0] * (len(self.levels) + 1)
        for block in self._blocks:
            found[block.rungs] += sum(weights[block.cells])
        return tuple(found)

    def cliff(self, weights: list[float]) -> float:
        """Return the chance that the fall is a cliff."""
        return sum(sum(weights[b.cells]) for b in self._blocks if b.cliff)

    def chance(self, weights: list[float], rung: int) -> float:
        """Return the chance to pass one trial on a rung."""
        return sum(sum(map(mul, weights[b.cells], b.chances[rung])) for b in self._blocks)

    def worth(self, weights: list[float], question: Question) -> list[float]:
        """Return what a trial on each rung tells about a question, for its cost.

        That is the mutual information of its outcome and the answer, in nats, divided by
        (level + 2)^0.5. Source: METHOD 5.
        """
        masses: dict[int, float] = {}
        passes: dict[int, list[float]] = {}
        for block in self._blocks:
            part = weights[block.cells]
            mass = sum(part)
            if mass <= NEGLIGIBLE:
                continue
            answer = question(block.rungs, block.cliff)
            masses[answer] = masses.get(answer, 0.0) + mass
            hits = [sum(map(mul, part, chances)) for chances in block.chances]
            passes[answer] = list(map(add, passes[answer], hits)) if answer in passes else hits
        found = [_information(masses.values(), hits) for hits in zip(*passes.values(), strict=True)]
        return [nats / cost for nats, cost in zip(found, self._costs, strict=True)]


@lru_cache(maxsize=8)
def grid(levels: tuple[int, ...], reliability: float) -> Grid:
    """Return the grid of a ladder, built once: it is never written to."""
    return Grid(levels, reliability)


def quantile(chances: Sequence[float], share: float) -> int:
    """Return the lowest rung that `share` of the weight does not exceed."""
    total = 0.0
    for rung, chance in enumerate(chances):
        total += chance
        if total >= share - 1e-12:
            return rung
    return len(chances) - 1


def _cells(logs: Sequence[float], reliability: float) -> list[_Cell]:
    halves = [quarter / 4 for quarter in range(-6, math.floor(4 * (logs[-1] + 2) + 1e-9) + 1)]
    found = []
    for log_m in halves:
        for k in STEEPNESSES:
            for lapse in LAPSES:
                ceiling = _log_ceiling(log_m, k, lapse, reliability)
                rungs = sum(log <= ceiling for log in logs)
                found.append(_Cell(rungs, k >= CLIFF, log_m, k, lapse))
    return found


def _log_ceiling(log_m: float, steepness: float, lapse: float, reliability: float) -> float:
    """Return log2 of the highest level a curve passes with `reliability`, −inf if there is none."""
    if 1 - lapse <= reliability + 1e-12:
        return -math.inf
    return log_m + math.log2(math.log2((1 - lapse) / reliability)) / steepness


def _chances(cells: Sequence[_Cell], log_level: float) -> list[float]:
    # 2**-1024 is beyond what is told apart, and beyond it lies an overflow.
    exponents = [min(cell.steepness * (log_level - cell.log_m), 10.0) for cell in cells]
    raw = [(1 - c.lapse) * 2.0 ** -(2.0**x) for c, x in zip(cells, exponents, strict=True)]
    return [min(max(p, LEAST_CHANCE), 1 - LEAST_CHANCE) for p in raw]


def _blocks(cells: list[_Cell], chances: list[list[float]]) -> list[_Block]:
    blocks, start = [], 0
    for (rungs, cliff), members in groupby(cells, key=lambda cell: (cell.rungs, cell.cliff)):
        place = slice(start, start + len(list(members)))
        blocks.append(_Block(rungs, cliff, place, tuple(column[place] for column in chances)))
        start = place.stop
    return blocks


def _rounded(value: float) -> float:
    return (value + ROUNDER) - ROUNDER


def _information(masses: Collection[float], passes: Collection[float]) -> float:
    """Return the mutual information of answer and outcome, in nats, from sums for each answer."""
    mass, passed = sum(masses), sum(passes)
    found = _xlogx(mass) - _xlogx(passed) - _xlogx(mass - passed)
    for weight, hit in zip(masses, passes, strict=True):
        found += _xlogx(hit) + _xlogx(weight - hit) - _xlogx(weight)
    return found


def _xlogx(x: float) -> float:
    return x * math.log(x) if x > 0 else 0.0

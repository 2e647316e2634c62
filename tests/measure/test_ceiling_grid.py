from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentlimit.measure.ceiling_grid import Grid, grid, quantile

LEVELS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
SEEN = {4: (3, 3), 8: (4, 4), 12: (3, 5), 16: (1, 4), 24: (0, 2)}
"""METHOD 5's reference: level, passes, trials."""


def after(table: Grid, seen: dict[int, tuple[int, int]]) -> list[float]:
    logs = table.prior
    for level, (passes, trials) in seen.items():
        for number in range(trials):
            logs = table.after(logs, table.levels.index(level), number < passes)
    return table.weigh(logs)


def ceiling(rungs: int, cliff: bool) -> int:
    return rungs


def best(worths: list[float]) -> int:
    return LEVELS[worths.index(max(worths))]


class Curve:
    """A cell of the grid, written down a second time and plainly."""

    def __init__(self, m: float, k: float, lapse: float) -> None:
        self.k, self.prior = k, math.exp(-lapse / 0.12)
        raw = {level: (1 - lapse) * math.exp(-math.log(2) * (level / m) ** k) for level in LEVELS}
        self.p = {level: min(max(p, 1e-4), 1 - 1e-4) for level, p in raw.items()}
        held = 0.0 if 1 - lapse <= 0.8 else m * math.log2((1 - lapse) / 0.8) ** (1 / k)
        self.rungs = sum(level <= held for level in LEVELS)


CURVES = [
    Curve(2 ** (quarter / 4), k, lapse)
    for quarter, k, lapse in itertools.product(
        range(-6, 33),
        (0.5, 0.7, 1, 1.4, 2, 2.8, 4, 5.6, 8, 11.3, 16),
        (0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2),
    )
]


def plain_weights(seen: dict[int, tuple[int, int]]) -> list[float]:
    raw = [
        c.prior * math.prod(c.p[x] ** a * (1 - c.p[x]) ** (n - a) for x, (a, n) in seen.items())
        for c in CURVES
    ]
    return [w / math.fsum(raw) for w in raw]


def plain_worth(weights: list[float], level: int) -> float:
    joint: dict[tuple[int, bool], float] = {}
    for weight, curve in zip(weights, CURVES, strict=True):
        for passed, p in ((True, curve.p[level]), (False, 1 - curve.p[level])):
            key = curve.rungs, passed
            joint[key] = joint.get(key, 0.0) + weight * p
    rung: dict[int, float] = {}
    outcome: dict[bool, float] = {}
    for (held, passed), p in joint.items():
        rung[held] = rung.get(held, 0.0) + p
        outcome[passed] = outcome.get(passed, 0.0) + p
    told = [p * math.log(p / (rung[r] * outcome[o])) for (r, o), p in joint.items() if p]
    return math.fsum(told) / math.sqrt(level + 2)


def test_the_reference_posterior():
    table = grid(LEVELS, 0.8)
    weights = after(table, SEEN)
    rungs = table.rungs(weights)
    wanted = [0.031555, 0.015912, 0.018198, 0.026262, 0.076395, 0.150150, 0.559955]
    wanted += [0.118941, 0.002312, 0.000174, 0.000066, 0.000024, 0.000058]
    assert rungs == pytest.approx(wanted, abs=1e-6)
    assert [quantile(rungs, share) for share in (0.05, 0.5, 0.95)] == [2, 6, 7]
    assert table.cliff(weights) == pytest.approx(0.8296, abs=5e-5)


def test_a_fresh_search_begins_at_level_3():
    table = grid(LEVELS, 0.8)
    assert best(table.worth(table.weigh(table.prior), ceiling)) == 3


@pytest.mark.parametrize("seen", [{}, SEEN, {64: (1, 2), 2: (3, 3)}, {1: (0, 8)}])
def test_the_tables_do_what_the_formulas_say(seen):
    table = grid(LEVELS, 0.8)
    weights = after(table, seen)
    plain = plain_weights(seen)
    for rungs, chance in enumerate(table.rungs(weights)):
        of_curves = [w for w, c in zip(plain, CURVES, strict=True) if c.rungs == rungs]
        assert chance == pytest.approx(math.fsum(of_curves), abs=1e-9)
    of_cliffs = [w for w, c in zip(plain, CURVES, strict=True) if c.k >= 2]
    assert table.cliff(weights) == pytest.approx(math.fsum(of_cliffs), abs=1e-9)
    wanted = [plain_worth(plain, level) for level in LEVELS]
    assert table.worth(weights, ceiling) == pytest.approx(wanted, abs=1e-7)
    for rung, level in enumerate(LEVELS):
        chance = math.fsum(w * c.p[level] for w, c in zip(plain, CURVES, strict=True))
        assert table.chance(weights, rung) == pytest.approx(chance, abs=1e-9)


trials_of_rungs = st.lists(st.tuples(st.integers(0, 11), st.booleans()), max_size=90)


@settings(deadline=None, max_examples=25)
@given(trials_of_rungs, st.randoms(use_true_random=False))
def test_the_order_of_trials_changes_no_bit(trials, shuffler):
    table = grid(LEVELS, 0.8)

    def weights(order):
        logs = table.prior
        for rung, passed in order:
            logs = table.after(logs, rung, passed)
        return table.weigh(logs)

    shuffled = list(trials)
    shuffler.shuffle(shuffled)
    assert weights(trials) == weights(shuffled)


@settings(deadline=None, max_examples=25)
@given(trials_of_rungs, st.integers(1, 12))
def test_a_trial_tells_between_nothing_and_one_bit_and_less_of_a_coarser_question(trials, goal):
    table = grid(LEVELS, 0.8)
    logs = table.prior
    for rung, passed in trials:
        logs = table.after(logs, rung, passed)
    weights = table.weigh(logs)
    assert math.fsum(table.rungs(weights)) == pytest.approx(1)
    fine = table.worth(weights, ceiling)
    coarse = table.worth(weights, lambda rungs, cliff: rungs >= goal)
    for level, much, less in zip(LEVELS, fine, coarse, strict=True):
        assert -1e-6 <= less <= much + 1e-6
        assert much * math.sqrt(level + 2) <= math.log(2) + 1e-9


def test_more_misses_never_raise_a_ceiling():
    table = grid(LEVELS, 0.8)
    means = []
    for passes in range(6):
        rungs = table.rungs(after(table, {8: (passes, 5)}))
        means.append(sum(rung * chance for rung, chance in enumerate(rungs)))
    assert means == sorted(means)
    assert means[-1] - means[0] > 4


def test_the_highest_of_levels_overflow_nothing():
    table = Grid((1, 2**15, 2**30), 0.999)
    rng = random.Random(1)
    logs = table.prior
    for _ in range(200):
        logs = table.after(logs, rng.randrange(3), rng.random() < 0.5)
    weights = table.weigh(logs)
    assert math.fsum(table.rungs(weights)) == pytest.approx(1)
    assert all(map(math.isfinite, table.worth(weights, ceiling)))


def test_quantiles_of_whole_rungs():
    assert quantile((1.0, 0.0), 0.95) == 0
    assert quantile((0.0, 0.0, 1.0), 0.05) == 2
    assert quantile((0.5, 0.5), 0.5) == 0
    assert quantile((0.25, 0.25, 0.25, 0.25 - 1e-9), 1.0) == 3

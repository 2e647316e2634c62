"""Simulated models for ladders: for each kind, the chance to pass at a level."""

from __future__ import annotations

import math
from collections.abc import Callable

LEVELS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
RELIABILITY = 0.8

Model = Callable[[int], float]


def decay(half: float, lapse: float = 0.0, steepness: float = 1.0) -> Model:
    """Return a model that risks as much at each step and passes level `half` half the time."""
    return lambda level: (1 - lapse) * 2.0 ** -((level / half) ** steepness)


def logistic(half: float, slope: float) -> Model:
    """Return a model whose odds fall with the logarithm of the level."""
    return lambda level: 1 / (1 + math.exp(slope * math.log2(level / half)))


def stairs(*steps: tuple[float, float], then: float = 0.0) -> Model:
    """Return a model of constant chances up to given levels: (up to, chance), and `then`."""

    def chance(level: int) -> float:
        return next((p for top, p in steps if level <= top), then)

    return chance


def dipping(model: Model, at: int) -> Model:
    """Return a model that fails one level more than it should: .2."""
    return lambda level: 0.2 if level == at else model(level)


DECAYS: dict[str, Model] = {
    "decay from 8": decay(8),
    "decay from 24": decay(24),
    "decay from 64": decay(64),
    "decay from 16 with lapses": decay(16, 0.05),
}
MONOTONE: dict[str, Model] = DECAYS | {
    "steep fall at 12": decay(12, steepness=3),
    "logistic, 6, gentle": logistic(6, 1.5),
    "logistic, 12": logistic(12, 3),
    "logistic, 24": logistic(24, 2),
    "logistic, 40, sharp": logistic(40, 6),
    "cliff after 4": stairs((4, 0.97), then=0.03),
    "cliff after 12, no lapse": stairs((12, 1.0)),
    "cliff after 32": stairs((32, 0.95), then=0.05),
    "plateau of .6": stairs((8, 0.95), (32, 0.6), then=0.1),
    "plateau of .5": stairs((6, 0.9), then=0.5),
    "two steps, .98 .7 .2": stairs((4, 0.98), (16, 0.7), then=0.2),
    "two steps, .97 .5 .05": stairs((6, 0.97), (24, 0.5), then=0.05),
    "always": stairs(then=1.0),
    "never": stairs(),
}
CLIFFS = ("cliff after 4", "cliff after 12, no lapse", "cliff after 32")
DIPS: dict[str, Model] = {
    "dip at 2": dipping(stairs((24, 0.97), then=0.03), 2),
    "dip at 4": dipping(stairs((32, 0.97), then=0.03), 4),
    "dip at 6": dipping(logistic(24, 4), 6),
    "dip at 8": dipping(stairs(then=1.0), 8),
}


def rungs_of(model: Model) -> int:
    """Return how many rungs a model really holds."""
    return next((i for i, level in enumerate(LEVELS) if model(level) < RELIABILITY), len(LEVELS))

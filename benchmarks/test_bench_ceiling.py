"""Whether the ladder search finds ceilings as METHOD 5 promises, on simulated models.

The targets are stated for the search as a whole; trials and steps are shown for its first phase,
before the audit, as well.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import fmean
from typing import Any, ClassVar, NamedTuple

from budgets import Ledger, Row
from conftest import Sample
from ladder_models import (
    CLIFFS,
    DECAYS,
    DIPS,
    LEVELS,
    MONOTONE,
    RELIABILITY,
    rungs_of,
)

from pytest_agentlimit.measure.ceiling import Ceiling, CeilingSearch
from pytest_agentlimit.measure.ceiling_grid import Grid

SEEDS = 200
MODELS = MONOTONE | DIPS
RUNG_OF = {level: rung for rung, level in enumerate((0, *LEVELS))}


class Sharing(CeilingSearch):
    """A search that takes over what others worked out: simulated ones meet in the same counts."""

    known: ClassVar[dict[Any, Any]] = {}

    def _shared(self, work: Callable[[], Any]) -> Any:
        key = work.__name__, self._counts, self._phase, self._goal
        if key not in self.known:
            self.known[key] = work()
        return self.known[key]

    def _wanted(self) -> int:
        # What an audit wants depends on where the search ended, not on the counts alone.
        return super()._wanted() if self._phase == "audit" else self._shared(super()._wanted)

    def _chances(self) -> tuple[float, ...]:
        return self._shared(super()._chances)


class Climb(NamedTuple):
    """One search on one model of `held` rungs: what it found, and its cost before the audit."""

    kind: str
    held: int
    found: Ceiling
    search_trials: int
    search_steps: int

    @property
    def off(self) -> int:
        return abs(RUNG_OF[self.found.ceiling] - self.held)

    @property
    def covers(self) -> bool:
        return RUNG_OF[self.found.low] <= self.held <= RUNG_OF[self.found.high]


def climb(kind: str, seed: int) -> Climb:
    model, rng = MODELS[kind], random.Random(f"{kind}:{seed}")
    search = Sharing(LEVELS, RELIABILITY)
    path: list[int] = []
    searched = 0
    while (level := search.next_level()) is not None:
        if search._phase == "search":
            searched = len(path) + 1
        path.append(level)
        search.record(level, rng.random() < model(level))
    return Climb(kind, rungs_of(model), search.result(), searched, sum(path[:searched]))


def climbs_of(kind: str) -> list[Climb]:
    Sharing.known.clear()
    return [climb(kind, seed) for seed in range(SEEDS)]


def climbs(kinds: Iterable[str]) -> list[Climb]:
    """Return the climbs of all kinds, worked out on all cores."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return [one for found in pool.map(climbs_of, kinds) for one in found]


def worst_coverage(found: Sequence[Climb]) -> tuple[str, int]:
    hits = {kind: sum(c.covers for c in found if c.kind == kind) for kind in MONOTONE}
    kind = min(hits, key=hits.__getitem__)
    return kind, hits[kind]


def test_ceilings_of_monotone_models(benchmark: Any, ledger: Ledger) -> None:
    found = benchmark.pedantic(lambda: climbs(MONOTONE), rounds=1)
    what, n = f"ladder of {len(LEVELS)}, {len(MONOTONE)} kinds of model", len(found)
    ledger.number(f"{what}: trials", fmean(c.found.trials for c in found), "trials", n, 35)
    ledger.number(f"{what}: steps", fmean(c.found.steps for c in found), "steps", n, 350)
    searched = fmean(c.search_trials for c in found)
    ledger.number(f"{what}: trials before the audit", searched, "trials", n, 35)
    most = max(c.search_trials for c in found)
    ledger.number(f"{what}: most trials before the audit", most, "trials", n, 60)
    steps = fmean(c.search_steps for c in found)
    ledger.number(f"{what}: steps before the audit", steps, "steps", n, 350)
    covered = sum(c.covers for c in found)
    ledger.share(f"{what}: 90 % interval covers the ceiling", covered, n, 90, at_least=True)
    kind, hits = worst_coverage(found)
    ledger.share(f"{what}: the same, worst kind ({kind})", hits, SEEDS, 80, at_least=True)
    ledger.number(f"{what}: error", fmean(c.off for c in found), "rungs", n, 0.65)
    near = sum(c.off <= 1 for c in found)
    ledger.share(f"{what}: within one rung", near, n, 88, at_least=True)
    flags = sum(c.found.audit.dip is not None for c in found)
    ledger.share(f"{what}: false flags of a dip", flags, n, 3)
    decays = [c.found.shape for c in found if c.kind in DECAYS]
    ledger.share("ladder: decay called cliff", decays.count("cliff"), len(decays), 8)
    cliffs = [c.found.shape for c in found if c.kind in CLIFFS]
    share(ledger, "ladder: cliff called decay", cliffs.count("decay"), len(cliffs))
    share(ledger, "ladder: decay called decay", decays.count("decay"), len(decays))
    share(ledger, "ladder: cliff called cliff", cliffs.count("cliff"), len(cliffs))


def share(ledger: Ledger, what: str, hits: int, n: int) -> None:
    ledger.rows.append(Row(what, 100 * hits / n, "%", None, n))


def test_dips(benchmark: Any, ledger: Ledger) -> None:
    found = benchmark.pedantic(lambda: climbs(DIPS), rounds=1)
    flagged = sum(c.found.audit.dip is not None for c in found)
    what = f"ladder, a dip to .2, {len(DIPS)} kinds"
    ledger.share(f"{what}: flagged", flagged, len(found), 85, at_least=True)
    over = sum(RUNG_OF[c.found.ceiling] > c.held for c in found)
    share(ledger, f"{what}: ceiling put above it", over, len(found))


def test_questions(benchmark: Any, ledger: Ledger) -> None:
    asked, seeds = (3, 8, 24), 15
    questions = list(itertools.product(MONOTONE, asked, range(seeds)))

    def answers() -> list[Ceiling]:
        return [answer(*question) for question in questions]

    found = benchmark.pedantic(answers, rounds=1)
    wrong = 0
    for (kind, level, _), ceiling in zip(questions, found, strict=True):
        truth = rungs_of(MONOTONE[kind]) >= RUNG_OF[level]
        wrong += ceiling.verdict == ("fail" if truth else "pass")
    what = f"ladder, is the ceiling at least {', '.join(map(str, asked))}"
    ledger.share(f"{what}: wrong answers", wrong, len(found), 5)
    unanswered = sum(ceiling.verdict == "inconclusive" for ceiling in found)
    share(ledger, f"{what}: no answer", unanswered, len(found))
    ledger.mean(f"{what}: trials", [ceiling.trials for ceiling in found], "trials")
    ledger.mean(f"{what}: steps", [ceiling.steps for ceiling in found], "steps")


def answer(kind: str, level: int, seed: int) -> Ceiling:
    rng = random.Random(f"{kind}:{level}:{seed}")
    search = Sharing(LEVELS, RELIABILITY, at_least=level)
    while (proposed := search.next_level()) is not None:
        search.record(proposed, rng.random() < MONOTONE[kind](proposed))
    return search.result()


def test_time_to_choose(sample: Sample[Any], ledger: Ledger) -> None:
    rng = random.Random(8)

    def search_ms() -> list[float]:
        search = CeilingSearch(LEVELS, RELIABILITY)
        took: list[float] = []
        while True:
            start = time.perf_counter()
            level = search.next_level()
            took.append(1000 * (time.perf_counter() - start))
            if level is None:
                return took
            search.record(level, rng.random() < MONOTONE["logistic, 24"](level))

    took = [ms for one in sample(search_ms, 10) for ms in one]
    ledger.p95("ladder: time of next_level()", took, "ms", 50)


def test_time_to_build(sample: Sample[Any], ledger: Ledger) -> None:
    def build_ms() -> float:
        start = time.perf_counter()
        Grid(LEVELS, RELIABILITY)
        return 1000 * (time.perf_counter() - start)

    ledger.median("ladder: time to build the tables of one", sample(build_ms, 10), "ms", 50)


class Fit(NamedTuple):
    """Rungs held, by a logistic curve fitted to a full grid of trials, with a 90 % interval."""

    rungs: int
    low: int
    high: int


def test_full_grid_beside_it(benchmark: Any, ledger: Ledger) -> None:
    each = 10

    def all_fits() -> list[tuple[int, Fit]]:
        found = []
        for kind, model in MONOTONE.items():
            rng = random.Random(kind)
            for _ in range(SEEDS):
                passes = [sum(rng.random() < model(level) for _ in range(each)) for level in LEVELS]
                found.append((rungs_of(model), fitted(passes, each)))
        return found

    found = benchmark.pedantic(all_fits, rounds=1)
    n = len(found)
    what = f"full grid of {len(LEVELS)} × {each}, logistic fit"
    for unit, value in (("trials", each * len(LEVELS)), ("steps", each * sum(LEVELS))):
        ledger.rows.append(Row(f"{what}: {unit}", value, unit, None, n))
    covered = sum(fit.low <= held <= fit.high for held, fit in found)
    share(ledger, f"{what}: 90 % interval covers the ceiling", covered, n)
    error = fmean(abs(fit.rungs - held) for held, fit in found)
    ledger.rows.append(Row(f"{what}: error", error, "rungs", None, n))
    near = sum(abs(fit.rungs - held) <= 1 for held, fit in found)
    share(ledger, f"{what}: within one rung", near, n)


def fitted(passes: Sequence[int], each: int, ridge: float = 0.01) -> Fit:
    """Fit logit p = a + b·log2 L by Newton's method; the interval is by the delta method.

    The ridge keeps b finite where the outcomes part the levels perfectly.
    """
    logs = [math.log2(level) for level in LEVELS]
    a, b = 0.0, 0.0
    for _ in range(50):
        rates = [1 / (1 + math.exp(-max(-30.0, min(30.0, a + b * x)))) for x in logs]
        spread = [each * p * (1 - p) for p in rates]
        slope_a = sum(k - each * p for k, p in zip(passes, rates, strict=True)) - ridge * a
        slope_b = (
            sum(x * (k - each * p) for x, k, p in zip(logs, passes, rates, strict=True)) - ridge * b
        )
        aa = sum(spread) + ridge
        ab = sum(s * x for s, x in zip(spread, logs, strict=True))
        bb = sum(s * x * x for s, x in zip(spread, logs, strict=True)) + ridge
        scale = aa * bb - ab * ab
        move_a = (bb * slope_a - ab * slope_b) / scale
        move_b = (aa * slope_b - ab * slope_a) / scale
        damping = min(1.0, 5 / (abs(move_a) + abs(move_b) + 1e-12))
        a, b = a + damping * move_a, b + damping * move_b
        if abs(move_a) + abs(move_b) < 1e-9:
            break
    wanted = math.log(RELIABILITY / (1 - RELIABILITY))
    if b >= -1e-6:
        held = len(LEVELS) if a >= wanted else 0
        return Fit(held, 0, len(LEVELS))
    ceiling = (wanted - a) / b
    # d ceiling = −(da + ceiling·db) / b
    variance = (bb - 2 * ceiling * ab + ceiling * ceiling * aa) / scale / (b * b)
    half = 1.645 * math.sqrt(variance)
    low, rungs, high = (sum(x <= ceiling + d for x in logs) for d in (-half, 0.0, half))
    return Fit(rungs, low, high)

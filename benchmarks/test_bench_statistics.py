"""Whether verdicts are as often right as METHOD says: seeded simulations and exact sums."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from budgets import Ledger

from pytest_agentlimit.measure.compare import Alternative, label_swap_p, speed_ratio
from pytest_agentlimit.measure.evidence import EvidenceGate, for_threshold
from pytest_agentlimit.measure.latency import BudgetVerdict, budget_verdict
from pytest_agentlimit.measure.score import weighted_score

WEIGHTS = (1, 3, 2, 2, 3, 2, 1, 2, 2, 1)
HEAVY_FIRST = (1, 4, 2, 3, 5, 7, 8, 0, 6, 9)
LIGHT_FIRST = HEAVY_FIRST[::-1]
BAR = 0.8
ALPHA = 0.05

Rates = tuple[float, ...]


def score(rates: Rates) -> float:
    return math.fsum(w * p for w, p in zip(WEIGHTS, rates, strict=True)) / sum(WEIGHTS)


def broken(base: float, target: float, order: Sequence[int]) -> Rates:
    """Return rates of `base`, lowered to 0 one after the other until the score is `target`."""
    rates = [base] * len(WEIGHTS)
    for check in order:
        excess = (score(tuple(rates)) - target) * sum(WEIGHTS) / WEIGHTS[check]
        rates[check] -= max(0.0, min(rates[check], excess))
    return tuple(rates)


def apart(target: float) -> Rates:
    """Return rates far apart, high and low in turn, whose score is `target`."""
    above = min(0.3, 1 - target)
    below = above * sum(WEIGHTS[::2]) / sum(WEIGHTS[1::2])
    return (target + above, target - below) * (len(WEIGHTS) // 2)


def shapes(base: float, target: float) -> dict[str, Rates]:
    """Return models of score `target`, from one whose checks all pass with `base`."""
    return {
        "all checks alike": (target,) * len(WEIGHTS),
        "rates far apart": apart(target),
        "heavy checks broken": broken(base, target, HEAVY_FIRST),
        "light checks broken": broken(base, target, LIGHT_FIRST),
    }


def passes(rng: random.Random, rates: Rates, trials: int) -> list[int]:
    return [sum(rng.random() < p for _ in range(trials)) for p in rates]


def test_interval_coverage(benchmark: Any, ledger: Ledger) -> None:
    truths = [(p,) * len(WEIGHTS) for p in (0.5, 0.8, 0.95)]
    truths += [*shapes(0.95, 0.75).values(), *shapes(1.0, 0.9).values()]
    cells = [(rates, n) for rates in truths for n in range(1, 9)]
    first, again, candidates = 1000, 10_000, 5

    def both() -> tuple[list[int], list[int]]:
        rng = random.Random(1)
        hits = [covered(rng, *cell, first) for cell in cells]
        worst = sorted(range(len(cells)), key=hits.__getitem__)[:candidates]
        # The least of many noisy shares is too low: what looks worst is measured afresh.
        return hits, [covered(rng, *cells[i], again) for i in worst]

    hits, afresh = benchmark.pedantic(both, rounds=1)
    what = f"score interval covers the truth, {len(cells)} cells of 10 checks"
    ledger.share(f"{what}: worst", min(afresh), again, 92, at_least=True)
    ledger.share(f"{what}: mean", sum(hits), first * len(cells), 95, at_least=True)


def covered(rng: random.Random, rates: Rates, trials: int, runs: int) -> int:
    return sum(covers(rng, rates, trials) for _ in range(runs))


def covers(rng: random.Random, rates: Rates, trials: int) -> bool:
    found = weighted_score(passes(rng, rates, trials), [trials] * len(rates), WEIGHTS)
    return found.low - 1e-12 <= score(rates) <= found.high + 1e-12


def test_evidence_gate_on_one_check(benchmark: Any, ledger: Ledger) -> None:
    runs = 5000
    bad, good = for_threshold(BAR)

    def ended(rate: float) -> list[EvidenceGate]:
        rng = random.Random(2)
        return [one_check(rng, rate) for _ in range(runs)]

    def all_ends() -> dict[float, list[EvidenceGate]]:
        return {rate: ended(rate) for rate in (bad, good, 1.0)}

    ends = benchmark.pedantic(all_ends, rounds=1)
    what = "evidence gate .80/.95, one check, cap 100"
    ledger.share(f"{what}: wrong pass at .80", count(ends[bad], "pass"), runs, 100 * ALPHA)
    ledger.share(f"{what}: wrong fail at .95", count(ends[good], "fail"), runs, 100 * ALPHA)
    for rate, expected in ((bad, 23.5), (good, 30.8), (1.0, 18.0)):
        trials = [gate.trials for gate in ends[rate]]
        ledger.mean(f"{what}: trials at {rate:.2f}", trials, "trials")
        off = 100 * abs(fmean(trials) / expected - 1)
        ledger.number(f"{what}: that is off {expected} by", off, "%", runs, 10)


def one_check(rng: random.Random, rate: float) -> EvidenceGate:
    gate = EvidenceGate(*for_threshold(BAR), max_trials=100)
    while gate.verdict == "undecided":
        gate.add(rng.random() < rate)
        gate.end_round()
    return gate


def count(gates: list[EvidenceGate], verdict: str) -> int:
    return sum(gate.verdict == verdict for gate in gates)


def test_early_stop_then_interval(benchmark: Any, ledger: Ledger) -> None:
    runs, rounds = 2000, 12
    bad, good = for_threshold(BAR)
    models = {(bad, shape): rates for shape, rates in shapes(0.95, bad).items()}
    models |= {(good, shape): rates for shape, rates in shapes(1.0, good).items()}
    models[1.0, "all checks alike"] = (1.0,) * len(WEIGHTS)

    def all_runs() -> dict[tuple[float, str], list[tuple[str, int]]]:
        rng = random.Random(3)
        return {
            key: [gated_run(rng, rates, rounds) for _ in range(runs)]
            for key, rates in models.items()
        }

    wrong = {bad: "pass", good: "fail"}
    for (truth, shape), found in benchmark.pedantic(all_runs, rounds=1).items():
        what = f"up to {rounds} rounds, bar .80, score {truth:.2f}, {shape}"
        if truth in wrong:
            errors = sum(verdict == wrong[truth] for verdict, _ in found)
            ledger.share(f"{what}: wrong {wrong[truth]}", errors, runs, 100 * ALPHA)
        saved = [100 * (1 - used / rounds) for _, used in found]
        ledger.mean(f"{what}: calls saved", saved, "%")


def gated_run(rng: random.Random, rates: Rates, rounds: int) -> tuple[str, int]:
    """Return the verdict of a run and the rounds it took.

    As in a real run, the gate looks after each round but the last, which the interval judges.
    """
    gate = EvidenceGate(*for_threshold(BAR), max_weight=max(WEIGHTS))
    total = [0] * len(rates)
    for number in range(1, rounds + 1):
        for check, (rate, weight) in enumerate(zip(rates, WEIGHTS, strict=True)):
            passed = rng.random() < rate
            total[check] += passed
            gate.add(passed, weight)
        if number < rounds:
            gate.end_round()
        if gate.verdict != "undecided":
            return gate.verdict, number
    found = weighted_score(total, [rounds] * len(rates), WEIGHTS)
    if found.low >= BAR:
        return "pass", rounds
    return ("fail" if found.high < BAR else "inconclusive"), rounds


def test_p95_of_a_model_at_its_limit(benchmark: Any, ledger: Ledger) -> None:
    sizes = range(59, 201)

    def worst(verdict: BudgetVerdict) -> float:
        return max(chance_of(verdict, n, 0.05) for n in sizes)

    def both() -> tuple[float, float]:
        return worst("pass"), worst("fail")

    for verdict, share in zip(("pass", "fail"), benchmark.pedantic(both, rounds=1), strict=True):
        what = f"P95 with 5 % over budget, n = 59 to 200: {verdict}, worst, exact"
        ledger.number(what, 100 * share, "%", len(sizes), 100 * ALPHA)


def chance_of(verdict: BudgetVerdict, n: int, over: float) -> float:
    return math.fsum(
        math.comb(n, k) * over**k * (1 - over) ** (n - k)
        for k in range(n + 1)
        if budget_verdict(k, n) == verdict
    )


def flagged(
    rng: random.Random, candidate: Rates, baseline: Rates, runs: int, how: Alternative
) -> int:
    """Return in how many of `runs` the label swap sees `candidate` differ, 8 trials each."""
    found = 0
    for _ in range(runs):
        a, b = passes(rng, candidate, 8), passes(rng, baseline, 8)
        found += label_swap_p(a, b, 8, WEIGHTS, alternative=how) <= ALPHA
    return found


def test_baseline(benchmark: Any, ledger: Ledger) -> None:
    runs, bases = 2000, (0.95, 0.9, 0.8, 0.7)

    def rows() -> Iterator[tuple[float, str, int]]:
        rng = random.Random(5)
        for base in bases:
            even = (base,) * len(WEIGHTS)
            for shape, rates in {"equal": even, **shapes(base, base - 0.2)}.items():
                yield base, shape, flagged(rng, rates, even, runs, "less")

    for base, shape, found in benchmark.pedantic(lambda: list(rows()), rounds=1):
        what = f"baseline of {base:.2f}, 8 trials"
        if shape == "equal":
            ledger.share(f"{what}: equal model flagged", found, runs, 100 * ALPHA)
        else:
            ledger.share(f"{what}: 20 points worse caught, {shape}", found, runs, 80, at_least=True)


def test_size_of_the_label_swap(benchmark: Any, ledger: Ledger) -> None:
    runs = 2000
    models = {
        "rates .90": (0.9,) * 10,
        "rates .60 to .95": (0.6, 0.95) * 5,
        "rates .50": (0.5,) * 10,
    }

    def all_sizes() -> dict[str, int]:
        rng = random.Random(6)
        return {name: flagged(rng, m, m, runs, "two-sided") for name, m in models.items()}

    for name, found in benchmark.pedantic(all_sizes, rounds=1).items():
        ledger.share(f"label swap, equal models, {name}: p ≤ .05", found, runs, 100 * ALPHA)


def test_size_of_the_sign_flip(benchmark: Any, ledger: Ledger) -> None:
    checks, sets = 10, 10

    def worst() -> float:
        rng = random.Random(7)
        return max(
            size_of_flip([rng.lognormvariate(0, 1) for _ in range(checks)]) for _ in range(sets)
        )

    what = (
        f"sign flip, {checks} checks of equal speed, worst of {sets} sets of ratios, exact: p ≤ .05"
    )
    ledger.number(what, 100 * benchmark.pedantic(worst, rounds=1), "%", sets, 100 * ALPHA)


def size_of_flip(ratios: list[float]) -> float:
    """Return the share of p-values up to ALPHA over all the ways the signs can fall."""
    found = 0
    for signs in itertools.product((1, -1), repeat=len(ratios)):
        a = [1000 * math.exp(sign * ratio) for sign, ratio in zip(signs, ratios, strict=True)]
        found += speed_ratio(a, [1000.0] * len(ratios)).p <= ALPHA
    return found / 2 ** len(ratios)

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from pytest_agentlimit.measure.score import (
    pass_at_k,
    pass_hat_k,
    weighted_score,
    wilson,
)

WEIGHTS = [1, 3, 2, 2, 3, 2, 1, 2, 2, 1]
ONES = [1] * 10


def without(check: int) -> list[int]:
    return [0 if i == check else 1 for i in range(10)]


@pytest.mark.parametrize(
    ("passes", "trials", "value", "effective", "low", "high"),
    [
        (without(3), ONES, 0.894737, 8.804878, 0.567500, 0.982163),
        (without(1), ONES, 0.842105, 8.804878, 0.511939, 0.967387),
        ([5, 4, 5, 1, 5, 5, 3, 5, 5, 5], [5] * 10, 0.863158, 64.830925, 0.759058, 0.926629),
        ([6] * 10, [6] * 10, 1.0, 52.829268, 0.932214, 1.0),
    ],
    ids=["weight-2-fails", "weight-3-fails", "five-rounds", "perfect"],
)
def test_reference_scores(passes, trials, value, effective, low, high):
    score = weighted_score(passes, trials, WEIGHTS)
    assert score == pytest.approx((value, low, high, effective), abs=1e-6)
    assert score._fields == ("value", "low", "high", "effective_trials")


@pytest.mark.parametrize(
    ("rounds", "proven"), [(1, 0.696), (2, 0.821), (3, 0.873), (4, 0.902), (6, 0.932)]
)
def test_a_perfect_run_proves_only_so_much(rounds, proven):
    score = weighted_score([rounds] * 10, [rounds] * 10, WEIGHTS)
    assert score.low == pytest.approx(proven, abs=5e-4)
    assert score.high == 1.0


suites = st.lists(
    st.tuples(st.integers(1, 30), st.floats(0, 1), st.integers(1, 50)), min_size=1, max_size=15
).map(lambda rows: [(round(share * n), n, w) for n, share, w in rows])


def columns(suite):
    passes, trials, weights = zip(*suite, strict=True)
    return passes, trials, weights


@given(suites)
def test_the_interval_holds_the_value_and_is_never_zero_wide(suite):
    score = weighted_score(*columns(suite))
    assert 0 <= score.low <= score.value <= score.high <= 1
    assert score.high - score.low > 1e-6


@given(suites)
def test_swapping_passes_and_fails_mirrors_the_score(suite):
    passes, trials, weights = columns(suite)
    score = weighted_score(passes, trials, weights)
    fails = [n - x for x, n in zip(passes, trials, strict=True)]
    mirror = weighted_score(fails, trials, weights)
    assert (1 - mirror.value, 1 - mirror.high, 1 - mirror.low) == pytest.approx(score[:3], abs=1e-9)


@given(suites, st.floats(1e-3, 1e3))
def test_only_the_ratio_of_weights_matters(suite, factor):
    passes, trials, weights = columns(suite)
    scaled = weighted_score(passes, trials, [w * factor for w in weights])
    assert scaled == pytest.approx(weighted_score(passes, trials, weights), abs=1e-9, rel=1e-9)


@given(st.integers(1, 500), st.data())
def test_one_check_is_exactly_wilson(n, data):
    x = data.draw(st.integers(0, n))
    score = weighted_score([x], [n], [7])
    assert (score.low, score.high) == pytest.approx(tuple(wilson(x, n)), abs=1e-12)
    assert score.effective_trials == pytest.approx(n)


@given(suites)
def test_all_passed_ends_at_one(suite):
    _, trials, weights = columns(suite)
    score = weighted_score(trials, trials, weights)
    assert score.value == score.high == 1.0
    assert score.low < 1.0


@given(suites)
def test_never_better_than_a_perfect_run_of_the_same_size(suite):
    passes, trials, weights = columns(suite)
    assert (
        weighted_score(passes, trials, weights).low
        <= weighted_score(trials, trials, weights).low + 1e-12
    )


def test_certain_failures_of_light_checks_do_not_lift_the_lower_end():
    passes, trials, weights = [0, 3, 3], [11, 3, 3], [1, 50, 50]
    perfect = weighted_score(trials, trials, weights)
    assert weighted_score(passes, trials, weights).low == pytest.approx(perfect.low, abs=1e-12)
    fails = [11, 0, 0]
    assert weighted_score(fails, trials, weights).high == pytest.approx(1 - perfect.low, abs=1e-12)


@given(suites)
def test_a_check_without_weight_changes_nothing(suite):
    passes, trials, weights = columns(suite)
    padded = weighted_score([*passes, 0], [*trials, 5], [*weights, 0])
    assert padded == pytest.approx(weighted_score(passes, trials, weights))


def test_the_order_of_weights_and_extreme_sizes_are_harmless():
    assert weighted_score([1, 0], [1, 1], [1e308, 1e308]).value == 0.5
    assert weighted_score([1, 0], [1, 1], [1e-320, 1e-320]).value == 0.5


def test_a_score_that_meets_a_round_number_is_that_number():
    assert weighted_score([4] * 10, [5] * 10, WEIGHTS).value == 0.8


def test_coverage_holds_for_mixed_checks():
    rng = random.Random(20260401)
    truths = [0.99, 0.95, 0.9, 0.9, 0.8, 0.97, 0.5, 0.99, 0.7, 0.2]
    true_score = sum(w * p for w, p in zip(WEIGHTS, truths, strict=True)) / sum(WEIGHTS)
    covered = 0
    for _ in range(1000):
        passes = [sum(rng.random() < p for _ in range(5)) for p in truths]
        score = weighted_score(passes, [5] * 10, WEIGHTS)
        covered += score.low <= true_score <= score.high
    assert covered >= 926


@pytest.mark.parametrize(
    ("passes", "trials", "weights", "words"),
    [
        ([], [], [], "at least one check"),
        ([1], [1, 1], [1, 1], "one entry per check"),
        ([2], [1], [1], "passes must lie between"),
        ([-1], [1], [1], "passes must lie between"),
        ([math.nan], [1], [1], "passes must lie between"),
        ([0], [0], [1], "trials must be a positive number"),
        ([0], [math.nan], [1], "trials must be a positive number"),
        ([0], [math.inf], [1], "trials must be a positive number"),
        ([0], [1], [-1], "weight must be a number"),
        ([0], [1], [math.nan], "weight must be a number"),
        ([0, 1], [1, 1], [0, 0], "all weights are 0"),
    ],
)
def test_senseless_input_is_refused_in_words(passes, trials, weights, words):
    with pytest.raises(ValueError, match=words):
        weighted_score(passes, trials, weights)


@pytest.mark.parametrize("level", [0, 1, 95, math.nan])
def test_a_level_outside_0_1_is_refused(level):
    with pytest.raises(ValueError, match="confidence level"):
        weighted_score([1], [1], [1], level)


@given(st.integers(1, 2000), st.data(), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_agrees_with_statsmodels(n, data, level):
    x = data.draw(st.integers(0, n))
    oracle = proportion_confint(x, n, alpha=1 - level, method="wilson")
    assert tuple(wilson(x, n, level)) == pytest.approx(oracle, abs=1e-9)


@pytest.mark.parametrize(("x", "n"), [(1, 0), (-1, 5), (6, 5), (math.nan, 5), (1, math.nan)])
def test_wilson_refuses_senseless_counts(x, n):
    with pytest.raises(ValueError, match="Wilson"):
        wilson(x, n)


def test_pass_hat_and_pass_at_k_reference():
    assert pass_hat_k(6, 8, 4) == pytest.approx(0.2142857, abs=1e-7)
    assert pass_at_k(6, 8, 4) == 1.0
    assert pass_at_k(1, 10, 1) == pytest.approx(0.1)


@given(st.integers(1, 60), st.data())
def test_k_tries_bracket_the_pass_rate(n, data):
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    assert pass_hat_k(c, n, k) <= c / n + 1e-12
    assert pass_at_k(c, n, k) >= c / n - 1e-12
    assert pass_at_k(c, n, k) == pytest.approx(1 - pass_hat_k(n - c, n, k))


@pytest.mark.parametrize(("c", "n", "k"), [(-1, 5, 1), (6, 5, 1), (3, 5, 0), (3, 5, 6)])
def test_k_tries_refuse_senseless_counts(c, n, k):
    for function in (pass_hat_k, pass_at_k):
        with pytest.raises(ValueError, match="must lie between"):
            function(c, n, k)

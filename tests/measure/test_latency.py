from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from pytest_agentlimit.measure.latency import (
    budget_verdict,
    median,
    percentile,
    quantile_upper,
    trials_to_pass,
    waiting_time,
    within_budget,
)

GEMMA4 = [2516, 7922, 5047, 36203, 6656, 3641, 23406, 5437, 10391, 2417]
OPEN_CLAW = [2359, 6735, 2890, 6860, 6718, 3204, 4671, 2641, 7906, 2260]
times = st.floats(min_value=0, allow_nan=False, allow_infinity=True)


def test_the_april_study_is_replayed():
    assert (median(GEMMA4), percentile(GEMMA4, 95)) == (6046.5, 36203)
    assert (median(OPEN_CLAW), percentile(OPEN_CLAW, 95)) == (3937.5, 7906)


@pytest.mark.parametrize(
    ("n", "pct", "rank"),
    [
        (1, 0, 1),
        (1, 95, 1),
        (10, 95, 10),
        (19, 95, 19),
        (20, 95, 19),
        (100, 95, 95),
        (100, 100, 100),
        (100, 7, 7),
        (1000, 99.9, 999),
        (1001, 99.9, 1000),
        (10, 50, 5),
        (11, 50, 6),
    ],
)
def test_percentile_is_the_nearest_rank(n, pct, rank):
    assert percentile(range(n, 0, -1), pct) == rank


@given(st.integers(1, 10_000), st.integers(0, 1000))
def test_percentile_ranks_are_integer_arithmetic(n, tenths):
    assert percentile(range(1, n + 1), tenths / 10) == max(1, math.ceil(Fraction(n * tenths, 1000)))


@given(st.lists(times, min_size=1), st.floats(0, 100))
def test_percentile_is_always_a_sample(values, pct):
    assert percentile(values, pct) in values


def test_a_timeout_is_a_latency_without_end():
    assert percentile([1.0] * 18 + [math.inf], 95) == math.inf
    assert percentile([1.0] * 19 + [math.inf], 95) == 1.0
    assert median([1.0, math.inf, math.inf]) == math.inf


@pytest.mark.parametrize("call", [median, lambda v: percentile(v, 50), quantile_upper])
def test_no_values_and_nan_are_refused(call):
    with pytest.raises(ValueError, match="at least one value"):
        call([])
    with pytest.raises(ValueError, match="NaN"):
        call([1.0, math.nan])


@pytest.mark.parametrize("pct", [-1, 101, math.inf, math.nan])
def test_a_percentile_outside_0_100_is_refused(pct):
    with pytest.raises(ValueError, match="a percentile"):
        percentile([1.0], pct)


@pytest.mark.parametrize(
    ("n", "rank"), [(59, 59), (93, 92), (100, 99), (124, 122), (153, 150), (200, 196)]
)
def test_upper_bound_of_p95_reference_ranks(n, rank):
    assert quantile_upper(range(1, n + 1)) == rank


@pytest.mark.parametrize(("q", "first"), [(0.9, 29), (0.95, 59), (0.99, 299)])
def test_the_upper_bound_exists_from_a_first_n_on(q, first):
    assert quantile_upper(range(first - 1), q) is None
    assert quantile_upper(range(1, first + 1), q) == first


@given(st.integers(1, 400), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_upper_bound_ranks_agree_with_scipy(n, q):
    ranks = [s for s in range(1, n + 1) if binom.cdf(s - 1, n, q) >= 0.95 + 1e-12]
    assert quantile_upper(range(1, n + 1), q) == (ranks[0] if ranks else None)


@pytest.mark.parametrize(("n", "over"), [(59, 0), (93, 1), (124, 2), (153, 3)])
def test_smallest_runs_that_prove_a_budget_is_met(n, over):
    assert budget_verdict(over, n) == "pass"
    assert budget_verdict(over, n - 1) == "inconclusive"
    assert budget_verdict(over + 1, n) == "inconclusive"


@pytest.mark.parametrize(("n", "over"), [(10, 3), (20, 4), (40, 5), (59, 7), (100, 10)])
def test_fewest_breaches_that_prove_a_budget_is_broken(n, over):
    assert budget_verdict(over, n) == "fail"
    assert budget_verdict(over - 1, n) == "inconclusive"


@given(st.integers(1, 300), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_verdicts_agree_with_scipy(n, data, q):
    over = data.draw(st.integers(0, n))
    p = 1 - q
    at_most, at_least = binom.cdf(over, n, p), binom.sf(over - 1, n, p)
    verdict = budget_verdict(over, n, q)
    if abs(at_most - 0.05) > 1e-9 and abs(at_least - 0.05) > 1e-9:
        assert (verdict == "pass") == (at_most <= 0.05)
        assert (verdict == "fail") == (at_least <= 0.05 < at_most)


def test_a_chance_of_exactly_five_percent_decides():
    assert budget_verdict(1, 1) == "fail"
    assert budget_verdict(0, 1, q=0.05) == "pass"


@given(st.integers(0, 200), st.data())
def test_one_more_breach_never_helps(n, data):
    order = ["pass", "inconclusive", "fail"]
    over = data.draw(st.integers(0, n))
    more = data.draw(st.integers(over, n))
    assert order.index(budget_verdict(over, n)) <= order.index(budget_verdict(more, n))


def test_ten_thousand_trials_are_judged_exactly():
    limit = int(binom.ppf(0.05, 10_000, 0.05))
    assert budget_verdict(limit - 1, 10_000) == "pass"
    assert budget_verdict(limit + 1, 10_000) == "inconclusive"
    assert budget_verdict(10_000, 10_000) == "fail"
    assert quantile_upper(range(1, 10_001)) == 1 + binom.ppf(0.95, 10_000, 0.95)


@pytest.mark.parametrize(
    ("over", "n", "more"),
    [(0, 10, 49), (1, 10, 83), (2, 10, 114), (0, 0, 59), (0, 59, 0), (3, 10, None)],
)
def test_trials_that_would_decide_for_a_pass(over, n, more):
    assert trials_to_pass(over, n) == more


@given(st.integers(0, 400), st.data())
def test_so_many_good_trials_decide_and_one_fewer_does_not(n, data):
    over = data.draw(st.integers(0, min(n, 30)))
    more = trials_to_pass(over, n)
    if more is None:
        assert budget_verdict(over, n) == "fail"
    else:
        assert budget_verdict(over, n + more) == "pass"
        assert more == 0 or budget_verdict(over, n + more - 1) == "inconclusive"


@given(st.lists(st.floats(0, 2), min_size=1, max_size=80), st.sampled_from([50, 90, 95, 99]))
def test_the_point_estimate_is_the_percentile_itself(ratios, pct):
    over = sum(ratio > 1 for ratio in ratios)
    assert within_budget(over, len(ratios), pct / 100) == (percentile(ratios, pct) <= 1)


def test_no_trials_prove_nothing():
    assert budget_verdict(0, 0) == "inconclusive"
    assert not within_budget(0, 0)


@pytest.mark.parametrize("function", [budget_verdict, trials_to_pass, within_budget])
@pytest.mark.parametrize(("over", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_senseless_counts_are_refused(function, over, n):
    with pytest.raises(ValueError, match="trials over budget"):
        function(over, n)


@pytest.mark.parametrize("level", [0, 1, 95, math.nan])
def test_levels_outside_0_1_are_refused(level):
    with pytest.raises(ValueError, match="q "):
        budget_verdict(0, 5, q=level)
    with pytest.raises(ValueError, match="confidence "):
        quantile_upper([1.0], confidence=level)


@pytest.mark.parametrize(
    ("intervals", "total"),
    [
        ([], 0),
        ([(0, 10)], 10),
        ([(0, 10), (20, 25)], 15),
        ([(0, 10), (5, 15)], 15),
        ([(0, 10), (2, 3)], 10),
        ([(20, 25), (0, 10), (10, 12)], 17),
        ([(5, 5)], 0),
    ],
)
def test_waiting_time_is_the_union_of_calls(intervals, total):
    assert waiting_time(intervals) == total


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12))
def test_waiting_time_counts_each_instant_once(spans):
    intervals = [(start, start + length) for start, length in spans]
    busy = {tick for start, end in intervals for tick in range(start, end)}
    assert waiting_time(intervals) == len(busy)


@pytest.mark.parametrize("interval", [(2, 1), (math.nan, 1), (0, math.nan)])
def test_an_interval_that_ends_before_it_starts_is_refused(interval):
    with pytest.raises(ValueError, match="before it starts"):
        waiting_time([interval])

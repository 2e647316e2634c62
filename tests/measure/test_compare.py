from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from pytest_agentlimit.measure.compare import (
    label_swap_p,
    rounds_to_detect,
    score_difference,
    smallest_detectable,
    speed_ratio,
)
from pytest_agentlimit.measure.score import weighted_score

WEIGHTS = [1, 3, 2, 2, 3, 2, 1, 2, 2, 1]
A = [5, 4, 5, 1, 5, 5, 3, 5, 5, 5]
B = [5, 2, 5, 0, 5, 4, 2, 5, 3, 5]
GEMMA = [1, 1, 1, 0, 1, 1, 1, 1, 1, 1]
CLAW = [1, 0, 1, 1, 1, 1, 1, 1, 1, 1]
GEMMA_MS = [2516, 7922, 5047, 36203, 6656, 3641, 23406, 5437, 10391, 2417]
CLAW_MS = [2359, 6735, 2890, 6860, 6718, 3204, 4671, 2641, 7906, 2260]


def difference(passes_a, passes_b, trials_a, trials_b, weights):
    return score_difference(
        weighted_score(passes_a, trials_a, weights), weighted_score(passes_b, trials_b, weights)
    )


def test_reference_difference():
    found = difference(A, B, [5] * 10, [5] * 10, WEIGHTS)
    assert found == pytest.approx((0.157895, 0.016035, 0.292785), abs=1e-6)
    assert label_swap_p(A, B, 5, WEIGHTS) == pytest.approx(0.0289326, abs=1e-7)


def test_reference_difference_of_one_check():
    found = difference([7], [4], [10], [12], [1])
    assert (found.low, found.high) == pytest.approx((-0.0433871, 0.6406236), abs=1e-7)


def test_april_study_shows_no_difference():
    found = difference(GEMMA, CLAW, [1] * 10, [1] * 10, WEIGHTS)
    assert (found.low, found.high) == pytest.approx((-0.298, 0.394), abs=5e-4)
    assert label_swap_p(GEMMA, CLAW, 1, WEIGHTS) == 1.0


def test_april_study_shows_who_is_faster():
    found = speed_ratio(GEMMA_MS, CLAW_MS)
    assert found[:3] == pytest.approx((1.69, 1.08, 2.65), abs=5e-3)
    assert found.p == 4 / 1024
    assert found.sign_p == pytest.approx(0.021, abs=5e-4)
    assert (found.a_faster, found.b_faster, found.n) == (1, 9, 10)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_the_interval_of_one_check_is_newcombes(n_a, n_b, data):
    x_a, x_b = data.draw(st.integers(0, n_a)), data.draw(st.integers(0, n_b))
    found = difference([x_a], [x_b], [n_a], [n_b], [1])
    peer = confint_proportions_2indep(x_a, n_a, x_b, n_b, method="newcomb", compare="diff")
    assert (found.low, found.high) == pytest.approx(peer, abs=1e-9)


rows = st.tuples(
    st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.floats(0, 1), st.integers(1, 5)
).map(lambda row: (round(row[2] * row[0]), round(row[3] * row[1]), row[0], row[1], row[4]))


def columns(suite):
    return [list(column) for column in zip(*suite, strict=True)]


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=5))
def test_swapping_the_models_mirrors_everything(suite):
    a, b, n_a, n_b, weights = columns(suite)
    there, back = difference(a, b, n_a, n_b, weights), difference(b, a, n_b, n_a, weights)
    assert (-back.value, -back.high, -back.low) == pytest.approx(there, abs=1e-12)
    assert -1 <= there.low <= there.value <= there.high <= 1

    for one, other in (("two-sided", "two-sided"), ("less", "greater"), ("greater", "less")):
        p = label_swap_p(a, b, n_a, weights, trials_b=n_b, alternative=one)
        q = label_swap_p(b, a, n_b, weights, trials_b=n_a, alternative=other)
        assert p == pytest.approx(q, abs=1e-12)
        assert 0 < p <= 1
    gap = smallest_detectable(a, b, n_a, weights, trials_b=n_b)
    assert smallest_detectable(b, a, n_b, weights, trials_b=n_a) == pytest.approx(gap, abs=1e-12)


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=5), st.sampled_from([0.01, 0.3, 7, 1e6]))
def test_only_the_ratio_of_weights_matters(suite, factor):
    a, b, n_a, n_b, weights = columns(suite)
    scaled = [w * factor for w in weights]
    kwargs = {"trials_b": n_b}
    assert label_swap_p(a, b, n_a, scaled, **kwargs) == pytest.approx(
        label_swap_p(a, b, n_a, weights, **kwargs), abs=1e-9
    )
    assert smallest_detectable(a, b, n_a, scaled, **kwargs) == pytest.approx(
        smallest_detectable(a, b, n_a, weights, **kwargs), abs=1e-12
    )


def enumerated_p(a, b, n_a, n_b, weights, alternative):
    """The definition itself: every table with the same totals, and its chance."""
    tables = []
    for x, y, n, m in zip(a, b, n_a, n_b, strict=True):
        swapped = stats.hypergeom(n + m, x + y, n)
        tables.append(
            [
                (k / n - (x + y - k) / m, swapped.pmf(k))
                for k in range(max(0, x + y - m), min(n, x + y) + 1)
            ]
        )
    rates = zip(a, b, n_a, n_b, weights, strict=True)
    seen = sum(w * (x / n - y / m) for x, y, n, m, w in rates)
    total = 0.0
    for picked in itertools.product(*tables):
        d = sum(w * gap for (gap, _), w in zip(picked, weights, strict=True))
        reached = {
            "two-sided": abs(d) >= abs(seen) - 1e-9,
            "less": d <= seen + 1e-9,
            "greater": d >= seen - 1e-9,
        }[alternative]
        total += reached * math.prod(chance for _, chance in picked)
    return total


@settings(deadline=None, max_examples=60)
@given(
    st.lists(rows, min_size=1, max_size=3),
    st.sampled_from(["two-sided", "less", "greater"]),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.37, 2.9, 3.0]), min_size=3, max_size=3),
)
def test_label_swap_agrees_with_listing_every_table(suite, alternative, more):
    a, b, n_a, n_b, weights = columns(suite)
    weights = [w + extra for w, extra in zip(weights, more, strict=False)]
    p = label_swap_p(a, b, n_a, weights, trials_b=n_b, alternative=alternative)
    assert p == pytest.approx(enumerated_p(a, b, n_a, n_b, weights, alternative), abs=1e-9)


@settings(deadline=None)
@given(st.integers(1, 40), st.data(), st.sampled_from(["two-sided", "less", "greater"]))
def test_one_check_is_fishers_exact_test(n, data, alternative):
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, n))
    p = label_swap_p([a], [b], n, [2], alternative=alternative)
    fisher = stats.fisher_exact([[a, n - a], [b, n - b]], alternative).pvalue
    assert p == pytest.approx(fisher, rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "two_sided", "less"), [(1, 1, 1, 1), (0, 0, 1, 1), (0, 1, 1, 0.5), (1, 0, 1, 1)]
)
def test_one_check_with_one_trial_each_proves_nothing(a, b, two_sided, less):
    assert label_swap_p([a], [b], 1, [1]) == two_sided
    assert label_swap_p([a], [b], 1, [1], alternative="less") == less
    found = difference([a], [b], [1], [1], [1])
    assert found.low <= 0 <= found.high


def test_weights_that_add_up_on_paper_tie():
    # The first check pulls one way as hard as the other two pull the other way.
    weights = [0.3, 0.1, 0.2]
    assert label_swap_p([1, 0, 0], [0, 1, 1], 1, weights) == 1.0
    assert label_swap_p([1, 0, 0], [0, 1, 1], 1, weights, alternative="less") == 5 / 8


def exact_p(a, b, n):
    """Two-sided, in whole numbers throughout, for equal trials and WEIGHTS."""
    ways = {0: 1}
    for x, y, w in zip(a, b, WEIGHTS, strict=True):
        total, after = x + y, Counter()
        for k in range(max(0, total - n), min(n, total) + 1):
            for d, count in ways.items():
                after[d + w * (2 * k - total)] += count * math.comb(n, k) * math.comb(n, total - k)
        ways = after
    seen = abs(sum(w * (x - y) for x, y, w in zip(a, b, WEIGHTS, strict=True)))
    return sum(count for d, count in ways.items() if abs(d) >= seen) / sum(ways.values())


@pytest.mark.parametrize("factor", [1, 0.1, 0.3, 0.7, 1 / 3])
def test_weights_with_rounding_errors_tie_where_whole_ones_do(factor):
    rng = random.Random(1)
    scaled = [w * factor for w in WEIGHTS]
    for _ in range(6):
        a, b = ([rng.randint(3, 8) for _ in WEIGHTS] for _ in range(2))
        assert label_swap_p(a, b, 8, scaled) == pytest.approx(exact_p(a, b, 8), rel=1e-9)


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_odd_weights_come_close_to_drawing_tables_at_random(alternative):
    rng = np.random.default_rng(3)
    weights = rng.uniform(0.5, 3, 10).tolist()
    a, b, n, m = [6, 5, 8, 7, 3, 6, 8, 2, 5, 7], [5, 7, 9, 6, 6, 9, 9, 2, 4, 9], [8] * 10, [9] * 10
    totals = np.array(a) + np.array(b)
    drawn = rng.hypergeometric(totals, np.array(n) + np.array(m) - totals, n, (200_000, 10))
    d = (drawn / 8 - (totals - drawn) / 9) @ weights
    seen = (np.array(a) / 8 - np.array(b) / 9) @ weights
    share = {
        "two-sided": np.mean(np.abs(d) >= abs(seen)),
        "less": np.mean(d <= seen),
        "greater": np.mean(d >= seen),
    }[alternative]
    p = label_swap_p(a, b, 8, weights, trials_b=9, alternative=alternative)
    assert p == pytest.approx(share, abs=0.004)


def test_weights_of_any_size_are_taken():
    p = label_swap_p([1, 5, 3], [4, 2, 3], 5, [1e-300, 1.0, 1e-9])
    assert p == pytest.approx(label_swap_p([5], [2], 5, [1]), abs=1e-9)
    assert 0 < label_swap_p([1, 5], [4, 2], 5, [1e300, math.pi]) <= 1


def test_a_check_of_no_weight_changes_nothing():
    assert label_swap_p([0, *A], [5, *B], 5, [0, *WEIGHTS]) == label_swap_p(A, B, 5, WEIGHTS)


def test_many_checks_come_close_to_the_normal_law():
    rng = random.Random(11)
    a, b = ([rng.randint(5, 20) for _ in range(300)] for _ in range(2))
    weights = [rng.randint(1, 3) for _ in range(300)]
    seen = variance = 0.0
    for x, y, w in zip(a, b, weights, strict=True):
        seen += w * (x - y) / 20
        variance += (2 * w / 20) ** 2 * stats.hypergeom(40, x + y, 20).var()
    expected = stats.norm.cdf(seen / math.sqrt(variance))
    p = label_swap_p(a, b, 20, weights, alternative="less")
    assert p == pytest.approx(expected, abs=0.01)


def test_a_hopeless_p_value_is_small_and_never_zero():
    assert 0 < label_swap_p([20] * 50, [0] * 50, 20, [1] * 50) <= 1e-25
    assert label_swap_p([20] * 50, [0] * 50, 20, [1] * 50, alternative="less") == 1.0


def test_whole_floats_are_counts():
    assert label_swap_p([4.0], [2.0], 5.0, [1.0]) == label_swap_p([4], [2], 5, [1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"passes_a": [6, 1]}, "check 0: passes lie between 0 and the trials.* not 6 of 5"),
        ({"passes_b": [1, -1]}, "check 1: passes lie between"),
        ({"passes_a": [0.5, 1]}, "whole numbers, not 0.5"),
        ({"passes_a": [math.nan, 1]}, "whole numbers, not nan"),
        ({"passes_a": [1]}, "one entry per check"),
        ({"trials": [5]}, "one entry per check"),
        ({"trials": 0, "passes_a": [0, 0], "passes_b": [0, 0]}, "there is a trial at least"),
        ({"trials_b": [5, 5, 5]}, "one entry per check"),
        ({"weights": [0, 0]}, "all weights are 0"),
        ({"weights": [1, -1]}, "a weight must be a number of 0 or more, not -1"),
        ({"weights": [1, math.inf]}, "a weight must be"),
        ({"passes_a": [], "passes_b": [], "trials": [], "weights": []}, "at least one check"),
    ],
)
@pytest.mark.parametrize("of", [label_swap_p, smallest_detectable])
def test_senseless_counts_are_refused(of, change, message):
    arguments = {"passes_a": [5, 1], "passes_b": [4, 1], "trials": 5, "weights": [1, 2]}
    with pytest.raises(ValueError, match=message):
        of(**(arguments | change))


def test_an_unknown_alternative_is_refused():
    with pytest.raises(ValueError, match="two-sided, less or greater, not 'worse'"):
        label_swap_p([1], [1], 1, [1], alternative="worse")


latencies = st.lists(st.tuples(st.floats(1, 1e5), st.floats(1, 1e5)), min_size=1, max_size=9)


@settings(deadline=None)
@given(latencies)
def test_speed_agrees_with_its_oracles(pairs):
    a, b = (list(side) for side in zip(*pairs, strict=True))
    logs = np.log(a) - np.log(b)
    found = speed_ratio(a, b)
    assert found.value == pytest.approx(stats.gmean(np.array(a) / np.array(b)), rel=1e-9)
    assert (found.a_faster, found.b_faster) == (sum(logs < 0), sum(logs > 0))
    decided = found.a_faster + found.b_faster
    sign = stats.binomtest(found.a_faster, decided).pvalue if decided else 1.0
    assert found.sign_p == pytest.approx(sign, abs=1e-12)

    flips = [np.dot(signs, logs) for signs in itertools.product((1, -1), repeat=len(logs))]
    bar = abs(sum(logs)) * (1 - 1e-9) - 1e-12 * sum(abs(logs))
    assert found.p == pytest.approx(np.mean(np.abs(flips) >= bar), abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 10, 31, 300])
def test_the_interval_of_the_ratio_is_a_t_interval(n):
    rng = np.random.default_rng(n)
    a, b = rng.lognormal(0.2, 1, n), rng.lognormal(0, 1, n)
    peer = stats.ttest_1samp(np.log(a / b), 0).confidence_interval(0.95)
    found = speed_ratio(a.tolist(), b.tolist())
    assert (math.log(found.low), math.log(found.high)) == pytest.approx(tuple(peer), rel=1e-9)


@settings(deadline=None)
@given(latencies)
def test_swapping_the_models_inverts_the_ratio(pairs):
    a, b = (list(side) for side in zip(*pairs, strict=True))
    there, back = speed_ratio(a, b), speed_ratio(b, a)
    assert back.value * there.value == pytest.approx(1, rel=1e-9)
    assert (back.p, back.sign_p) == pytest.approx((there.p, there.sign_p))
    if there.low is not None:
        assert back.high * there.low == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("n", [19, 20])
def test_beyond_enumeration_the_sign_flip_stays_close(n):
    rng = np.random.default_rng(n)
    a, b = rng.lognormal(0.4, 1, n), rng.lognormal(0, 1, n)
    logs = np.log(a / b)
    sums = np.array([0.0])
    for x in logs:
        sums = np.concatenate([sums + x, sums - x])
    exact = np.mean(np.abs(sums) >= abs(logs.sum()) - 1e-9)
    assert speed_ratio(a.tolist(), b.tolist()).p == pytest.approx(exact, abs=2e-3)


@pytest.mark.parametrize("n", [5, 18, 19, 40])
def test_one_side_faster_everywhere_is_the_rarest_of_all_flips(n):
    a = [100.0 + i for i in range(n)]
    found = speed_ratio([ms * 1.5 for ms in a], a)
    assert found.p == pytest.approx(2 / 2**n)
    assert found.sign_p == pytest.approx(2 / 2**n)


@pytest.mark.parametrize("n", [1, 6, 25])
def test_equal_latencies_are_no_evidence(n):
    found = speed_ratio([250.0] * n, [250.0] * n)
    assert (found.value, found.p, found.sign_p) == (1.0, 1.0, 1.0)
    assert (found.a_faster, found.b_faster, found.n) == (0, 0, n)


def test_one_check_has_a_ratio_and_no_interval():
    found = speed_ratio([300], [200])
    assert found.value == pytest.approx(1.5)
    assert (found.low, found.high, found.p) == (None, None, 1.0)


@pytest.mark.parametrize("bad", [0, -1, math.inf, math.nan])
def test_latencies_that_cannot_be_compared_are_refused(bad):
    with pytest.raises(ValueError, match="positive and finite"):
        speed_ratio([100, bad], [100, 100])
    with pytest.raises(ValueError, match="positive and finite"):
        speed_ratio([100, 100], [bad, 100])


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [])])
def test_unpaired_latencies_are_refused(a, b):
    with pytest.raises(ValueError, match="a latency of each model per check"):
        speed_ratio(a, b)


def test_smallest_gap_is_the_formula():
    shares = [w / 19 for w in WEIGHTS]
    terms = (
        v**2 * (x / 5 * (1 - x / 5) + y / 5 * (1 - y / 5))
        for v, x, y in zip(shares, A, B, strict=True)
    )
    assert smallest_detectable(A, B, 5, WEIGHTS) == pytest.approx(
        2.802 * math.sqrt(sum(terms) / 5), abs=1e-12
    )


def test_smallest_gap_with_other_counts_of_b():
    expected = 2.802 * math.sqrt(0.7 * 0.3 / 10 + 0.25 * 0.75 / 12)
    assert smallest_detectable([7], [3], 10, [1], trials_b=12) == pytest.approx(expected, abs=1e-12)


def test_a_prior_keeps_perfect_runs_from_claiming_to_see_everything():
    assert smallest_detectable([1], [1], 1, [1]) == 0.0
    expected = 2.802 * math.sqrt(2 * 0.75 * 0.25)
    assert smallest_detectable([1], [1], 1, [1], prior=0.5) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("gap", "low", "high"), [(0.05, 58, 102), (0.1, 17, 29), (0.2, 5, 8)])
def test_rounds_a_gap_takes_lie_where_simulation_put_them(gap, low, high):
    assert low <= rounds_to_detect(A, B, 5, WEIGHTS, gap) <= high


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 0.9), st.integers(1, 12))
def test_fewest_rounds_that_show_the_gap(x, y, gap, n):
    assume(x < n or y < n)
    x, y = min(x, n), min(y, n)
    rounds = rounds_to_detect([x] * 3, [y] * 3, n, [1, 2, 3], gap, prior=0)

    def seen(times):  # times·n trials at the same rates
        return smallest_detectable([x * times] * 3, [y * times] * 3, n * times, [1, 2, 3])

    # Only multiples of n have these rates exactly: the answer lies between two of them.
    above = math.ceil(rounds / n)
    assert seen(above) <= gap + 1e-9
    if rounds > n:
        assert seen((rounds - 1) // n) > gap


def test_a_perfect_pair_still_needs_rounds():
    assert rounds_to_detect([1], [1], 1, [1], 0.2) == math.ceil((2.802 / 0.2) ** 2 * 0.375)


@pytest.mark.parametrize("gap", [0, -0.1, math.nan])
def test_no_gap_cannot_be_detected(gap):
    with pytest.raises(ValueError, match="positive number"):
        rounds_to_detect([1], [1], 1, [1], gap)


@pytest.mark.parametrize("prior", [-0.5, math.inf, math.nan])
def test_senseless_priors_are_refused(prior):
    with pytest.raises(ValueError, match="a prior is a number of 0 or more"):
        smallest_detectable([1], [1], 1, [1], prior=prior)

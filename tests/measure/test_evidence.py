from __future__ import annotations

import copy
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentlimit.measure.evidence import EvidenceGate, for_threshold


def trials_until_decided(outcome: bool, **kwargs) -> tuple[int, str]:
    gate = EvidenceGate(0.8, 0.95, **kwargs)
    while gate.verdict == "undecided":
        gate.add(outcome)
        gate.end_round()
    return gate.trials, gate.verdict


def test_reference_lengths():
    assert trials_until_decided(True) == (18, "pass")
    assert trials_until_decided(False) == (3, "fail")


def test_stricter_errors_take_more_trials():
    assert trials_until_decided(True, alpha=0.01) == (27, "pass")
    assert trials_until_decided(False, beta=0.01) == (4, "fail")


def test_one_trial_moves_the_log_odds_by_its_likelihood_ratio():
    gate = EvidenceGate(0.8, 0.95)
    assert gate.log_odds == 0
    gate.add(True)
    assert gate.log_odds == pytest.approx(math.log(0.95 / 0.8), abs=1e-12)
    gate.add(False)
    assert gate.log_odds == pytest.approx(math.log(0.95 / 0.8) + math.log(0.05 / 0.2), abs=1e-12)
    assert gate.trials == 2


def test_a_light_check_moves_them_by_its_share_of_the_heaviest():
    gate = EvidenceGate(0.8, 0.95, max_weight=3)
    gate.add(False, 2)
    assert gate.log_odds == pytest.approx(2 / 3 * math.log(0.25), abs=1e-12)


def test_nothing_is_decided_inside_a_round():
    gate = EvidenceGate(0.8, 0.95)
    for _ in range(40):
        gate.add(True)
    assert gate.verdict == "undecided"
    gate.end_round()
    assert gate.verdict == "pass"


def test_a_decision_stays_and_later_trials_do_not_count():
    gate = EvidenceGate(0.8, 0.95)
    for _ in range(3):
        gate.add(False)
    gate.end_round()
    before = gate.log_odds
    for _ in range(100):
        gate.add(True)
        gate.end_round()
    assert (gate.verdict, gate.trials, gate.log_odds) == ("fail", 3, before)


def test_the_cap_ends_an_open_gate_at_the_end_of_a_round():
    gate = EvidenceGate(0.8, 0.95, max_trials=8)
    for _ in range(2):
        for outcome in (True, True, True, True, False):
            gate.add(outcome)
        assert gate.verdict == "undecided"
        gate.end_round()
    assert (gate.verdict, gate.trials) == ("inconclusive", 10)


def test_the_cap_does_not_hide_a_decision():
    assert trials_until_decided(True, max_trials=18) == (18, "pass")
    assert trials_until_decided(True, max_trials=17) == (17, "inconclusive")


weighted_trials = st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=60)


@settings(deadline=None)
@given(weighted_trials, st.randoms())
def test_the_order_of_trials_changes_nothing(trials, shuffler):
    def after(order):
        gate = EvidenceGate(0.7, 0.9, max_weight=3)
        for passed, weight in order:
            gate.add(passed, weight)
        gate.end_round()
        return gate.log_odds, gate.verdict

    shuffled = list(trials)
    shuffler.shuffle(shuffled)
    assert after(trials) == after(shuffled)


def exact_verdicts(truth: float, cap: int = 100) -> tuple[dict[str, float], float]:
    """Chance of each verdict and mean trials of a one-check run, by walking all its states."""
    ends = {"pass": 0.0, "fail": 0.0, "inconclusive": 0.0}
    mean = 0.0
    states = {0: (EvidenceGate(0.8, 0.95, max_trials=cap), 1.0)}
    while states:
        after: dict[int, tuple[EvidenceGate, float]] = {}
        for passes, (gate, chance) in states.items():
            for passed, share in ((True, truth), (False, 1 - truth)):
                following = copy.copy(gate)
                following.add(passed)
                following.end_round()
                if following.verdict == "undecided":
                    key = passes + passed
                    known = after.get(key, (following, 0.0))[1]
                    after[key] = following, known + chance * share
                else:
                    ends[following.verdict] += chance * share
                    mean += following.trials * chance * share
        states = after
    return ends, mean


@pytest.mark.parametrize(
    ("truth", "wrong", "mean"), [(0.8, "pass", 23.5), (0.95, "fail", 30.8), (1.0, "fail", 18)]
)
def test_errors_and_mean_trials_keep_their_promise(truth, wrong, mean):
    ends, trials = exact_verdicts(truth)
    assert sum(ends.values()) == pytest.approx(1)
    assert ends[wrong] <= 0.05
    assert trials == pytest.approx(mean, rel=0.1)


def test_unlike_checks_at_the_bad_score_do_not_pass_more_often():
    weights, rates = [3.0, 1.0, 1.0], [0.9, 0.6, 0.7]
    assert sum(w * p for w, p in zip(weights, rates, strict=True)) / 5 == pytest.approx(0.8)
    rng = random.Random(5)
    passed = 0
    for _ in range(400):
        gate = EvidenceGate(0.8, 0.95, max_weight=3, max_trials=150)
        while gate.verdict == "undecided":
            for weight, rate in zip(weights, rates, strict=True):
                gate.add(rng.random() < rate, weight)
            gate.end_round()
        passed += gate.verdict == "pass"
    assert passed <= 0.05 * 400


@pytest.mark.parametrize(("threshold", "good"), [(0.8, 0.95), (0.6, 0.9), (0.9, 0.975)])
def test_hypotheses_of_a_threshold(threshold, good):
    assert for_threshold(threshold) == pytest.approx((threshold, good), abs=1e-12)


@pytest.mark.parametrize("threshold", [0, 1, 1.2, -0.1, math.nan])
def test_a_threshold_no_gate_can_judge_is_refused(threshold):
    with pytest.raises(ValueError, match="a score of 1 cannot be proven"):
        for_threshold(threshold)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bad": 0.9, "good": 0.8}, "0 < bad < good < 1, not 0.9 and 0.8"),
        ({"good": 1.0}, "0 < bad < good < 1"),
        ({"bad": 0.0}, "0 < bad < good < 1"),
        ({"bad": math.nan}, "0 < bad < good < 1"),
        ({"alpha": 0}, "alpha and beta lie between 0 and 1"),
        ({"beta": 1}, "alpha and beta lie between 0 and 1"),
        ({"max_weight": 0}, "largest weight must be a positive number"),
        ({"max_weight": math.inf}, "largest weight must be a positive number"),
        ({"max_trials": 0}, "max_trials must be 1 or more"),
    ],
)
def test_senseless_gates_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EvidenceGate(**({"bad": 0.8, "good": 0.95} | arguments))


@pytest.mark.parametrize("weight", [-1, 2.5, math.nan])
def test_a_weight_outside_the_range_is_refused(weight):
    gate = EvidenceGate(0.8, 0.95, max_weight=2)
    with pytest.raises(ValueError, match="a weight lies between 0 and 2"):
        gate.add(True, weight)
    assert gate.trials == 0

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentlimit.measure.stability import classify, trials_to_be_stable


@pytest.mark.parametrize(("theta", "needed"), [(0.8, 14), (0.9, 29), (0.95, 59), (0.99, 299)])
def test_equal_outcomes_it_takes(theta, needed):
    assert trials_to_be_stable(theta) == needed
    assert classify(needed, needed, theta) == ("stable_pass", 0)
    assert classify(0, needed, theta) == ("stable_fail", 0)
    assert classify(needed - 1, needed - 1, theta) == ("undetermined", 1)


def test_one_trial_shows_no_stability():
    assert classify(1, 1) == ("undetermined", 28)
    assert classify(0, 0) == ("undetermined", 29)


@given(st.integers(2, 500), st.data())
def test_both_outcomes_seen_is_flaky(trials, data):
    passes = data.draw(st.integers(1, trials - 1))
    assert classify(passes, trials).label == "flaky"


def test_an_exact_quotient_is_not_rounded_up():
    assert trials_to_be_stable(theta=0.9, confidence=0.271) == 3
    assert trials_to_be_stable(theta=0.8, confidence=0.36) == 2
    assert trials_to_be_stable(theta=0.001, confidence=0.5) == 1


@pytest.mark.parametrize(("passes", "trials"), [(-1, 2), (3, 2)])
def test_senseless_counts_are_refused(passes, trials):
    with pytest.raises(ValueError, match="passes must lie between"):
        classify(passes, trials)


@pytest.mark.parametrize(("theta", "confidence"), [(0, 0.95), (1, 0.95), (0.9, 1), (0.9, 0)])
def test_levels_outside_0_1_are_refused(theta, confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        classify(1, 1, theta, confidence)

from __future__ import annotations

import math

import pytest

from pytest_agentlimit.reports import numbers


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.894737, "89.5 %"),
        (1.0, "100.0 %"),
        (0.0, "0.0 %"),
        (0.99999, "99.9 %"),
        (0.00001, "0.1 %"),
    ],
)
def test_only_a_whole_share_is_shown_as_whole(share, shown):
    assert numbers.percent(share) == shown


def test_an_interval_and_a_rate_carry_their_ends():
    assert numbers.interval(0.56741, 0.982163) == "56.7–98.2"
    assert numbers.rate(5, 6, 0.4365, 0.9699) == "5/6 44–97"


def test_what_was_not_measured_is_said_in_words():
    assert numbers.rate(0, 0, None, None) == "not measured"
    assert numbers.milliseconds(None) == "not measured"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.42, "0.4 ms"),
        (812.3, "812 ms"),
        (9_999.4, "9999 ms"),
        (9_999.5, "10.0 s"),
        (36_203, "36.2 s"),
        (math.inf, "timeout"),
        (None, "–"),
    ],
)
def test_a_duration_is_read_at_a_glance(value, shown):
    assert numbers.duration(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(6046.5, "6047 ms"), (3937.5, "3938 ms"), (36_203, "36203 ms"), (math.inf, "timeout")],
)
def test_milliseconds_are_exact_and_round_half_up(value, shown):
    assert numbers.milliseconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(8000, "8 s"), (1500, "1.5 s"), (750, "750 ms"), (120_000, "120 s"), (None, "–")],
)
def test_a_budget_is_shown_as_it_was_written(value, shown):
    assert numbers.budget(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(48.23, "48.2 s"), (185, "3 min 05 s"), (119.9, "2 min 00 s")]
)
def test_a_run_is_timed_in_minutes(value, shown):
    assert numbers.seconds(value) == shown

from __future__ import annotations

import json
import math

import pytest
from run_builders import GEMMA4, OPEN_CLAW, call, run, study, trial, trials

from pytest_agentlimit.reports.json_report import to_json
from pytest_agentlimit.runs.comparisons import compare, compare_all, speed_of, unlike
from pytest_agentlimit.runs.locking import lock_of
from pytest_agentlimit.runs.points import gap, p_number, p_value, points, signed
from pytest_agentlimit.runs.sides import (
    Budget,
    Report,
    Side,
    SideCheck,
    sides_of_lock,
    sides_of_report,
    sides_of_run,
)
from pytest_agentlimit.runs.summary import summarise

WEIGHTS = [1, 3, 2, 2, 3, 2, 1, 2, 2, 1]


def side(name: str, passes: list[int], n: int, **more: object) -> Side:
    checks = {
        f"t.py::test_{i}": SideCheck(weight=weight, passes=x, trials=n, **more)
        for i, (x, weight) in enumerate(zip(passes, WEIGHTS, strict=False))
    }
    return Side(name, checks)


def april() -> tuple[Side, Side]:
    records = study("gemma4", GEMMA4, 3) + study("open-claw", OPEN_CLAW, 1)
    one, other = sides_of_run(run(records, "gemma4", "open-claw"))
    return one, other


def test_the_example_of_the_method_is_a_proven_gap():
    a = side("a", [5, 4, 5, 1, 5, 5, 3, 5, 5, 5], 5)
    b = side("b", [5, 2, 5, 0, 5, 4, 2, 5, 3, 5], 5)
    part = compare(a, b)
    assert part.difference == pytest.approx(0.157895, abs=1e-6)
    assert part.low == pytest.approx(0.016035, abs=1e-6)
    assert part.high == pytest.approx(0.292785, abs=1e-6)
    assert part.p_value == pytest.approx(0.0289326, abs=1e-6)
    assert part.verdict == "better: a scores above b, +15.8 points (+1.6 … +29.3), p = .029"
    assert compare(b, a).verdict == "worse: b scores below a, −15.8 points (−29.3 … −1.6), p = .029"


def test_the_study_of_april_cannot_tell_and_says_what_it_would_take():
    a, b = april()
    part = compare(a, b)
    assert part.p_value == 1.0
    assert (part.speed_ratio, part.speed_low, part.speed_high) == pytest.approx(
        (1.689, 1.076, 2.651), abs=1e-3
    )
    assert part.speed_p == pytest.approx(1 / 256)
    assert part.verdict.startswith("cannot tell: gemma4 against open-claw, +5.3 points")
    assert part.verdict.endswith("needs about 33 more rounds to see a gap of 10 points")


def test_many_equal_trials_are_not_worse_by_more_than_a_bound():
    part = compare(side("new", [58] * 10, 60), side("old", [58] * 10, 60))
    assert part.verdict.startswith("not worse by more than 3 points: new than old, 0.0 points (−")
    assert part.low is not None
    assert part.low > -0.03


def test_a_gap_that_the_trials_would_have_shown_asks_for_no_more_rounds():
    part = compare(side("a", [21] * 10, 25), side("b", [22] * 10, 25))
    assert part.low is not None
    assert part.low < -0.1
    assert part.verdict.startswith("cannot tell: a against b, −4.0 points")
    assert part.verdict.endswith("; a gap of 10 points would have shown 4 times in 5")


def test_a_claim_needs_the_interval_and_the_test():
    a, b = side("a", [3] * 3, 3), side("b", [0, 3, 3], 3)
    part = compare(a, b)
    assert part.p_value is not None
    assert part.p_value > 0.05
    assert not part.verdict.startswith(("better", "worse:"))


def test_only_checks_scored_on_both_are_compared():
    records = [
        trial("t.py::test_a", model="a"),
        trial("t.py::test_b", "failed", model="a"),
        trial("t.py::test_a", model="b"),
        trial("t.py::test_b", "infra", model="b"),
    ]
    part = compare(*sides_of_run(run(records, "a", "b")))
    assert part.difference == 0


def test_sides_without_a_common_check_cannot_be_told_apart():
    part = compare(side("a", [1], 1), Side("b", {}))
    assert (part.difference, part.p_value, part.smallest_detectable) == (None, None, None)
    assert part.speed_ratio is None
    assert part.verdict == "cannot tell: a and b share no scored check that has a weight"


def test_all_models_of_a_run_are_paired_in_order():
    records = [trial(model=name) for name in ("x", "y", "z")]
    parts = summarise(run(records, "x", "y", "z")).comparisons
    assert [(part.a, part.b) for part in parts] == [("x", "y"), ("x", "z"), ("y", "z")]
    assert compare_all(sides_of_run(run([trial()]))) == ()


def test_a_check_with_a_timeout_is_left_out_of_the_speed_and_counted():
    records = study("a", GEMMA4, 3) + study("b", OPEN_CLAW, 1)
    records[0] = trial("study.py::test_0", "failed", model="a", timed_out=True)
    speed = speed_of(*sides_of_run(run(records, "a", "b")))
    assert speed.timeouts == 1
    assert speed.ratio is not None
    assert speed.ratio.n == 9


@pytest.mark.parametrize("ms", [5e-324, 1e308])
def test_a_latency_that_no_clock_could_have_shown_is_in_no_speed(ms):
    records = [trial(model="a", latency_ms=ms), trial(model="b", latency_ms=100.0)]
    data = run(records, "a", "b")
    assert summarise(data).comparisons[0].speed_ratio is None
    report = Report.model_validate_json(to_json(summarise(data)))
    assert compare(*sides_of_report(report)).speed_ratio is None


def test_the_speed_of_a_check_is_the_geometric_mean_of_its_trials():
    slow = [trial(model="a", number=i, latency_ms=ms) for i, ms in enumerate((100.0, 400.0), 1)]
    fast = [trial(model="b", latency_ms=100.0)]
    speed = speed_of(*sides_of_run(run([*slow, *fast], "a", "b"))).ratio
    assert speed is not None
    assert speed.value == pytest.approx(2.0)


def test_identical_outputs_count_once_from_trials_locks_and_reports():
    same = call("0" * 64)
    data = run([trial(number=i, calls=(same,)) for i in range(1, 7)])
    (check,) = sides_of_run(data)[0].checks.values()
    assert (check.passes, check.trials) == (1, 1)
    (locked,) = sides_of_lock(lock_of(data))[0].checks.values()
    assert (locked.passes, locked.trials) == (1, 1)
    report = Report.model_validate_json(to_json(summarise(data)))
    (told,) = sides_of_report(report)[0].checks.values()
    assert (told.passes, told.trials) == pytest.approx((1, 1))


def test_a_report_file_gives_the_counts_and_medians_of_its_run():
    data = run(trials(["passed", "failed", "passed"], latency_ms=250.0))
    report = json.loads(to_json(summarise(data)))
    report["models"][0]["extra"] = "a hook may add keys"
    (told,) = sides_of_report(Report.model_validate(report))[0].checks.values()
    (own,) = sides_of_run(data)[0].checks.values()
    assert (told.passes, told.trials, told.p50_ms) == (own.passes, own.trials, own.p50_ms)
    assert told.log_ms == pytest.approx(own.log_ms)
    assert (told.budget, told.version) == (None, None)


def test_a_run_compared_with_its_own_report_is_the_same():
    a, b = april()
    report = Report.model_validate_json(
        to_json(summarise(run(study("open-claw", OPEN_CLAW, 1), "open-claw")))
    )
    (told,) = sides_of_report(report)
    assert unlike(a, told) == []
    assert compare(a, told).speed_p == compare(a, b).speed_p


def test_like_sides_have_no_differences():
    assert unlike(*april()) == []


def changed(**fields: object) -> list[str]:
    base = {"weight": 2, "passes": 1, "trials": 1, "budget": Budget(8000, 0.95), "version": "a"}
    one = Side("old", {"t.py::test_x": SideCheck(**base)}, shape="bare")
    other = SideCheck(**{**base, **fields})
    return unlike(one, Side("new", {"t.py::test_x": other}, shape="bare"))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, None),
        ({"passes": 0, "trials": 9}, None),
        ({"weight": 3}, "weights differ: t.py::test_x has 2 in old and 3 in new"),
        (
            {"budget": Budget(None, 0.95)},
            "budgets differ: t.py::test_x has P95 8000 ms in old and none in new",
        ),
        (
            {"budget": Budget(8000, 0.5)},
            "budgets differ: t.py::test_x has P95 8000 ms in old and P50 8000 ms in new",
        ),
        ({"budget": None}, None),
        ({"version": "b"}, "the check's text or generator changed: t.py::test_x"),
        ({"version": None}, None),
    ],
)
def test_what_makes_a_check_another_one(fields, line):
    assert changed(**fields) == ([] if line is None else [line])


def test_missing_checks_and_another_shape_are_named_and_bounded():
    one = side("old", [1] * 10, 1)
    few = dict(list(one.checks.items())[:2])
    other = Side("new", {**few, "t.py::test_\x1bnew": SideCheck(1, 1, 1)}, shape="agent")
    lines = unlike(Side("old", one.checks, shape="bare"), other)
    assert lines == [
        "requests are bare in old and agent in new",
        "scored in old only: t.py::test_2, t.py::test_3, t.py::test_4 and 5 more",
        "scored in new only: t.py::test_\\x1bnew",
    ]


def test_names_from_outside_are_printable_in_the_verdict():
    a, b = side("a\x1b[31m\n", [1], 1), side("b" * 500, [1], 1)
    verdict = compare(a, b).verdict
    assert verdict.isprintable()
    assert len(verdict) < 400


@pytest.mark.parametrize(
    ("p", "text"),
    [(1.0, "1.0"), (0.997, ".99"), (0.62, ".62"), (0.0214843, ".021"), (1 / 256, ".0039")],
)
def test_p_values_have_two_digits(p, text):
    assert p_number(p) == text
    assert p_value(p) == f"p = {text}"


def test_a_tiny_p_and_a_tiny_gap_are_never_shown_as_nothing():
    assert p_value(1e-12) == "p < .0001"
    assert points(1e-9) == "0.1 points"
    assert (signed(0), signed(-0.0526), signed(1e-9)) == ("0.0", "−5.3", "+0.1")
    assert gap(0.0, -0.1, 0.1) == "0.0 points (−10.0 … +10.0)"


def test_an_infinite_median_of_a_report_is_a_timeout():
    data = run([trial(outcome="failed", timed_out=True)])
    report = Report.model_validate_json(to_json(summarise(data)))
    (told,) = sides_of_report(report)[0].checks.values()
    assert told.timed_out
    assert told.p50_ms == math.inf
    assert told.log_ms is None

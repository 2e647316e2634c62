from __future__ import annotations

import pytest
from run_builders import GEMMA4, OPEN_CLAW, nodeid, run, study, trial, trials

from pytest_agentlimit.runs.gate import evaluate, gate_part, is_red
from pytest_agentlimit.runs.records import GateSettings
from pytest_agentlimit.runs.summary import summarise

A, B, C = (f"test_{name}.py::test_{name}" for name in "abc")
MODES = ("point", "strict", "proven", "off")


def results_of(data):
    return evaluate(data, summarise(data).models)


def rule(data, name):
    (found,) = [result for result in results_of(data) if result.part.rule == name]
    return found


def names(data):
    return [result.part.rule for result in results_of(data)]


def reds(data):
    results = results_of(data)
    gate = data.manifest.gate
    return [mode for mode in MODES if is_red(results, gate.model_copy(update={"mode": mode}))]


def test_without_options_only_lost_reports_redden():
    bad = run([trial(outcome="failed", blocker=True), *trials(["infra"] * 9, B)])
    assert gate_part(results_of(bad)).verdict == "fail"
    assert reds(bad) == []
    lost = run(trials(["passed"]), expected=[nodeid(A), nodeid(A, trial=2)])
    assert reds(lost) == ["point", "strict", "proven"]


def test_rules_in_force_without_options():
    assert names(run(trials(["passed"]))) == ["completion", "scored", "reported"]
    assert names(run([trial(blocker=True)])) == ["blockers", "completion", "scored", "reported"]


def test_a_score_is_proven_by_the_whole_interval():
    data = run(trials(["passed"] * 16), min_score=0.8)
    found = rule(data, "score")
    assert (found.part.verdict, found.part.observed, found.part.limit) == ("pass", 1.0, 0.8)
    assert reds(data) == []


def test_a_breach_is_proven_by_the_whole_interval():
    data = run(trials(["failed"] * 5), min_score=0.8)
    found = rule(data, "score")
    assert (found.part.verdict, found.leans_to_pass) == ("fail", False)
    assert "0.0 % (0.0–43.4)" in found.part.message
    assert reds(data) == ["point", "strict", "proven"]


@pytest.mark.parametrize(
    ("outcomes", "leans", "red"),
    [
        (["passed"] * 5, "pass", ["strict"]),
        (["passed"] * 4 + ["failed"], "pass", ["strict"]),
        (["passed"] * 3 + ["failed"] * 2, "fail", ["point", "strict"]),
    ],
)
def test_an_open_score_leans_and_the_mode_decides(outcomes, leans, red):
    data = run(trials(outcomes), min_score=0.8)
    found = rule(data, "score")
    assert found.part.verdict == "inconclusive"
    assert f"leans to a {leans}" in found.part.message
    assert gate_part(results_of(data)).verdict == "inconclusive"
    assert reds(data) == red


def test_a_score_rule_says_how_much_more_evidence_would_decide():
    one_round = [
        trial(f"t.py::test_{i}", weight=w) for i, w in enumerate([1, 3, 2, 2, 3, 2, 1, 2, 2, 1])
    ]
    assert (
        "about 1 more round like these" in rule(run(one_round, min_score=0.8), "score").part.message
    )
    assert "about 3 more rounds" in rule(run(one_round, min_score=0.9), "score").part.message
    on_the_bar = run(trials(["passed"] * 4 + ["failed"]), min_score=0.8)
    assert "more than 1000 more rounds" in rule(on_the_bar, "score").part.message


def test_so_many_more_rounds_do_decide():
    outcomes = ["passed"] * 9 + ["failed"]
    message = rule(run(trials(outcomes), min_score=0.8), "score").part.message
    more = int(message.split("about ")[1].split()[0])
    n = 10 + more
    for total, verdict in ((n, "pass"), (n - 10, "inconclusive")):
        passed = round(0.9 * total)
        longer = trials(["passed"] * passed + ["failed"] * (total - passed))
        assert rule(run(longer, min_score=0.8), "score").part.verdict == verdict


def test_a_bar_met_on_paper_is_not_missed_by_a_rounding_error():
    outcomes = ["passed"] * 30 + ["failed"] * 10
    low = summarise(run(trials(outcomes))).models[0].score.low
    assert rule(run(trials(outcomes), min_score=low + 1e-12), "score").part.verdict == "pass"
    open_bar = rule(run(trials(outcomes), min_score=0.75 + 1e-12), "score")
    assert (open_bar.part.verdict, open_bar.leans_to_pass) == ("inconclusive", True)


def test_a_score_asked_of_checks_without_weight_fails():
    data = run([trial(weight=0.0)], min_score=0.5)
    assert rule(data, "score").part.verdict == "fail"


def test_a_score_next_to_its_bar_is_told_apart_in_words():
    outcomes = ["passed"] * 7999 + ["failed"] * 2001
    message = rule(run(trials(outcomes), min_score=0.8), "score").part.message
    assert "79.99 %" in message
    assert "80.00 %" in message


@pytest.mark.parametrize(
    ("over", "n", "verdict", "red"),
    [
        (0, 59, "pass", []),
        (0, 10, "inconclusive", ["strict"]),
        (1, 10, "inconclusive", ["point", "strict"]),
        (1, 20, "inconclusive", ["strict"]),
        (3, 10, "fail", ["point", "strict", "proven"]),
    ],
)
def test_p95_within_budget(over, n, verdict, red):
    slow = [trial(A, number=i, latency_ms=200.0, budget_ms=100.0) for i in range(1, over + 1)]
    fast = [trial(A, number=i, latency_ms=50.0, budget_ms=100.0) for i in range(over + 1, n + 1)]
    data = run(slow + fast, p95="within-budget")
    found = rule(data, "p95")
    assert found.part.verdict == verdict
    assert f"{over} of {n} over budget" in found.part.message
    assert reds(data) == red


def test_p95_says_how_many_good_trials_would_decide():
    data = run(trials(["passed"] * 10, latency_ms=1.0, budget_ms=2.0), p95="within-budget")
    part = rule(data, "p95").part
    assert "49 more trials within budget would decide" in part.message
    assert "P95 is 0.50 times the budget (the maximum)" in part.message
    assert (part.observed, part.limit) == (0.5, 1.0)


def test_a_duration_is_the_budget_of_every_trial():
    data = run(study("m", OPEN_CLAW, failed=1), p95=8000.0)
    part = rule(data, "p95").part
    assert (part.verdict, part.observed, part.limit) == ("inconclusive", 7906, 8000)
    assert "P95 is 7906 ms (the maximum) against a budget of 8000 ms" in part.message
    assert reds(data) == ["strict"]
    slower = run(study("m", GEMMA4, failed=3), p95=8000.0)
    assert rule(slower, "p95").part.verdict == "fail"


def test_a_timeout_breaks_any_budget():
    timeouts = [trial(number=i, outcome="failed", timed_out=True) for i in (1, 2, 3)]
    data = run([*timeouts, *trials(["passed"] * 7, B)], p95=8000.0)
    part = rule(data, "p95").part
    assert part.verdict == "fail"
    assert "P95 is a timeout" in part.message


@pytest.mark.parametrize(
    ("asked", "words"),
    [("within-budget", "latency_budget"), (5000.0, "no scored trial has a latency")],
)
def test_p95_with_nothing_to_hold_against_it_fails(asked, words):
    data = run(trials(["passed"] * 3, latency_ms=None), p95=asked)
    found = rule(data, "p95")
    assert found.part.verdict == "fail"
    assert words in found.part.message
    assert reds(data) == ["point", "strict", "proven"]


@pytest.mark.parametrize("outcome", ["failed", "crashed"])
def test_a_blocker_fails_whatever_the_score(outcome):
    data = run([*trials(["passed"] * 60, A), trial(B, outcome, blocker=True)], min_score=0.5)
    found = rule(data, "blockers")
    assert found.part.verdict == "fail"
    assert B in found.part.message
    assert gate_part(results_of(data)).verdict == "fail"
    assert reds(data) == ["point", "strict", "proven"]


def test_one_failed_trial_of_a_blocker_is_enough():
    data = run(trials(["passed", "failed", "passed"], blocker=True), min_score=0.1)
    assert rule(data, "blockers").part.verdict == "fail"


def test_a_blocker_that_passed_is_said_and_one_never_scored_is_open():
    assert rule(run(trials(["passed"] * 2, blocker=True)), "blockers").part.verdict == "pass"
    unseen = rule(run([trial(A), trial(B, "infra", blocker=True)]), "blockers")
    assert (unseen.part.verdict, unseen.leans_to_pass) == ("inconclusive", False)


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        (["passed"] * 19 + ["infra"], "pass"),
        (["passed"] * 18 + ["infra"], "fail"),
        (["failed"] * 19 + ["infra"], "pass"),
        (["passed"] * 9 + ["inconclusive"], "fail"),
        (["passed"] * 2 + ["unsupported"] * 5 + ["skipped"] * 5, "pass"),
    ],
)
def test_completion_needs_95_percent_of_what_could_be_scored(outcomes, verdict):
    data = run(trials(outcomes), min_score=0.01)
    assert rule(data, "completion").part.verdict == verdict


def test_lost_trials_lower_completion():
    ids = [nodeid(A, trial=i) for i in range(1, 11)]
    data = run(trials(["passed"] * 9), expected=ids)
    part = rule(data, "completion").part
    assert (part.verdict, part.observed) == ("fail", 0.9)
    assert "1 without a report" in part.message


@pytest.mark.parametrize("outcome", ["infra", "skipped", "unsupported", "inconclusive"])
def test_nothing_scored_is_a_failure(outcome):
    data = run(trials([outcome] * 3), min_score=0.1, p95="within-budget")
    found = rule(data, "scored")
    assert (found.part.verdict, found.part.observed) == ("fail", 0)
    assert reds(data) == ["point", "strict", "proven"]


def test_a_run_without_checks_or_models_scored_nothing():
    empty = run([], min_score=0.1)
    assert "no check was collected" in rule(empty, "scored").part.message
    no_model = empty.model_copy(
        update={"manifest": empty.manifest.model_copy(update={"models": ()})}
    )
    assert rule(no_model, "scored").part.verdict == "fail"
    assert reds(no_model) == ["point", "strict", "proven"]


def test_a_lost_report_is_a_failure_and_named():
    ids = [nodeid(A, trial=i) for i in range(1, 8)]
    data = run(trials(["passed"] * 2), expected=ids)
    part = rule(data, "reported").part
    assert (part.verdict, part.observed, part.limit) == ("fail", 2, 7)
    assert all(one in part.message for one in ids[2:5])
    assert ids[5] not in part.message
    assert "and 2 more" in part.message


def test_all_reported_passes():
    part = rule(run(trials(["passed", "infra"])), "reported").part
    assert (part.verdict, part.message) == ("pass", "all 2 collected trials reported")


def test_each_of_several_models_has_its_own_rule_and_is_named():
    records = trials(["passed"] * 20, model="good") + trials(["failed"] * 20, model="bad")
    data = run(records, "good", "bad", min_score=0.8)
    scores = [r.part for r in results_of(data) if r.part.rule == "score"]
    assert [(part.verdict, part.message.split(":")[0]) for part in scores] == [
        ("pass", "good"),
        ("fail", "bad"),
    ]
    assert names(data).count("reported") == 1
    assert reds(data) == ["point", "strict", "proven"]


def test_one_silent_model_fails_the_run():
    data = run(trials(["passed"] * 60, model="good"), "good", "silent", min_score=0.5)
    assert reds(data) == ["point", "strict", "proven"]


def test_a_fail_outweighs_an_open_rule():
    data = run([*trials(["passed"] * 5), trial(B, "failed", blocker=True)], min_score=0.8)
    verdicts = {result.part.verdict for result in results_of(data)}
    assert {"fail", "inconclusive"} <= verdicts
    assert summarise(data).gate.verdict == "fail"


def test_hostile_ids_are_printable_in_messages():
    data = run([trial("t.py::test_\x1b[31m", "failed", blocker=True)])
    assert "\x1b" not in rule(data, "blockers").part.message


def test_regating_needs_only_other_settings():
    data = run(trials(["passed"] * 16))
    stricter = data.manifest.model_copy(update={"gate": GateSettings(min_score=0.99)})
    regated = data.model_copy(update={"manifest": stricter})
    assert "score" not in names(data)
    assert rule(regated, "score").part.verdict == "inconclusive"

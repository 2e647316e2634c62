from __future__ import annotations

from typing import Any

import pytest
from run_builders import call, nodeid, run, study, trial, trials

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.runs.gate import evaluate, is_red
from pytest_agentlimit.runs.records import RunData
from pytest_agentlimit.runs.regate import matching, regate
from pytest_agentlimit.runs.summary import summarise

TOOL, JSON, CLASS = (
    "tests/test_a.py::test_tool_call",
    "tests/test_a.py::test_strict_json[deep=1]",
    "tests/test_b.py::TestPlans::test_two_steps",
)


def rules(data: RunData) -> dict[str, str]:
    return {rule.rule: rule.verdict for rule in summarise(data).gate.rules}


def red(data: RunData) -> bool:
    return is_red(evaluate(data, summarise(data).models), data.manifest.gate)


def mixed(**gate: Any) -> RunData:
    """Tool calls pass, JSON fails half of the time; 20 trials of each."""
    good = trials(["passed"] * 20, TOOL, budget_ms=50.0)
    half = trials(["passed", "failed"] * 10, JSON, budget_ms=200.0)
    return run([*good, *half], **gate)


def test_the_summary_is_that_of_a_run_made_with_these_settings():
    asked = run(
        [
            *trials(["passed"] * 20, TOOL, budget_ms=50.0, weight=3.0, blocker=True),
            *trials(["passed", "failed"] * 10, JSON, budget_ms=7000.0),
        ],
        min_score=0.6,
        p95="within-budget",
        mode="strict",
    )
    judged = regate(
        mixed(),
        min_score=0.6,
        p95="within-budget",
        mode="strict",
        weights={"tool call": 3.0},
        budgets={"*json*": 7000.0},
        blockers=["test_tool_call"],
    )
    assert summarise(judged) == summarise(asked)
    assert rules(judged)["blockers"] == "pass"


def test_what_is_not_given_stays():
    data = mixed(min_score=0.5, p95="within-budget", mode="proven")
    judged = regate(data, min_score=0.9)
    gate = judged.manifest.gate
    assert (gate.min_score, gate.p95, gate.mode) == (0.9, "within-budget", "proven")
    assert judged.records == data.records


def test_nothing_given_gives_the_same_run():
    data = mixed(min_score=0.5)
    assert regate(data) == data


def test_the_run_itself_is_not_changed():
    data = mixed(min_score=0.5)
    before = data.model_dump_json()
    regate(data, min_score=0.9, weights={"tool": 5}, budgets={"tool": 1})
    assert data.model_dump_json() == before


def test_the_verdict_follows_the_bar():
    data = mixed()
    assert rules(regate(data, min_score=0.3))["score"] == "pass"
    assert rules(regate(data, min_score=0.99))["score"] == "fail"
    assert [red(regate(data, min_score=bar)) for bar in (0.3, 0.99)] == [False, True]
    assert not red(regate(data, min_score=0.99, mode="off"))


def test_the_mode_decides_on_what_cannot_be_told():
    data = mixed(min_score=0.7)
    assert rules(data)["score"] == "inconclusive"
    assert [red(regate(data, mode=mode)) for mode in ("strict", "proven")] == [True, False]


def test_a_weight_moves_the_score_and_a_budget_the_p95():
    data = mixed(min_score=0.3, p95="within-budget")
    assert summarise(data).models[0].score.value == pytest.approx(0.75)
    heavier = regate(data, weights={"json": 3.0})
    assert summarise(heavier).models[0].score.value == pytest.approx(0.625)
    assert rules(data)["p95"] == "fail"
    assert summarise(data).models[0].latency.over_budget == 20
    assert summarise(regate(data, budgets={"*": 150.0})).models[0].latency.over_budget == 0


def test_a_note_says_what_came_after_the_run():
    judged = regate(
        mixed(min_score=0.5), min_score=0.855, p95=6000.0, weights={"t": 2.0}, blockers=["json"]
    )
    assert judged.notes == (
        "judged again after the run, with minimum score 85.5 % (was 50 %); P95 6 s (was not "
        "asked); weight 2 for strict json [deep=1], tool call; blocker set for "
        "strict json [deep=1]",
    )


# patterns


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("tool call", [TOOL]),
        ("test_tool_call", [TOOL]),
        (TOOL, [TOOL]),
        (JSON, [JSON]),
        ("[deep=1]", [JSON]),
        ("strict json [deep=1]", [JSON]),
        ("Plans: two", [CLASS]),
        ("tests/test_a.py::*", [TOOL, JSON]),
        ("*", [TOOL, JSON, CLASS]),
        ("t", [TOOL, JSON, CLASS]),
    ],
)
def test_a_pattern_is_a_glob_of_the_id_or_a_part_of_a_name(pattern, found):
    assert matching(pattern, [TOOL, JSON, CLASS]) == found


@pytest.mark.parametrize("pattern", ["tool cal1", "test_b.py", "\x1b[2J", "?", ""])
def test_a_pattern_without_a_check_names_near_ones(pattern):
    with pytest.raises(UsageProblem, match="no check fits .*(tool call|strict json)") as caught:
        matching(pattern, [TOOL, JSON])
    assert "\x1b" not in str(caught.value)


def test_a_run_without_records_has_no_check_to_weigh():
    with pytest.raises(UsageProblem, match="no record of any check"):
        regate(run([], min_score=0.5), weights={"a": 1.0})


def test_the_later_of_two_patterns_holds():
    judged = regate(mixed(min_score=0.5), weights={"*": 2.0, "json": 5.0})
    assert {r.plan.check: r.plan.weight for r in judged.records} == {TOOL: 2.0, JSON: 5.0}


# what makes no sense


def test_without_any_bar_it_says_which_to_give():
    with pytest.raises(UsageProblem, match="give --min-score=80, --p95=within-budget or --p95=6s"):
        regate(mixed(), mode="strict", weights={"tool": 2.0})


def test_budgets_of_checks_contradict_one_budget_for_all():
    for asked, given in ((6000.0, None), (None, 6000.0)):
        with pytest.raises(UsageProblem, match="the P95 of 6 s is one budget for all"):
            regate(mixed(p95=asked), p95=given, budgets={"tool": 1.0})
    assert regate(mixed(p95=6000.0), p95="within-budget", budgets={"tool": 1.0})


@pytest.mark.parametrize("purpose", ["classify", "audit"])
def test_a_run_that_gives_no_score_is_refused(purpose):
    data = run(trials(["passed"]))
    other = data.manifest.model_copy(update={"purpose": purpose})
    with pytest.raises(UsageProblem, match="has no score to gate"):
        regate(data.model_copy(update={"manifest": other}), min_score=0.5)


# runs that ended early


def stopped(ran: int, rounds: int = 40) -> RunData:
    """A run of one check that passes always, `ran` of its rounds under way before it ended."""
    records = [trial(number=i, calls=[call(str(i))]) for i in range(1, ran + 1)]
    ids = [nodeid("test_a.py::test_a", trial=i) for i in range(1, rounds + 1)]
    return run(records, expected=ids, min_score=0.8, early_stop=True)


def test_another_bar_takes_every_round_there_is_and_says_it_is_not_exact():
    data = stopped(20)
    assert summarise(data).models[0].score.rounds == 18
    judged = regate(data, min_score=0.9)
    model = summarise(judged).models[0]
    assert (model.score.rounds, model.completion.expected, model.completion.reported) == (20,) * 3
    assert rules(judged)["reported"] == "pass"
    assert not judged.manifest.gate.early_stop
    (note,) = [note for note in judged.notes if "ended after round 18" in note]
    assert "not exact" in note
    assert any("ended after round" in note for note in regate(data, weights={"a": 2.0}).notes)


def test_under_the_same_bar_the_early_end_holds():
    judged = regate(stopped(20), mode="strict")
    assert judged.manifest.gate.early_stop
    assert summarise(judged).models[0].score.rounds == 18
    assert rules(judged)["score"] == "pass"
    assert not any("ended after round" in note for note in judged.notes)


def test_a_run_that_could_have_ended_and_did_not_keeps_its_lost_trials():
    judged = regate(stopped(5), min_score=0.9)
    assert rules(judged)["reported"] == "fail"
    assert not any("ended after round" in note for note in judged.notes)


def test_ten_trials_cannot_prove_a_budget():
    data = run(study("m", [1000.0] * 10, failed=3))
    judged = regate(data, p95="within-budget", budgets={"study": 8000.0})
    assert rules(judged)["p95"] == "inconclusive"
    assert summarise(judged).gate.verdict == "inconclusive"

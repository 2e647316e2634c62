from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import pytest
from run_builders import STUDY_WEIGHTS, call, manifest, nodeid, run, trial

from pytest_agentlimit.runs.expected import expected_trial
from pytest_agentlimit.runs.records import RunData, TrialRecord
from pytest_agentlimit.runs.stopping import Stop, evidence_stop, first_flip
from pytest_agentlimit.runs.summary import summarise
from pytest_agentlimit.runs.trials import model_trials, needed_and_lost, not_needed

ROUNDS = 8


def rounds(number: int, outcome: str = "passed", checks: int = 10) -> list[TrialRecord]:
    return [
        trial(
            f"s.py::test_{check}",
            outcome,
            number=round_,
            weight=STUDY_WEIGHTS[check],
            calls=[call(f"{check}-{round_}")],
        )
        for round_ in range(1, number + 1)
        for check in range(checks)
    ]


def due(checks: int = 10, of: int = ROUNDS) -> Counter[int]:
    return Counter(dict.fromkeys(range(1, of + 1), checks))


def ids(checks: int = 10, of: int = ROUNDS) -> list[str]:
    return [
        nodeid(f"s.py::test_{check}", trial=n) for n in range(1, of + 1) for check in range(checks)
    ]


def early(records: Iterable[TrialRecord], **gate: object) -> RunData:
    return run(records, expected=ids(), min_score=0.8, early_stop=True, **gate)


def test_a_perfect_model_is_passed_after_three_rounds_of_the_study() -> None:
    # 19/3 · log(.95/.8) = 1.088 a round; log 20 = 2.996
    assert evidence_stop(rounds(8), due(), 0.8) == Stop(3, "pass")


def test_a_model_that_fails_everything_is_failed_after_one_round() -> None:
    assert evidence_stop(rounds(8, "failed"), due(), 0.8) == Stop(1, "fail")


def test_one_check_stops_where_the_reference_says() -> None:
    passing = [trial(number=n, calls=[call(str(n))]) for n in range(1, 31)]
    failing = [trial(outcome="failed", number=n, calls=[call(str(n))]) for n in range(1, 31)]
    assert evidence_stop(passing, due(1, 30), 0.8) == Stop(18, "pass")
    assert evidence_stop(failing, due(1, 30), 0.8) == Stop(3, "fail")


def test_nothing_is_decided_inside_a_round() -> None:
    records = rounds(3)
    assert evidence_stop(records[:-1], due(), 0.8) is None
    assert evidence_stop(records, due(), 0.8) == Stop(3, "pass")


def test_the_last_round_is_no_early_end() -> None:
    assert evidence_stop(rounds(3), due(of=3), 0.8) is None


def test_a_round_that_not_every_check_has_is_not_looked_at() -> None:
    records = [*rounds(2), *rounds(8, checks=5)[10:]]
    uneven = due()
    uneven.update(dict.fromkeys(range(3, 9), -5))
    assert evidence_stop(records, uneven, 0.8) is None


def test_byte_identical_outputs_are_one_trial() -> None:
    same = [trial(number=n, calls=[call("same")]) for n in range(1, 31)]
    assert evidence_stop(same, due(1, 30), 0.8) is None
    # Once one differs they were independent after all, and all of them count.
    differs = [*same[:19], trial(number=20, calls=[call("other")])]
    assert evidence_stop(differs, due(1, 30), 0.8) == Stop(20, "pass")


def test_infra_is_no_evidence_and_completes_a_round() -> None:
    records = [
        trial(outcome="infra" if n % 2 else "passed", number=n, calls=[call(str(n))])
        for n in range(1, 61)
    ]
    assert evidence_stop(records, due(1, 60), 0.8) == Stop(36, "pass")


@pytest.mark.parametrize("bar", [1.0, 0.0])
def test_a_bar_without_room_above_it_is_never_decided_early(bar: float) -> None:
    assert evidence_stop(rounds(8), due(), bar) is None


def test_what_ran_after_the_decision_does_not_count() -> None:
    alone = early(rounds(3))
    # With several workers, parts of later rounds ran before the decision arrived.
    late = early([*rounds(3), *(r for r in rounds(5, "failed") if r.plan.trial > 3)])
    assert summarise(alone).model_dump_json() == summarise(late).model_dump_json()
    assert not_needed(alone, "m")[:2] == (50, 0)
    assert not_needed(late, "m")[:2] == (50, 20)


def test_trials_that_were_not_needed_are_neither_expected_nor_lost_nor_passed() -> None:
    data = early(rounds(3))
    (model,) = model_trials(data)
    assert model.stop == Stop(3, "pass")
    assert (model.expected, len(model.records)) == (30, 30)
    assert needed_and_lost(data) == (30, [])
    summary = summarise(data)
    assert summary.gate.verdict == "pass"
    score = next(rule for rule in summary.gate.rules if rule.rule == "score")
    assert "decided after round 3 by the evidence gate" in score.message


def test_a_run_that_may_not_stop_early_is_judged_by_its_interval() -> None:
    data = run(rounds(8), expected=ids(), min_score=0.8)
    (model,) = model_trials(data)
    assert (model.stop, len(model.records)) == (None, 80)


def flips(outcomes: Sequence[str]) -> int | None:
    return first_flip(trial(outcome=outcome, number=n) for n, outcome in enumerate(outcomes, 1))


def test_the_first_flip_is_the_first_trial_that_differs() -> None:
    assert flips(["passed", "passed", "failed", "passed"]) == 3
    assert flips(["failed", "infra", "passed"]) == 3
    assert flips(["passed"] * 29) is None
    assert flips(["infra", "infra"]) is None


def test_a_trial_after_a_gap_does_not_count_yet() -> None:
    first, third = trial(number=1), trial(outcome="failed", number=3)
    assert first_flip([first, third]) is None
    assert first_flip([third, trial(number=2), first]) == 3


def test_a_classifying_run_counts_each_check_up_to_its_flip() -> None:
    flaky = [trial("f.py::test_f", "failed" if n == 2 else "passed", number=n) for n in range(1, 5)]
    steady = [trial("f.py::test_s", number=n) for n in range(1, 5)]
    expected = [nodeid(f"f.py::test_{c}", trial=n) for n in range(1, 5) for c in "fs"]
    data = RunData(
        manifest=manifest("m").model_copy(update={"purpose": "classify"}),
        records=(*flaky, *steady),
        expected=tuple(expected_trial(one, ["m"]) for one in expected),
    )
    (model,) = model_trials(data)
    assert [(check.plan.check, len(check.records)) for check in model.checks] == [
        ("f.py::test_f", 2),
        ("f.py::test_s", 4),
    ]
    assert model.expected == 6
    labels = [check.stability for check in summarise(data).models[0].checks]
    assert labels == ["flaky", "undetermined"]

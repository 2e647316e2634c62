from __future__ import annotations

import math
import random

import pytest
from run_builders import GEMMA4, OPEN_CLAW, call, nodeid, run, study, trial, trials

from pytest_agentlimit.chat.messages import Usage
from pytest_agentlimit.measure.score import weighted_score, wilson
from pytest_agentlimit.runs.records import TrialRecord
from pytest_agentlimit.runs.summary import notes, summarise

A, B, C = (f"test_{name}.py::test_{name}" for name in "abc")


def only_model(data):
    (model,) = summarise(data).models
    return model


def test_the_april_study_is_replayed():
    records = study("gemma4", GEMMA4, failed=3) + study("open-claw", OPEN_CLAW, failed=1)
    summary = summarise(run(records, "gemma4", "open-claw", p95="within-budget"))
    gemma4, open_claw = summary.models
    assert [m.score.value for m in summary.models] == pytest.approx([0.894737, 0.842105], abs=1e-6)
    assert (gemma4.score.low, gemma4.score.high) == pytest.approx((0.5675, 0.982163), abs=1e-6)
    assert (open_claw.score.low, open_claw.score.high) == pytest.approx(
        (0.511939, 0.967387), abs=1e-6
    )
    assert [(m.latency.p50_ms, m.latency.p95_ms) for m in summary.models] == [
        (6046.5, 36203),
        (3937.5, 7906),
    ]
    assert gemma4.latency.p95_is_max
    assert {check.stability for m in summary.models for check in m.checks} == {"undetermined"}


def test_checks_stand_in_collection_order_whatever_finished_first():
    records = [trial(check, number=n) for n in (1, 2) for check in (B, A, C)]
    ordered = run(records)
    shuffled = list(records)
    random.Random(3).shuffle(shuffled)
    mixed = run(shuffled, expected=[record.nodeid for record in records])
    assert [check.id for check in only_model(mixed).checks] == [B, A, C]
    assert summarise(mixed) == summarise(ordered)


def test_without_a_collection_the_order_of_records_is_kept():
    data = run([trial(C), trial(A), trial(C, number=2)], expected=[])
    assert [check.id for check in only_model(data).checks] == [C, A]


def test_the_last_attempt_of_a_trial_counts():
    records = [trial(outcome="failed"), trial(B), trial(outcome="passed", attempt=2)]
    model = only_model(run(records))
    assert [(check.id, check.passes, check.trials) for check in model.checks] == [
        (A, 1, 1),
        (B, 1, 1),
    ]
    assert model.completion.reported == 2


def test_only_scored_outcomes_are_evidence():
    outcomes = [
        "passed",
        "failed",
        "crashed",
        "infra",
        "unsupported",
        "inconclusive",
        "skipped",
    ]
    model = only_model(run(trials(outcomes)))
    (check,) = model.checks
    assert (check.passes, check.trials) == (1, 3)
    assert (check.rate_low, check.rate_high) == pytest.approx(tuple(wilson(1, 3)))
    assert check.outcomes == dict.fromkeys(outcomes, 1)
    assert model.completion.model_dump() == {
        "expected": 7,
        "reported": 7,
        "scored": 3,
        "infra": 1,
        "unsupported": 1,
    }


def test_the_score_is_made_of_checks_that_were_scored():
    records = [trial(A, weight=3), trial(B, "failed", weight=1), trial(C, "infra", weight=50)]
    model = only_model(run(records))
    expected = weighted_score([1, 0], [1, 1], [3, 1])
    assert (model.score.value, model.score.low, model.score.high) == pytest.approx(expected[:3])
    assert model.score.effective_trials == pytest.approx(expected.effective_trials)


def test_nothing_scored_is_not_measured_rather_than_zero():
    model = only_model(run(trials(["infra", "infra"], latency_ms=5.0)))
    score, latency = model.score, model.latency
    assert (score.value, score.low, score.high, score.effective_trials) == (None,) * 4
    assert (latency.n, latency.p50_ms, latency.p95_ms, latency.p95_upper_ms) == (
        0,
        None,
        None,
        None,
    )
    assert not latency.p95_is_max
    assert model.checks[0].rate_low is None


def test_a_model_without_any_record_is_still_reported():
    summary = summarise(run(trials(["passed"]), "m", "silent"))
    silent = summary.models[1]
    assert (silent.name, silent.checks, silent.completion.expected) == ("silent", (), 0)


def test_a_round_counts_when_every_check_was_scored_in_it():
    records = trials(["passed", "failed", "passed"], A) + trials(["passed", "infra", "failed"], B)
    assert only_model(run(records)).score.rounds == 2
    assert only_model(run([*records, trial(C, "infra")])).score.rounds == 0


def test_a_check_the_engine_cannot_do_does_not_hide_the_rounds():
    records = trials(["passed"] * 3, A) + trials(["unsupported"] * 3, B)
    assert only_model(run(records)).score.rounds == 3


def test_identical_outputs_count_as_one_trial():
    same = trials(["passed"] * 6, calls=[call("x"), call("y")])
    model = only_model(run(same))
    once = only_model(run(same[:1]))
    assert model.score.value == 1.0
    assert model.score.low == once.score.low
    assert model.checks[0].trials == 6
    assert model.checks[0].rate_low == once.checks[0].rate_low
    (sentence,) = notes(run(same))
    assert "all 6 outputs are byte-identical" in sentence
    assert A in sentence


@pytest.mark.parametrize(
    "digests", [["x", "y"], [None, None], ["x", None]], ids=["different", "unknown", "half-known"]
)
def test_other_outputs_are_trials_of_their_own(digests):
    records = [trial(number=i, calls=[call(d)]) for i, d in enumerate(digests, start=1)]
    data = run(records)
    assert only_model(data).checks[0].rate_low == pytest.approx(wilson(2, 2).low)
    assert notes(data) == []


def test_trials_without_a_call_are_not_identical():
    (note,) = notes(run(trials(["passed"] * 3)))
    assert "passed without asking the model" in note


def test_identical_outputs_leave_the_value_alone():
    mixed = trials(["passed", "passed", "failed"], calls=[call("x")])
    mixed.append(trial(number=4, outcome="crashed"))
    model = only_model(run(mixed))
    assert model.score.value == pytest.approx(0.5)
    assert model.score.effective_trials == pytest.approx(2)
    assert model.checks[0].stability == "flaky"


def test_repeats_of_one_output_are_no_proof_of_stability():
    fresh = [trial(number=i, calls=[call(str(i))]) for i in range(1, 31)]
    assert only_model(run(fresh)).checks[0].stability == "stable_pass"
    copies = trials(["passed"] * 30, calls=[call("x")])
    assert only_model(run(copies)).checks[0].stability == "undetermined"


def test_a_timeout_is_a_latency_without_end():
    records = [*trials(["passed"] * 4), trial(outcome="failed", number=5, timed_out=True)]
    latency = only_model(run(records)).latency
    assert (latency.n, latency.p50_ms, latency.p95_ms) == (5, 100.0, math.inf)
    assert '"p95_ms":"Infinity"' in summarise(run(records)).model_dump_json()


def test_infra_and_unmeasured_trials_are_no_latency_samples():
    records = [
        trial(number=1, latency_ms=10.0),
        trial(number=2, latency_ms=None),
        trial(number=3, outcome="infra", latency_ms=9999.0),
    ]
    assert only_model(run(records)).latency.n == 1


@pytest.mark.parametrize(("n", "is_max"), [(1, True), (19, True), (20, False)])
def test_p95_of_few_trials_is_labelled_the_maximum(n, is_max):
    records = [trial(number=i, latency_ms=float(i)) for i in range(1, n + 1)]
    latency = only_model(run(records)).latency
    assert latency.p95_is_max is is_max
    assert (latency.p95_ms == n) is is_max


def test_the_upper_bound_of_p95_exists_from_59_trials_on():
    records = [trial(number=i, latency_ms=float(i)) for i in range(1, 60)]
    assert only_model(run(records[:-1])).latency.p95_upper_ms is None
    assert only_model(run(records)).latency.p95_upper_ms == 59


def test_each_trial_is_held_against_the_budget_of_its_check():
    records = [
        *trials(["passed"] * 30, A, latency_ms=90.0, budget_ms=100.0),
        *trials(["passed"] * 30, B, latency_ms=900.0, budget_ms=1000.0),
        *trials(["passed"] * 5, C, latency_ms=9e9),
    ]
    latency = only_model(run(records)).latency
    assert (latency.n, latency.over_budget, latency.verdict) == (65, 0, "pass")
    strict = only_model(run(records, p95=500.0)).latency
    assert (strict.over_budget, strict.verdict) == (35, "fail")


def test_a_trial_exactly_on_its_budget_is_within():
    assert only_model(run([trial(latency_ms=100.0, budget_ms=100.0)])).latency.over_budget == 0


def test_without_a_budget_there_is_no_verdict():
    latency = only_model(run(trials(["passed"] * 3))).latency
    assert (latency.over_budget, latency.verdict) == (None, None)


def test_checks_with_other_quantiles_are_judged_apart():
    half = {"budget_ms": 100.0, "budget_quantile": 0.5}
    slow = [trial(A, number=i, latency_ms=60.0 * (1 + i % 3), **half) for i in range(1, 61)]
    fast = trials(["passed"] * 60, B, latency_ms=1.0, budget_ms=100.0)
    assert only_model(run(fast)).latency.verdict == "pass"
    assert only_model(run(fast + slow)).latency.verdict == "fail"


def test_usage_is_the_sum_of_what_was_reported():
    counted = [call(usage=Usage(input_tokens=10, output_tokens=2)), call(usage=Usage())]
    usage = only_model(run([trial(calls=counted), trial(number=2, calls=counted)])).usage
    assert (usage.input_tokens, usage.output_tokens, usage.calls) == (20, 4, 4)
    unknown = only_model(run([trial(calls=[call()])])).usage
    assert (unknown.input_tokens, unknown.output_tokens, unknown.calls) == (None, None, 1)


def test_the_first_failure_is_a_scored_one_in_trial_order():
    outcomes = ["infra", "passed", "failed", "crashed"]
    (check,) = only_model(run(reversed(trials(outcomes)))).checks
    assert check.first_failure == "failed in trial 3"
    assert only_model(run(trials(outcomes[:2]))).checks[0].first_failure == "infra in trial 1"
    assert only_model(run(trials(["passed"]))).checks[0].first_failure is None


def test_blame_is_counted_in_a_fixed_order():
    records = [
        trial(number=1, outcome="failed", blame="config"),
        trial(number=2, outcome="failed", blame="model"),
        trial(number=3, outcome="failed", blame="model"),
    ]
    assert list(only_model(run(records)).checks[0].blame.items()) == [("model", 2), ("config", 1)]


def test_completion_counts_collected_trials_of_each_model_once():
    ids = [nodeid(A, model, i) for model in ("m", "n") for i in (1, 2, 3)]
    records = [trial(number=1), trial(number=1, attempt=2), trial(number=1, model="n")]
    first, second = summarise(run(records, "m", "n", expected=ids)).models
    assert (first.completion.expected, first.completion.reported) == (3, 1)
    assert (second.completion.expected, second.completion.reported) == (3, 1)


def test_a_weight_of_zero_everywhere_is_no_score():
    model = only_model(run([trial(weight=0.0)]))
    assert model.score.value is None
    assert model.completion.scored == 1


def test_the_notes_of_the_run_come_first():
    data = run(trials(["passed"] * 2, calls=[call("x")])).model_copy(
        update={"notes": ("interrupted",)}
    )
    found = notes(data)
    assert found[0] == "interrupted"
    assert len(found) == 2


def test_the_summary_of_the_same_run_is_the_same_bytes():
    rng = random.Random(7)
    records: list[TrialRecord] = []
    for number in range(1, 21):
        for check in (A, B, C):
            outcome = rng.choice(["passed", "passed", "failed", "infra"])
            records.append(
                trial(check, outcome, number=number, latency_ms=rng.random() * 1e4, budget_ms=5e3)
            )
    ids = [record.nodeid for record in records]
    first = summarise(run(records, expected=ids, min_score=0.5)).model_dump_json()
    for _ in range(5):
        rng.shuffle(records)
        assert summarise(run(records, expected=ids, min_score=0.5)).model_dump_json() == first

from __future__ import annotations

import re

import pytest
from report_samples import (
    FILE,
    SAMPLES,
    april,
    hostile,
    long_run,
    one_round,
    run,
    six_rounds,
    study,
    trial,
)

from pytest_agentlimit.reports.view import ModelView, RunView, build_view
from pytest_agentlimit.runs.names import check_name
from pytest_agentlimit.runs.records import GateSettings, RunData
from pytest_agentlimit.runs.summary import summarise


def view_of(data: RunData) -> RunView:
    return build_view(summarise(data), data)


def model_of(data: RunData) -> ModelView:
    (model,) = view_of(data).models
    return model


def fact(model: ModelView, label: str) -> str | None:
    return next((" · ".join(f.parts) for f in model.facts if f.label == label), None)


@pytest.mark.parametrize(
    ("check", "name"),
    [
        (f"{FILE}::test_tool_call_emission", "tool call emission"),
        ("test_a.py::TestTools::test_call_it", "Tools: call it"),
        ("test_a.py::test_call[two_words-3]", "call [two_words-3]"),
        ("test_a.py::test_", "test_"),
        ("no separator", "no separator"),
    ],
)
def test_a_check_has_a_short_name(check, name):
    assert check_name(check) == name


def test_outcomes_stand_in_trial_order_with_a_dash_where_nothing_was_reported():
    data = run(
        trial("a", number=1),
        trial("a", number=2, outcome="failed"),
        trial("a", number=3, outcome="infra", latency_ms=None),
        trial("b", number=3, outcome="crashed"),
        lost=tuple(f"{FILE}::test_b[open-claw-t{number}]" for number in (1, 2)),
    )
    model = model_of(data)
    assert [row.trials for row in model.rows] == ["PFI", "--C"]
    assert model.legend == "P passed · F failed · I infra · C crashed · - no report"


def test_the_last_attempt_at_a_trial_is_the_one_shown():
    model = model_of(run(trial("a", outcome="failed"), trial("a")))
    assert [(row.trials, row.blame, row.tone) for row in model.rows] == [("P", "", "good")]


def test_many_trials_are_counted():
    assert [row.trials for row in model_of(long_run()).rows] == ["53P 7F", "60P"]


def test_a_row_carries_rate_budget_and_the_blame_of_the_first_failure():
    rows = {row.name: row for row in model_of(one_round()).rows}
    row = rows["multi step planning"]
    assert (row.weight, row.rate, row.p50, row.budget, row.blame) == (
        "2", "0/1 0–79", "timeout", "45 s", "engine",
    )  # fmt: skip
    assert rows["multiple tool calls"].rate == "not measured"


def test_one_budget_of_the_gate_replaces_those_of_the_checks():
    data = run(*study("m", (10,) * 10), gate=GateSettings(p95=2500.0))
    assert {row.budget for row in model_of(data).rows} == {"2.5 s"}


def test_the_study_of_april_is_replayed_to_the_digit():
    gemma, claw = view_of(april()).models
    assert "89.5 % (56.7–98.2)" in fact(gemma, "score")
    assert "84.2 % (51.2–96.7)" in fact(claw, "score")
    assert "median 6047 ms" in fact(gemma, "latency")
    assert "median 3938 ms" in fact(claw, "latency")
    assert "P95 36203 ms (n = 10: the maximum)" in fact(gemma, "latency")
    assert "P95 7906 ms (n = 10: the maximum)" in fact(claw, "latency")
    assert "inconclusive" in fact(claw, "latency")


@pytest.mark.parametrize("maker", [april, one_round])
def test_one_trial_supports_no_claim_of_stability(maker):
    claims = re.compile(
        r"determinis|consisten|reliab|\d (flaky|stable|undetermined)", re.IGNORECASE
    )
    assert not claims.search(repr(view_of(maker())))
    assert fact(view_of(maker()).models[0], "stability") == (
        "one trial cannot tell stable from flaky: not enough runs (need 29 equal ones)"
    )


def test_nothing_scored_is_no_ground_for_a_word_on_stability():
    assert fact(model_of(run(trial("a", outcome="infra", latency_ms=None))), "stability") is None


def test_several_trials_say_what_is_flaky_and_what_is_not_known():
    assert fact(model_of(six_rounds()), "stability") == (
        "1 flaky · 10 undetermined: not enough runs (need 29 equal ones)"
    )


def test_latency_says_how_far_it_can_be_trusted():
    assert "P95 is at most 1000 ms (95 %, n = 120)" in fact(model_of(long_run()), "latency")
    few = fact(model_of(run(trial("a"), trial("b"))), "latency")
    assert "interval: not enough runs (need 6)" in few
    assert "upper bound of P95: not enough runs (need 59)" in few


def test_deviations_are_counted_by_kind():
    assert fact(model_of(one_round()), "tolerated") == (
        "3 deviations: missing_call_id ×2, arguments_as_object ×1"
    )
    kinds = tuple(f"kind_{letter}" for letter in "abcdef")
    assert "2 more kinds" in fact(model_of(run(trial("a", findings=kinds))), "tolerated")


def test_completion_is_mentioned_only_when_something_is_missing():
    assert fact(model_of(one_round()), "completion") == "9 of 10 trials scored: 1 infra"
    assert fact(model_of(six_rounds()), "completion") is None
    assert "1 without a report" in fact(model_of(hostile()), "completion")


def test_the_heading_says_who_served_the_model_and_what_repeats_the_run():
    served = model_of(six_rounds()).served
    assert served[0] == "Ollama 0.21.4"
    assert {"Q4_K_M", "context 32768", "seed 123"} <= set(served)
    assert model_of(run(trial("a"), fingerprint={})).served == ("engine not known", "seed 123")


@pytest.mark.parametrize(
    ("mode", "low", "comment"),
    [
        ("point", 0.8, "--agent-gate=point: leaves the run green"),
        ("point", 0.95, "--agent-gate=point: leaves the run red"),
        ("strict", 0.8, "--agent-gate=strict: leaves the run red"),
        ("proven", 0.95, "--agent-gate=proven: leaves the run green"),
        ("off", 0.8, "--agent-gate=off: report only"),
    ],
)
def test_an_inconclusive_gate_says_what_it_does_to_the_run(mode, low, comment):
    records = study("m", (10,) * 10, failed=("basic_response",))
    gate = view_of(run(*records, gate=GateSettings(min_score=low, mode=mode))).gate
    assert (gate.word, gate.comment) == ("INCONCLUSIVE", comment)


def test_a_gate_that_was_not_asked_for_says_how_to_ask():
    gate = view_of(one_round()).gate
    assert gate.word == "not asked"
    assert "--agent-min-score" in gate.comment


def test_broken_rules_come_first():
    verdicts = [rule.verdict for rule in view_of(hostile()).gate.rules]
    assert verdicts == sorted(verdicts, key=["fail", "inconclusive", "pass"].index)
    assert verdicts[0] == "fail"


def test_only_the_first_failure_of_a_check_is_told_and_evidence_goes_before_outages():
    (failure,) = model_of(
        run(
            trial("a", number=1, outcome="infra", latency_ms=None, message="down"),
            trial("a", number=2, outcome="failed", message="wrong"),
            trial("a", number=3, outcome="failed", message="wrong again"),
        )
    ).failures
    assert (failure.trial, failure.message) == ("trial 2", "wrong")


@pytest.mark.parametrize("maker", SAMPLES.values(), ids=SAMPLES)
def test_every_text_of_a_view_is_safe_to_print(maker):
    def texts(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            for item in value:
                yield from texts(item)
        else:
            yield from texts(tuple(vars(value).values()))

    for text in texts(view_of(maker())):
        text.encode("utf-8")
        assert text.isprintable()
        assert len(text) <= 800

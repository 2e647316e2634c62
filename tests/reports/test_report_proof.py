from __future__ import annotations

import pytest
from report_samples import CHECKS, OPEN_CLAW, one_round, run, six_rounds, study, trial

from pytest_agentlimit.reports.proof import not_proven, proves, rounds_to_prove
from pytest_agentlimit.runs.records import GateSettings, RunData
from pytest_agentlimit.runs.trials import model_trials

WEIGHTS = [weight for weight, _ in CHECKS.values()]


def said(data: RunData) -> str:
    (model,) = model_trials(data)
    return "; ".join(not_proven(model, data.manifest.gate))


@pytest.mark.parametrize(
    ("rounds", "bound"), [(1, 0.696), (2, 0.821), (3, 0.873), (4, 0.902), (6, 0.932)]
)
def test_a_perfect_run_proves_only_so_much(rounds, bound):
    assert proves(WEIGHTS, rounds) == pytest.approx(bound, abs=5e-4)


@pytest.mark.parametrize(("bar", "rounds"), [(0.5, 1), (0.8, 2), (0.9, 4), (1.0, None)])
def test_the_rounds_a_bar_needs(bar, rounds):
    assert rounds_to_prove(WEIGHTS, bar) == rounds


def test_one_round_says_what_it_cannot_prove():
    text = said(run(*study("open-claw", OPEN_CLAW)))
    assert "one perfect round proves only ≥ 69.6 %" in text
    assert "≥ 80 % needs 2 perfect rounds" in text
    assert "a P95 pass needs 59 trials within budget (this run: 10)" in text


def test_a_bar_that_no_run_can_prove_is_called_that():
    text = said(run(*study("open-claw", OPEN_CLAW), gate=GateSettings(min_score=1.0)))
    assert "no run proves ≥ 100 %" in text


def test_breaches_ask_for_more_trials():
    assert "a P95 pass needs 84 more trials within budget" in said(one_round())


def test_a_proven_p95_is_not_called_unproven():
    assert "P95" not in said(six_rounds())


def test_a_run_without_scores_or_budgets_says_so():
    assert said(run(trial("a", outcome="infra"))) == (
        "anything about the score: no trial was scored; latency: no scored trial has a budget"
    )

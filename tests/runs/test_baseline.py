from __future__ import annotations

from random import Random

import pytest
from run_builders import STUDY_WEIGHTS, run, trial

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.runs.baseline import changes, pick
from pytest_agentlimit.runs.gate import evaluate, is_red
from pytest_agentlimit.runs.lock import Lock
from pytest_agentlimit.runs.locking import lock_of
from pytest_agentlimit.runs.records import RunData
from pytest_agentlimit.runs.rules import RuleResult
from pytest_agentlimit.runs.summary import summarise


def counted(passes: list[int], n: int, model: str = "m", **plan: object) -> list:
    return [
        trial(
            f"t.py::test_{i}",
            "passed" if number <= x else "failed",
            model=model,
            number=number,
            **{"weight": weight, **plan},
        )
        for i, (x, weight) in enumerate(zip(passes, STUDY_WEIGHTS, strict=False))
        for number in range(1, n + 1)
    ]


def held(records: list, baseline: Lock, *models: str, **gate: object) -> RunData:
    return run(records, *models, baseline=baseline, **gate)


def rule(data: RunData) -> RuleResult:
    (found,) = [r for r in evaluate(data, summarise(data).models) if r.part.rule == "baseline"]
    return found


def reds(data: RunData) -> list[str]:
    results = evaluate(data, summarise(data).models)
    gate = data.manifest.gate
    modes = ("point", "strict", "proven", "off")
    return [mode for mode in modes if is_red(results, gate.model_copy(update={"mode": mode}))]


GOOD = lock_of(run(counted([8] * 10, 8)))


def test_a_model_worse_beyond_noise_fails():
    data = held(counted([8, 2, 8, 8, 2, 8, 8, 8, 8, 8], 8), GOOD)
    part = rule(data).part
    assert part.verdict == "fail"
    assert part.observed == pytest.approx(-0.2368, abs=1e-4)
    assert "worse than the baseline (m of run 20260401T000000Z-00000000) by 23.7 points" in (
        part.message
    )
    assert "(one-sided), n = 10 checks × 8 trials each" in part.message
    assert reds(data) == ["point", "strict", "proven"]


@pytest.mark.parametrize("passes", [[8] * 10, [8, 7, 8, 8, 8, 8, 8, 8, 8, 8]])
def test_a_model_within_noise_passes_and_says_what_it_could_have_seen(passes):
    data = held(counted(passes, 8), GOOD)
    part = rule(data).part
    assert part.verdict == "pass"
    assert "not worse than the baseline" in part.message
    assert "beyond noise" in part.message
    assert "points would have shown 4 times in 5" in part.message
    assert reds(data) == []


def test_a_better_model_passes():
    low = lock_of(run(counted([2] * 10, 8)))
    assert rule(held(counted([8] * 10, 8), low)).part.verdict == "pass"


def test_a_run_too_small_to_see_anything_is_open_and_red_only_when_strict():
    data = held(counted([1] * 10, 1), lock_of(run(counted([1] * 10, 1))))
    found = rule(data)
    assert (found.part.verdict, found.leans_to_pass) == ("inconclusive", True)
    assert "could only have seen a loss of 57.8 points" in found.part.message
    assert "25.0 points need about 6 trials of each check on both sides" in found.part.message
    assert reds(data) == ["strict"]
    lone = held([trial()], lock_of(run([trial()])))
    assert "could not even have seen a loss of 100 points" in rule(lone).part.message


def test_so_many_trials_do_see_it():
    data = held(counted([6] * 10, 6), lock_of(run(counted([6] * 10, 6))))
    assert rule(data).part.verdict == "pass"


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (counted([8] * 9, 8), "scored in the baseline only: t.py::test_9"),
        ([*counted([8] * 10, 8), trial("t.py::test_new")], "scored in this run only"),
        (counted([8] * 10, 8, weight=1), "weights differ: t.py::test_1 has 1 in this run and 3"),
        (counted([8] * 10, 8, budget_ms=5.0), "budgets differ"),
    ],
    ids=["a check is gone", "a check is new", "weights", "budgets"],
)
def test_unlike_runs_are_refused_with_what_differs(records, words):
    data = held(records, GOOD)
    part = rule(data).part
    assert part.verdict == "fail"
    assert "cannot be compared with the baseline" in part.message
    assert words in part.message
    assert part.observed is None
    assert reds(data) == ["point", "strict", "proven"]


def test_another_text_of_a_check_is_another_check():
    locked = lock_of(run(counted([8] * 10, 8, version="1")))
    same = held(counted([8] * 10, 8, version="1"), locked)
    other = held(counted([8] * 10, 8, version="2"), locked)
    assert rule(same).part.verdict == "pass"
    assert "text or generator changed" in rule(other).part.message


def test_agent_shaped_requests_are_not_held_against_bare_ones():
    data = held(counted([8] * 10, 8), GOOD.model_copy(update={"shape": "agent"}))
    assert "requests are bare in this run and agent in the baseline" in rule(data).part.message


def test_each_model_is_held_against_its_namesake_and_a_lone_one_against_all():
    both = lock_of(run(counted([8] * 10, 8, "a") + counted([2] * 10, 8, "b"), "a", "b"))
    data = held(counted([2] * 10, 8, "a") + counted([2] * 10, 8, "b"), both, "a", "b")
    verdicts = [r.part for r in evaluate(data, summarise(data).models) if r.part.rule == "baseline"]
    assert [part.verdict for part in verdicts] == ["fail", "pass"]
    assert [part.message[:3] for part in verdicts] == ["a: ", "b: "]
    stranger = held(counted([8] * 10, 8, "c"), both, "c")
    assert rule(stranger).part.verdict == "fail"
    assert "holds no model c; it has a, b" in rule(stranger).part.message
    alone = held(counted([8] * 10, 8, "c"), GOOD, "c")
    assert rule(alone).part.verdict == "pass"


def test_a_run_that_scored_nothing_is_left_to_the_other_rules():
    data = held([trial(outcome="infra")], GOOD)
    names = [r.part.rule for r in evaluate(data, summarise(data).models)]
    assert "baseline" not in names
    assert reds(data) == ["point", "strict", "proven"]


def test_checks_without_weight_cannot_be_held_against_anything():
    records = [trial(weight=0.0)]
    assert "no check has a weight" in rule(held(records, lock_of(run(records)))).part.message


def test_a_model_name_with_braces_is_only_a_name():
    both = lock_of(run(counted([8] * 10, 8, "{x}") + counted([8] * 10, 8, "y"), "{x}", "y"))
    data = held(counted([8] * 10, 8, "{x}") + counted([8] * 10, 8, "y"), both, "{x}", "y")
    assert summarise(data).gate.verdict == "pass"


def test_a_lock_without_the_model_lists_what_it_has():
    both = lock_of(run([trial(model="a"), trial(model="b")], "a", "b"))
    assert pick(both, "b").name == "b"
    assert pick(GOOD, "anything").name == "m"
    with pytest.raises(UsageProblem, match=r"no model c; it has a, b.*FILE#MODEL"):
        pick(both, "c")


def test_a_model_20_points_worse_is_caught_and_an_equal_one_is_left_alone():
    # Seeded and small; the benchmark suite measures both rates over thousands of runs.
    draw = Random(20260401)

    def flagged(p_new: float) -> int:
        found = 0
        for _ in range(40):
            old, new = (
                [sum(draw.random() < p for _ in range(8)) for _ in range(10)] for p in (0.9, p_new)
            )
            data = held(counted(new, 8), lock_of(run(counted(old, 8))))
            found += rule(data).part.verdict == "fail"
        return found

    assert flagged(0.9) <= 5
    assert flagged(0.7) >= 30


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({}, {}, []),
        ({"engine": None}, {}, []),
        ({"quantisation": "Q4_K_M"}, {"quantisation": "Q8_0"}, ["quantisation Q4_K_M → Q8_0"]),
        ({"engine_version": "1"}, {}, ["engine version 1 → not known"]),
        ({"context": 4096}, {"context": 8192}, ["context 4096 → 8192"]),
        ({"template_hash": "aa"}, {"template_hash": "bb"}, ["template changed"]),
        ({"template_hash": None}, {"template_hash": "bb"}, ["template not known → bb"]),
        ({"tools": True}, {"tools": False}, ["tool support yes → no"]),
        (
            {"sampling": {"temperature": 0, "top_p": 1}},
            {"sampling": {"temperature": 0.7, "top_p": 1}},
            ["sampling temperature 0 → 0.7"],
        ),
        ({"digest": "a" * 64}, {"digest": "b" * 64}, ["digest aaaaa … aaaa → bbbbb … bbbb"]),
        ({"\x1b[31m": "x"}, {"\x1b[31m": "\n"}, ["\\x1b[31m x → "]),
        (
            {"engine": "Ollama", "model": "a"},
            {"engine": "vLLM", "model": "b"},
            ["model a → b", "engine Ollama → vLLM"],
        ),
    ],
)
def test_what_changed_in_a_fingerprint_is_told(old, new, lines):
    assert changes(old, new) == lines

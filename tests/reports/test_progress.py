from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from report_samples import run

from pytest_agentlimit.reports.cells import cell_width
from pytest_agentlimit.reports.progress import Progress, progress_line
from pytest_agentlimit.runs.records import CallRecord, CheckPlan, Outcome, TrialRecord
from pytest_agentlimit.runs.summary import summarise

WIDE = 300
CHECKS = ("test_a.py::test_a", "test_a.py::test_b")


def nodeid(check: str, model: str = "m", trial: int = 1) -> str:
    return f"{check}[{model}-t{trial}]"


def trial(
    check: str,
    outcome: Outcome = "passed",
    *,
    model: str = "m",
    number: int = 1,
    weight: float = 1.0,
    calls: tuple[CallRecord, ...] = (),
) -> TrialRecord:
    return TrialRecord(
        plan=CheckPlan(check=check, model=model, trial=number, seed=number, weight=weight),
        nodeid=nodeid(check, model, number),
        outcome=outcome,
        calls=calls,
    )


def started(*models: str, rounds: int = 1, checks: tuple[str, ...] = CHECKS) -> Progress:
    names = models or ("m",)
    progress = Progress(names)
    progress.expect(
        nodeid(check, name, number)
        for number in range(1, rounds + 1)
        for check in checks
        for name in names
    )
    return progress


def finish(progress: Progress, record: TrialRecord, **changes: Any) -> None:
    progress.finish(record.nodeid, record.model_dump(mode="json") | changes)


def test_the_line_says_rounds_trials_score_outcomes_and_time_left() -> None:
    progress = started(rounds=3)
    finish(progress, trial(CHECKS[0], weight=3.0), duration_s=60)
    finish(progress, trial(CHECKS[1], "failed"), duration_s=60)
    finish(progress, trial(CHECKS[0], "infra", number=2), duration_s=60)
    assert progress_line(progress, WIDE) == (
        "round 2 of 3 · 3 of 6 trials · score so far 75.0 % (15–98) · 1 failed, 1 infra"
        " · about 3 min left"
    )


def test_before_the_first_trial_only_what_is_to_come_is_said() -> None:
    assert progress_line(started(), WIDE) == "0 of 2 trials"
    assert progress_line(started(rounds=2), WIDE) == "round 1 of 2 · 0 of 4 trials"
    assert progress_line(started(checks=CHECKS[:1]), WIDE) == "0 of 1 trial"


def test_the_end_names_the_rounds_and_no_time() -> None:
    progress = started(rounds=2)
    for check in CHECKS:
        for number in (1, 2):
            finish(progress, trial(check, "infra", number=number), duration_s=5)
    assert progress_line(progress, WIDE) == "2 of 2 rounds · 4 of 4 trials · 4 infra"


def test_a_line_for_a_round_names_that_round() -> None:
    progress = started(rounds=3)
    for number in (1, 2):
        for check in CHECKS:
            finish(progress, trial(check, "infra", number=number))
    line = progress_line(progress, WIDE, ended=2, time_left=False)
    assert line == "round 2 of 3 · 4 of 6 trials · 4 infra"


def test_trials_that_are_not_needed_are_done_and_not_scored() -> None:
    progress = started(rounds=3, checks=CHECKS[:1])
    finish(progress, trial(CHECKS[0]))
    score = progress.scores()["m"]
    for number in (2, 3):
        progress.leave_out(nodeid(CHECKS[0], trial=number))
    assert progress.scores()["m"] == score
    assert progress.complete_rounds == 1
    assert progress_line(progress, WIDE) == (
        "1 of 3 rounds · 3 of 3 trials · score so far 100.0 % (21–100) · 2 not needed"
    )


def test_a_decided_check_has_no_time_left() -> None:
    progress = started(rounds=4)
    for check in CHECKS:
        finish(progress, trial(check), duration_s=10)
    assert progress.time_left_s() == 60
    progress.leave_out(nodeid(CHECKS[0], trial=2))
    assert progress.time_left_s() == 30


def test_a_worker_that_died_is_a_failure_with_the_weight_of_its_check() -> None:
    progress = started()
    progress.plan(nodeid(CHECKS[0]), trial(CHECKS[0], weight=3.0).plan.model_dump(mode="json"))
    progress.crash(nodeid(CHECKS[0]))
    finish(progress, trial(CHECKS[1]))
    assert progress.scores()["m"].value == 0.25
    assert "1 crashed" in progress_line(progress, WIDE)


def test_a_crash_without_a_plan_is_counted_and_not_scored() -> None:
    progress = started()
    progress.crash(nodeid(CHECKS[0]))
    assert progress_line(progress, WIDE) == "1 of 2 trials · 1 crashed"


def test_of_several_attempts_the_last_counts() -> None:
    progress = started()
    finish(progress, trial(CHECKS[0], "failed"))
    finish(progress, trial(CHECKS[0]))
    assert progress.done == 1
    assert progress.outcomes["failed"] == 0
    assert progress.scores()["m"].value == 1.0


def test_load_groups_do_not_make_other_trials() -> None:
    progress = started()
    grouped = nodeid(CHECKS[0]) + "@group"
    progress.expect([grouped])
    assert progress.total == 2
    assert progress.is_trial(grouped)


@pytest.mark.parametrize("seed", range(20))
def test_the_score_is_that_of_the_report(seed: int) -> None:
    draw = random.Random(seed)
    outcomes: tuple[Outcome, ...] = ("passed", "passed", "failed", "crashed", "infra", "skipped")
    progress = started("a", "b", rounds=4)
    records: list[TrialRecord] = []
    every = itertools.product(range(1, 5), zip(CHECKS, (1.0, 2.5), strict=True), ("a", "b"))
    for number, (check, weight), model in every:
        outputs = draw.choice([["same"], ["same"], ["same"], [None], [str(number)], []])
        calls = tuple(CallRecord(start_ms=0, end_ms=1, output_digest=one) for one in outputs)
        outcome = draw.choice(outcomes)
        records.append(
            trial(check, outcome, model=model, number=number, weight=weight, calls=calls)
        )
        finish(progress, records[-1])
        shown = {name: tuple(score) for name, score in progress.scores().items()}
        parts = {part.name: part.score for part in summarise(run(*records)).models}
        assert shown == {
            name: (part.value, part.low, part.high, part.effective_trials)
            for name, part in parts.items()
            if part.value is not None
        }


def test_each_of_several_models_has_its_score() -> None:
    progress = started("gemma4", "open-claw", "silent")
    for check in CHECKS:
        finish(progress, trial(check, model="gemma4"))
        finish(progress, trial(check, "failed", model="open-claw"))
        finish(progress, trial(check, "infra", model="silent"))
    assert "score so far gemma4 100.0 % (34–100), open-claw 0.0 % (0–66) ·" in progress_line(
        progress, WIDE
    )


def test_weights_of_nothing_give_no_score() -> None:
    progress = started()
    finish(progress, trial(CHECKS[0], weight=0.0))
    assert "score" not in progress_line(progress, WIDE)


def test_no_time_is_guessed_from_one_trial() -> None:
    progress = started(rounds=3)
    finish(progress, trial(CHECKS[0]), duration_s=10)
    assert progress.time_left_s() is None
    finish(progress, trial(CHECKS[1]), duration_s=30)
    assert progress.time_left_s() == 4 * 20


def test_each_model_has_its_own_pace() -> None:
    progress = started("slow", "fast", rounds=2)
    for check in CHECKS:
        finish(progress, trial(check, model="slow"), duration_s=100)
        finish(progress, trial(check, model="fast"), duration_s=1)
    assert progress.time_left_s() == 2 * 100 + 2 * 1


def test_workers_share_the_time_left_but_not_one_trial() -> None:
    progress = started(rounds=3)
    for check, worker in zip(CHECKS, ("gw0", "gw1"), strict=True):
        finish(progress, trial(check), duration_s=10, worker=worker)
    assert progress.time_left_s() == 4 * 10 / 2
    for check, number in ((CHECKS[0], 2), (CHECKS[0], 3), (CHECKS[1], 2)):
        finish(progress, trial(check, number=number), duration_s=10, worker="gw0")
    assert progress.time_left_s() == 10


def test_what_was_skipped_tells_nothing_about_the_pace() -> None:
    progress = started(rounds=3)
    for check in CHECKS:
        finish(progress, trial(check, "skipped"), duration_s=0.001)
    assert progress.time_left_s() is None


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "about 1 s left"),
        (0.4, "about 1 s left"),
        (59.2, "about 59 s left"),
        (59.6, "about 1 min left"),
        (150.1, "about 3 min left"),
        (3599.0, "about 1 h 00 min left"),
        (3900.0, "about 1 h 05 min left"),
        (360_000.0, "about 100 h 00 min left"),
    ],
)
def test_time_left_is_said_roughly(seconds: float, shown: str) -> None:
    progress = started(checks=(*CHECKS, "test_a.py::test_c"))
    for check in CHECKS:
        finish(progress, trial(check, "infra"), duration_s=seconds)
    assert progress_line(progress, WIDE).endswith(shown)


def test_ordinary_tests_are_counted_with_their_failures() -> None:
    progress = started()
    progress.other("test_x.py::test_x", failed=False)
    assert progress_line(progress, WIDE).endswith(" · 1 other test")
    progress.other("test_x.py::test_y", failed=True)
    progress.other("test_x.py::test_y", failed=False)
    assert progress_line(progress, WIDE).endswith(" · 2 other tests (1 failed)")


def crowded(*models: str) -> Progress:
    progress = started(*models, rounds=6)
    for name in models:
        finish(progress, trial(CHECKS[0], model=name), duration_s=20)
        finish(progress, trial(CHECKS[1], "failed", model=name), duration_s=20)
    progress.other("test_x.py::test_x", failed=False)
    return progress


def test_a_usual_terminal_shows_it_shorter() -> None:
    assert progress_line(crowded("m"), 79) == (
        "round 2/6 · 2/12 trials · score 50.0 % (9–91) · 1 failed · ~3 min left"
    )


def test_what_does_not_fit_goes_the_least_important_first() -> None:
    progress = crowded("m")
    assert progress_line(progress, 65) == (
        "round 2/6 · 2/12 trials · score 50.0 % (9–91) · ~3 min left"
    )
    assert progress_line(progress, 50) == "round 2/6 · 2/12 trials · score 50.0 % (9–91)"
    # Smaller things take the place of one that is too wide.
    assert progress_line(progress, 40) == "round 2/6 · 2/12 trials · ~3 min left"
    assert progress_line(progress, 14) == "2/12 trials"
    assert progress_line(progress, 6) == "2/12…"


@pytest.mark.parametrize("name", ["a" * 200, "開" * 60, "a\x1b[31m\r\nb\x07" * 9, "é" * 90])
def test_no_line_is_too_wide_or_drives_the_terminal(name: str) -> None:
    progress = Progress([name, "b"])
    progress.expect([f"t.py::t[{name}-t1]", f"t.py::t[{name}-t2]", "t.py::t[b-t1]"])
    for model in (name, "b"):
        record = trial("t.py::t", model=model)
        finish(progress, record, nodeid=f"t.py::t[{model}-t1]")
    for width in range(1, 200):
        line = progress_line(progress, width)
        assert cell_width(line) <= width
        assert line.isprintable()


# ladders


def climb_state(**changes: Any) -> dict[str, Any]:
    plain = {"name": "chain", "unit": "hops", "level": 8, "trials": 14, "low": 4, "high": 12}
    return plain | changes


def test_a_climb_under_way_is_shown_until_its_trial_is_over() -> None:
    progress = started()
    progress.climb(nodeid(CHECKS[0]), climb_state())
    shown = "0 of 2 trials · chain: level 8, trial 14, ceiling 4–12"
    assert progress_line(progress, WIDE) == shown
    progress.climb(nodeid(CHECKS[0]), climb_state(level=6, trials=15, low=4, high=8))
    assert progress_line(progress, WIDE).endswith(" · chain: level 6, trial 15, ceiling 4–8")
    finish(progress, trial(CHECKS[0]))
    assert "chain" not in progress_line(progress, WIDE)


def test_of_several_climbs_the_one_that_moved_last_is_shown() -> None:
    progress = started()
    for check, name in zip((*CHECKS, CHECKS[0]), ("chain", "dag", "chain"), strict=True):
        progress.climb(nodeid(check), climb_state(name=name))
        assert f" · {name}: level 8" in progress_line(progress, WIDE)
    finish(progress, trial(CHECKS[0]))
    assert " · dag: level 8" in progress_line(progress, WIDE)
    progress.crash(nodeid(CHECKS[1]))
    assert progress.climbing is None


def test_a_usual_terminal_shows_a_climb_shorter() -> None:
    progress = crowded("m")
    progress.climb(nodeid(CHECKS[0], trial=2), climb_state(name="a_chain_of_calls"))
    assert progress_line(progress, 79) == (
        "round 2/6 · 2/12 trials · a_chain… 8, #14, 4–12 · score 50.0 % (9–91)"
    )
    assert progress_line(progress, 40) == "2/12 trials · a_chain… 8, #14, 4–12"


@pytest.mark.parametrize("name", ["a" * 200, "開" * 60, "a\x1b[31m\r\nb\x07" * 9])
def test_the_name_of_a_ladder_neither_widens_the_line_nor_drives_the_terminal(name: str) -> None:
    progress = started()
    progress.climb(nodeid(CHECKS[0]), climb_state(name=name))
    for width in range(1, 120):
        line = progress_line(progress, width)
        assert cell_width(line) <= width
        assert line.isprintable()

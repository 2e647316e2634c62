from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.measure.ceiling import Ceiling, CeilingSearch
from pytest_agentlimit.measure.ceiling_audit import Tally

LEVELS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
SEEN = [(4, 3, 3), (8, 4, 4), (12, 3, 5), (16, 1, 4), (24, 0, 2)]
REFERENCE = [(level, i < passes) for level, passes, trials in SEEN for i in range(trials)]

Trial = tuple[int, bool]


def run(search: CeilingSearch, attempt: Callable[[int], bool]) -> list[Trial]:
    """Climb to the end; return the trials in order."""
    trials = []
    while (level := search.next_level()) is not None:
        trials.append((level, attempt(level)))
        search.record(*trials[-1])
        assert len(trials) < 400
    return trials


def climbed(attempt: Callable[[int], bool], **kwargs) -> Ceiling:
    search = CeilingSearch(LEVELS, 0.8, **kwargs)
    run(search, attempt)
    return search.result()


def by_chance(chance: Callable[[int], float], seed: int) -> Callable[[int], bool]:
    rng = random.Random(seed)
    return lambda level: rng.random() < chance(level)


def decay(level: int) -> float:
    return 2 ** -(level / 24)


def always(level: int) -> bool:
    return True


def never(level: int) -> bool:
    return False


def up_to(top: int) -> Callable[[int], bool]:
    return lambda level: level <= top


def test_the_reference_in_levels():
    search = CeilingSearch(LEVELS, 0.8)
    for level, passed in REFERENCE:
        search.record(level, passed)
    found = search.result()
    assert (found.low, found.ceiling, found.high) == (2, 8, 12)
    assert found.rungs[6] == pytest.approx(0.559955, abs=1e-6)
    assert found.p_cliff == pytest.approx(0.8296, abs=5e-5)
    assert (found.trials, found.steps) == (18, 12 + 32 + 60 + 64 + 48)
    assert found.counts[5] == Tally(8, 4, 4)
    assert found.counts[0] == Tally(1, 0, 0)
    assert (found.shape, found.ended, found.audit.verdict) == ("unclear", "open", "not finished")


def test_a_fresh_search_begins_at_level_3_and_knows_nothing():
    search = CeilingSearch(LEVELS, 0.8)
    assert search.next_level() == 3
    found = search.result()
    assert (found.low, found.high, found.trials) == (0, 64, 0)
    assert found.p_cliff is None


def test_a_model_that_never_fails_reaches_the_top():
    found = climbed(always)
    assert (found.low, found.ceiling, found.high) == (64, 64, 64)
    assert (found.ended, found.audit.verdict) == ("certain", "holds")
    assert (found.shape, found.p_cliff) == ("unclear", None)
    assert all(tally.trials >= 2 for tally in found.counts[:-1])


def test_a_model_that_never_passes_stands_below_the_first_rung():
    found = climbed(never)
    assert (found.low, found.ceiling, found.high, found.trials) == (0, 0, 0, 8)
    assert (found.ended, found.audit.verdict) == ("certain", "not needed")
    assert (found.shape, found.p_cliff) == ("unclear", None)


@pytest.mark.parametrize("top", [1, 4, 12, 32, 48])
def test_a_sharp_end_is_found_and_called_a_cliff(top):
    found = climbed(up_to(top))
    assert found.ceiling == top
    assert found.low <= top <= found.high
    assert found.shape == "cliff"
    assert found.trials <= 55


def test_a_constant_risk_per_step_is_not_called_a_cliff():
    shapes = [climbed(by_chance(decay, seed)).shape for seed in range(8)]
    assert shapes.count("cliff") <= 1
    assert shapes.count("decay") >= 4


def test_smooth_falls_are_covered_within_60_trials_before_the_audit():
    covered = 0
    for seed in range(8):
        search = CeilingSearch(LEVELS, 0.8)
        attempt = by_chance(decay, seed)
        while search.result().ended == "open":
            level = search.next_level()
            assert level is not None
            search.record(level, attempt(level))
        found = search.result()
        assert found.ended == ("cap" if found.trials == 60 else "certain")
        assert 8 <= found.trials <= 60
        covered += found.low <= 6 <= found.high
    assert covered >= 6


@pytest.mark.parametrize("dip", [2, 4, 8])
def test_a_dip_below_the_ceiling_is_found_and_lowers_it(dip):
    found = climbed(lambda level: level != dip)
    assert (found.audit.verdict, found.audit.dip) == ("not monotone", dip)
    assert found.low == found.ceiling == found.high == LEVELS[LEVELS.index(dip) - 1]
    assert math.fsum(found.rungs) == pytest.approx(1)
    assert (found.shape, found.p_cliff) == ("unclear", None)


def test_one_slip_on_an_easy_rung_is_cleared():
    slips = iter([False])

    def attempt(level: int) -> bool:
        return next(slips, True) if level == 2 else level <= 24

    found = climbed(attempt)
    assert found.counts[1].passes == found.counts[1].trials - 1
    assert (found.ceiling, found.audit.verdict, found.audit.doubtful) == (24, "holds", (2,))


def test_the_same_outcomes_lead_to_the_same_levels():
    assert run(CeilingSearch(LEVELS, 0.8, 5), by_chance(decay, 1)) == run(
        CeilingSearch(LEVELS, 0.8, 5), by_chance(decay, 1)
    )


def test_a_search_is_taken_up_by_answering_from_the_record():
    attempt = by_chance(decay, 2)
    whole = CeilingSearch(LEVELS, 0.8)
    trials = run(whole, attempt)
    for cut in (3, 30, len(trials) - 5):
        resumed = CeilingSearch(LEVELS, 0.8)
        for level, passed in trials[:cut]:
            assert resumed.next_level() == level
            resumed.record(level, passed)
        rest = iter(trials[cut:])
        run(resumed, lambda level, rest=rest: next(rest)[1])
        assert resumed.result() == whole.result()


@settings(deadline=None, max_examples=15)
@given(st.permutations(REFERENCE))
def test_outcomes_of_the_search_may_come_in_any_order(trials):
    in_order, shuffled = CeilingSearch(LEVELS, 0.8), CeilingSearch(LEVELS, 0.8)
    for one, other in zip(REFERENCE, trials, strict=True):
        in_order.record(*one)
        shuffled.record(*other)
    assert shuffled.result() == in_order.result()
    assert shuffled.next_levels(5) == in_order.next_levels(5)


def climb_in_batches(size: int, attempt: Callable[[int, int], bool], backwards: bool) -> Ceiling:
    search = CeilingSearch(LEVELS, 0.8)
    tried = dict.fromkeys(LEVELS, 0)
    while batch := search.next_levels(size):
        assert len(batch) <= size
        done = []
        for level in batch:
            done.append((level, attempt(level, tried[level])))
            tried[level] += 1
        for trial in reversed(done) if backwards else done:
            search.record(*trial)
            search.result()
    return search.result()


@pytest.mark.parametrize("size", [2, 5])
def test_batches_end_alike_in_whatever_order_their_trials_finish(size):
    def attempt(level: int, number: int) -> bool:
        return random.Random(f"{level}:{number}").random() < decay(level)

    onward = climb_in_batches(size, attempt, backwards=False)
    assert climb_in_batches(size, attempt, backwards=True) == onward
    assert onward.ended != "open"
    assert onward.low <= 6 <= onward.high


def test_a_batch_spreads_over_levels_and_costs_few_trials_more():
    alone = climbed(up_to(12))
    together = climb_in_batches(4, lambda level, number: level <= 12, backwards=False)
    assert together.ceiling == alone.ceiling == 12
    assert together.trials <= alone.trials + 12
    assert len(set(CeilingSearch(LEVELS, 0.8).next_levels(4))) >= 2


def after_passes_at_the_top(trials: int) -> CeilingSearch:
    search = CeilingSearch(LEVELS, 0.8)
    for _ in range(trials):
        search.record(64, True)
    return search


def test_a_batch_ends_where_the_search_probably_ends():
    assert len(after_passes_at_the_top(7).next_levels(50)) == 1
    assert after_passes_at_the_top(8).result().ended == "certain"


def test_looking_at_a_half_recorded_batch_does_not_end_the_search():
    search = after_passes_at_the_top(8)
    assert search.result().ended == "certain"
    search.record(64, False)
    search.record(32, False)
    assert search.result().ended == "open"


def test_asking_again_changes_nothing():
    search = CeilingSearch(LEVELS, 0.8)
    assert search.next_level() == search.next_level() == search.next_levels(6)[0]
    search.result()
    assert search.next_level() == 3


@pytest.mark.parametrize(("at_least", "most"), [(1, 10), (3, 16), (8, 24)])
def test_a_clear_question_takes_few_trials(at_least, most):
    yes = climbed(always, at_least=at_least)
    assert (yes.verdict, yes.at_least, yes.ended) == ("pass", at_least, "certain")
    assert yes.ceiling >= at_least
    assert yes.trials <= most
    assert all(tally.trials >= 2 for tally in yes.counts if tally.level <= at_least)
    no = climbed(never, at_least=at_least)
    assert (no.verdict, no.ceiling, no.trials) == ("fail", 0, 5)


def test_a_question_costs_less_than_the_ceiling():
    located = climbed(up_to(12))
    for at_least, verdict in ((3, "pass"), (6, "pass"), (24, "fail"), (48, "fail")):
        asked = climbed(up_to(12), at_least=at_least)
        assert asked.verdict == verdict
        assert asked.shape == "unclear"
        assert asked.trials <= 0.6 * located.trials
        assert asked.steps <= 0.4 * located.steps


@pytest.mark.parametrize("dip", [2, 6])
def test_a_dip_answers_a_question_with_no(dip):
    found = climbed(lambda level: level != dip, at_least=6)
    assert found.verdict == "fail"
    assert found.ceiling < dip


def test_a_question_that_chance_leaves_open_ends_inconclusive():
    verdicts = set()
    for seed in range(6):
        found = climbed(by_chance(lambda level: 0.8 if level >= 6 else 1, seed), at_least=8)
        verdicts.add(found.verdict)
        if found.verdict == "inconclusive":
            assert (found.trials, found.ended) == (40, "cap")
    assert "inconclusive" in verdicts


def test_a_yes_that_easier_rungs_cast_in_doubt_is_taken_back():
    tried = dict.fromkeys(LEVELS, 0)

    def attempt(level: int) -> bool:
        tried[level] += 1
        return level >= 8 or tried[level] % 2 == 1

    found = climbed(attempt, at_least=8)
    assert (found.verdict, found.audit.verdict) == ("inconclusive", "holds")
    assert len(found.audit.doubtful) >= 3
    assert found.ceiling < 8


def test_answers_are_rarely_wrong():
    wrong = asked = 0
    for seed in range(8):
        for level, held in ((3, True), (12, False)):
            found = climbed(by_chance(decay, seed), at_least=level)
            wrong += found.verdict == ("fail" if held else "pass")
            asked += 1
    assert wrong <= 0.05 * asked + 1


ladders = st.lists(st.integers(1, 500), min_size=2, max_size=14, unique=True).map(sorted)


@settings(deadline=None, max_examples=15)
@given(ladders, st.floats(0.01, 0.99), st.randoms(use_true_random=False), st.booleans())
def test_every_search_ends_with_a_sound_result(levels, reliability, rng, ask):
    at_least = rng.choice(levels) if ask else None
    search = CeilingSearch(levels, reliability, at_least=at_least)
    trials = run(search, lambda level: rng.random() < 0.5)
    found = search.result()
    assert found.low <= found.ceiling <= found.high
    assert {found.low, found.ceiling, found.high} <= {0, *levels}
    assert math.fsum(found.rungs) == pytest.approx(1)
    assert found.trials == len(trials) == sum(tally.trials for tally in found.counts)
    assert found.steps == sum(level for level, _ in trials)
    assert found.ended != "open"
    assert (found.verdict is None) == (at_least is None)
    assert search.next_level() is None
    assert search.next_levels(3) == []


def test_a_ladder_of_two_rungs_is_not_certain_by_its_size():
    search = CeilingSearch([1, 2], 0.8)
    outcomes = {1: True, 2: False}
    run(search, outcomes.__getitem__)
    found = search.result()
    assert (found.low, found.ceiling, found.high) == (1, 1, 1)


def test_a_short_ladder_is_not_certain_while_much_of_it_is_open():
    search = CeilingSearch([1, 2, 4], 0.8)
    for _ in range(4):
        search.record(1, True)
        search.record(4, False)
    found = search.result()
    assert (found.trials, found.low, found.high, found.ended) == (8, 0, 2, "open")


@pytest.mark.parametrize(
    "levels", [[], [3], [2, 1], [1, 1], [0, 1], [-1, 4], [1, 2.5], [True, 2], list(range(1, 35))]
)
def test_levels_that_are_no_ladder_are_refused(levels):
    with pytest.raises(UsageProblem, match="2 to 32 whole numbers from 1 up"):
        CeilingSearch(levels, 0.8)


def test_a_level_beyond_counting_is_refused():
    with pytest.raises(UsageProblem, match="1,073,741,824 at most"):
        CeilingSearch([1, 2**31], 0.8)


@pytest.mark.parametrize("reliability", [0, 1, -0.2, 80, math.nan])
def test_a_reliability_outside_the_open_interval_is_refused(reliability):
    with pytest.raises(UsageProblem, match="a reliability lies between 0 and 1"):
        CeilingSearch(LEVELS, reliability)


def test_a_level_of_another_ladder_is_refused_and_the_evidence_kept():
    search = CeilingSearch(LEVELS, 0.8)
    search.record(3, True)
    with pytest.raises(UsageProblem, match="5 is not a level of this ladder, which has 1, 2, 3"):
        search.record(5, True)
    with pytest.raises(UsageProblem, match="True or False, not 'no'"):
        search.record(3, "no")  # type: ignore[arg-type]
    assert search.result().trials == 1


def test_senseless_questions_and_batches_are_refused():
    with pytest.raises(UsageProblem, match="7 is not a level of this ladder"):
        CeilingSearch(LEVELS, 0.8, at_least=7)
    with pytest.raises(UsageProblem, match="a batch holds 1 trial or more, not 0"):
        CeilingSearch(LEVELS, 0.8).next_levels(0)


def test_a_lower_reliability_is_climbed_higher():
    tops = []
    for reliability in (0.5, 0.9):
        search = CeilingSearch(LEVELS, reliability)
        run(search, by_chance(decay, 3))
        tops.append(search.result().ceiling)
    assert tops[0] > tops[1]

from __future__ import annotations

import pytest

from pytest_agentlimit.measure.ceiling_audit import Audit, Tally, audit


def tallies(*counts: tuple[int, int]) -> list[Tally]:
    return [Tally(2**rung, passes, trials) for rung, (passes, trials) in enumerate(counts)]


def test_rungs_with_fewer_than_two_trials_get_them_lowest_first():
    look = audit(tallies((5, 5), (1, 1), (0, 0)), 0.8)
    assert (look.audit.verdict, look.wanted) == ("not finished", 1)
    assert audit(tallies((5, 5), (2, 2), (0, 0)), 0.8).wanted == 2


def test_rungs_that_passed_twice_hold():
    assert audit(tallies((2, 2), (9, 9)), 0.8) == (Audit("holds"), None)
    assert audit([], 0.8) == (Audit("not needed"), None)


def test_a_miss_wants_more_trials_until_the_rung_can_fail_no_more():
    for passes in range(2, 6):
        assert audit(tallies((passes, passes + 1)), 0.8).wanted == 0
    # With 6 of at most 12 passed, even misses from here on would not make it fail.
    assert audit(tallies((6, 7)), 0.8) == (Audit("holds", None, (1,)), None)


def test_a_failing_rung_ends_the_audit_and_is_named():
    look = audit(tallies((2, 2), (1, 6), (0, 0)), 0.8)
    assert look == (Audit("not monotone", 2), None)
    assert audit(tallies((0, 4)), 0.8).wanted == 0
    assert audit(tallies((0, 5)), 0.8).audit.dip == 1


def test_a_rung_that_much_evidence_clears_is_not_doubtful():
    assert audit(tallies((40, 45)), 0.8).audit.doubtful == ()
    assert audit(tallies((9, 14)), 0.8).audit.doubtful == (1,)


@pytest.mark.parametrize("reliability", [0.01, 0.2, 0.3, 0.35, 0.5, 0.95, 0.999])
def test_every_reliability_can_be_audited(reliability):
    passes = trials = 0
    while audit(tallies((passes, trials)), reliability).wanted is not None:
        trials += 1
    assert trials <= 12
    assert audit(tallies((12, 12)), reliability).audit.verdict == "holds"

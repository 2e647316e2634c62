from __future__ import annotations

import pytest

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.measure.ceiling import Ceiling, CeilingSearch
from pytest_agentlimit.measure.ceiling_compare import probability_higher, probability_tied


def after(*trials: tuple[int, bool], reliability: float = 0.8, top: int = 4) -> Ceiling:
    search = CeilingSearch([1, 2, top], reliability)
    for level, passed in trials:
        search.record(level, passed)
    return search.result()


def test_chances_of_higher_lower_and_tied_come_from_the_rungs():
    a = after()._replace(rungs=(0.1, 0.2, 0.3, 0.4))
    b = after()._replace(rungs=(0.4, 0.3, 0.2, 0.1))
    higher = 0.2 * 0.4 + 0.3 * (0.4 + 0.3) + 0.4 * (0.4 + 0.3 + 0.2)
    assert probability_higher(a, b) == pytest.approx(higher)
    assert probability_tied(a, b) == pytest.approx(0.04 + 0.06 + 0.06 + 0.04)
    assert probability_higher(b, a) == pytest.approx(1 - higher - 0.2)


def test_the_better_record_is_likely_higher():
    good = after(*[(4, True)] * 12)
    bad = after(*[(1, False)] * 12)
    assert probability_higher(good, bad) > 0.95
    assert probability_higher(bad, good) < 0.01
    assert probability_higher(good, good) == pytest.approx((1 - probability_tied(good, good)) / 2)


def test_ceilings_of_different_ladders_do_not_compare():
    for other in (after(top=8), after(reliability=0.5)):
        for compare in (probability_higher, probability_tied):
            with pytest.raises(UsageProblem, match="same levels at the same reliability"):
                compare(after(), other)

from __future__ import annotations

from typing import Any

import pytest
from zoo import HEALTHY, ILL, Animal, kept

from pytest_agentlimit.chat.messages import Dialect
from pytest_agentlimit.endpoints.probing import Budget, Diagnosis, run_ladder

HURRIED = Budget(list_s=1.0, first_s=2.0, call_s=1.5)
BUDGETS = {
    "cold_start": Budget(cold_s=0.5),
    **dict.fromkeys(("hung", "hangs_later", "concurrency_hang", "hangs_on_long"), HURRIED),
}
"""By the fault to be found; nobody waits long for a server that hangs."""


def animals(group: tuple[Animal, ...]) -> list[Any]:
    return [
        pytest.param(animal, dialect, id=f"{animal}-{dialect}")
        for animal in group
        for dialect in animal.dialects
    ]


def diagnosed(animal: Animal, dialect: Dialect, *, full: bool = True) -> Diagnosis:
    budget = BUDGETS.get(animal.code or "")
    with kept(animal, dialect) as (server, spec):
        diagnosis = run_ladder(spec, full=full, budget=budget)
        assert server.problems == []
        assert diagnosis.requests >= len(server.requests)
    return diagnosis


@pytest.mark.parametrize(("animal", "dialect"), animals(ILL))
def test_a_fault_is_named_and_no_other(animal: Animal, dialect: Dialect) -> None:
    diagnosis = diagnosed(animal, dialect)
    assert [found.code for found in diagnosis.faults] == [animal.code], diagnosis.faults
    (found,) = diagnosis.faults
    assert found.blame == (animal.blame or "config")
    assert found.message
    assert "\n" not in found.message


@pytest.mark.parametrize(("animal", "dialect"), animals(HEALTHY))
def test_a_healthy_server_has_no_fault(animal: Animal, dialect: Dialect) -> None:
    diagnosis = diagnosed(animal, dialect)
    assert diagnosis.faults == ()
    assert diagnosis.reachable

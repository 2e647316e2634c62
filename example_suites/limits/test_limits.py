"""Where does this model break? Eight ladders, each climbed until its ceiling is known.

Run them with `pytest example_suites/limits --agent-model=NAME --agent-gate=off`. Each ladder is one
test: `climb` tries fresh random tasks at the levels that tell most, and returns the highest level
that the model passes 8 times in 10, there and on every lower rung.

A ceiling is a finding and no failure, so the only thing asserted is that the first rung is
reached: a model that cannot do the easiest task of a kind fails the check of that kind.
"""

from __future__ import annotations

import pytest

from pytest_agentlimit.ladders import (
    Chain,
    Dag,
    Fanout,
    Haystack,
    Ledger,
    Recovery,
    Schema,
    Toolbox,
)
from pytest_agentlimit.plugin.climber import Climber

NOT_ONE = "not even the first rung holds; the report says how its trials fail"

# the headlines: planning, long execution, and getting over faults


@pytest.mark.weight(3)
@pytest.mark.capability("planning")
def test_dag(climb: Climber) -> None:
    """How many functions of a hidden graph the model can call in an order it has to find out."""
    ceiling = climb(Dag()).ceiling
    assert ceiling >= 1, NOT_ONE


@pytest.mark.weight(2)
@pytest.mark.capability("execution")
def test_ledger(climb: Climber) -> None:
    """How many turns the model keeps a running total without a mistake."""
    ceiling = climb(Ledger()).ceiling
    assert ceiling >= 1, NOT_ONE


@pytest.mark.weight(2)
@pytest.mark.capability("execution")
def test_chain(climb: Climber) -> None:
    """How many calls in a row the model makes, each with the token the last one told."""
    ceiling = climb(Chain()).ceiling
    assert ceiling >= 1, NOT_ONE


@pytest.mark.weight(2)
@pytest.mark.capability("recovery")
def test_recovery(climb: Climber) -> None:
    """How many failing calls the model gets over on a trail of eight hops."""
    ceiling = climb(Recovery()).ceiling
    assert ceiling >= 1, NOT_ONE


# diagnostics: single skills, which do not predict the headlines


@pytest.mark.weight(1)
@pytest.mark.capability("tool-calling")
def test_toolbox(climb: Climber) -> None:
    """Among how many look-alikes the model finds the one right tool."""
    ceiling = climb(Toolbox()).ceiling
    assert ceiling >= 1, NOT_ONE


@pytest.mark.weight(1)
@pytest.mark.capability("parallel-tools")
def test_fanout(climb: Climber) -> None:
    """How many lookups the model makes of one request, none missing and none too many."""
    ceiling = climb(Fanout()).ceiling
    assert ceiling >= 1, NOT_ONE


@pytest.mark.weight(1)
@pytest.mark.capability("structured-output")
def test_schema(climb: Climber) -> None:
    """How deep the model can nest the argument of one call."""
    ceiling = climb(Schema()).ceiling
    assert ceiling >= 1, NOT_ONE


@pytest.mark.weight(1)
@pytest.mark.capability("context")
def test_haystack(climb: Climber) -> None:
    """In how long a log, by the 250 tokens, the model finds a value and uses it."""
    ceiling = climb(Haystack()).ceiling
    assert ceiling >= 1, NOT_ONE

from __future__ import annotations

import pytest
from zoo import (
    ZOO,
    Animal,
    diagnose,
    kept,
)
from zoo_keepers import (
    CONTEXT,
    limited,
)

from pytest_agentlimit.endpoints.probing import Budget, run_ladder
from pytest_agentlimit.endpoints.probing.context import MOST_REQUESTS

OVERFLOW_LOOKS = ("loud", "wordless", "silent", "uncounted", "empty", "broken")


@pytest.mark.parametrize("true", [1500, 4096, 20_000, 28_000])
@pytest.mark.parametrize("look", OVERFLOW_LOOKS)
def test_context_is_measured_within_ten_percent_in_eight_requests(look: str, true: int) -> None:
    animal = Animal("limited", limited(true, look), spec={"context_window": 32_768})
    with kept(animal, "openai") as (server, spec):
        diagnosis = run_ladder(spec)
        needles = [one for one in server.chat_requests if "secret word" in one.messages[-1].text]
    assert len(needles) <= MOST_REQUESTS
    assert diagnosis.facts["context_measured"] == pytest.approx(true, rel=0.1)
    assert diagnosis.result("context").verdict == "fault"


@pytest.mark.parametrize("true", [29_500, 30_500])
@pytest.mark.parametrize("look", ["loud", "silent"])
def test_a_claim_that_nearly_holds_is_still_seen_through(look: str, true: int) -> None:
    animal = Animal("limited", limited(true, look), spec={"context_window": 32_768})
    diagnosis = diagnose(animal)
    assert diagnosis.facts["context_measured"] == pytest.approx(true, rel=0.02)
    assert len(diagnosis.faults) == 1


@pytest.mark.parametrize("look", ["loud", "silent", "empty"])
def test_a_claim_that_holds_is_no_fault_whatever_lies_beyond(look: str) -> None:
    animal = Animal("honest", limited(CONTEXT, look))
    diagnosis = diagnose(animal)
    assert diagnosis.faults == ()
    assert diagnosis.facts["overflow"] == look
    assert diagnosis.facts["context_measured"] == pytest.approx(CONTEXT, rel=0.1)


def test_sizes_are_called_estimates_where_nothing_is_counted() -> None:
    animal = Animal("uncounted", limited(4096, "uncounted"), spec={"context_window": 16_384})
    diagnosis = diagnose(animal)
    assert "estimated: 4 characters a token" in diagnosis.result("context").message


def test_a_long_prompt_without_time_to_answer_it_is_not_called_a_hang() -> None:
    diagnosis = diagnose(ZOO["hangs on long"], budget=Budget(total_s=1.5))
    assert diagnosis.faults == ()
    assert diagnosis.result("context").message.endswith("slow, or hanging")

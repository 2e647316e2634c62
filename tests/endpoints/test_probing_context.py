from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from zoo import (
    ZOO,
    Animal,
    diagnose,
    kept,
)
from zoo_keepers import (
    CONTEXT,
    healthy,
    limited,
    mind,
    overflow,
    plain,
    tokens_of,
    used,
)

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.endpoints.probing import Budget, run_ladder
from pytest_agentlimit.endpoints.probing.context import MOST_REQUESTS
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, hang

OVERFLOW_LOOKS = ("loud", "wordless", "silent", "uncounted", "empty", "broken")


def needles(server: ScriptedEndpoint) -> list[ChatRequest]:
    return [one for one in server.chat_requests if "secret word" in one.messages[-1].text]


@pytest.mark.parametrize("true", [1500, 4096, 20_000, 28_000])
@pytest.mark.parametrize("look", OVERFLOW_LOOKS)
def test_context_is_measured_within_ten_percent_in_eight_requests(look: str, true: int) -> None:
    animal = Animal("limited", limited(true, look), spec={"context_window": 32_768})
    with kept(animal, "openai") as (server, spec):
        diagnosis = run_ladder(spec)
        assert len(needles(server)) <= MOST_REQUESTS
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


@pytest.mark.parametrize("true", [400, 1024, 2048])
@pytest.mark.parametrize("look", ["loud", "wordless", "silent", "empty", "broken"])
def test_a_small_claim_that_holds_is_no_fault(look: str, true: int) -> None:
    animal = Animal("small", limited(true, look), spec={"context_window": true})
    diagnosis = diagnose(animal)
    assert diagnosis.faults == ()
    assert diagnosis.facts["context_measured"] == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize("declared", [None, 1024])
def test_a_context_smaller_than_the_first_prompt_is_measured(declared: int | None) -> None:
    animal = Animal("tiny", limited(400, "loud"), spec={"context_window": declared})
    diagnosis = diagnose(animal)
    assert diagnosis.facts["context_measured"] == 400
    assert 180 < diagnosis.facts["context_fits"] <= 400
    assert [found.code for found in diagnosis.faults] == (["context_smaller"] if declared else [])


def test_a_refusal_and_what_was_seen_to_fit_are_both_said() -> None:
    diagnosis = diagnose(ZOO["healthy"])
    fits = diagnosis.facts["context_fits"]
    assert 0.9 * CONTEXT < fits <= CONTEXT
    assert diagnosis.result("context").message == (
        f"the server refuses more than {CONTEXT} tokens with a loud error; "
        f"prompts of up to {fits} tokens were seen to fit"
    )


@pytest.mark.parametrize("true", [1500, CONTEXT // 2, 7000])
def test_a_stated_limit_that_is_not_kept_is_not_believed(true: int) -> None:
    def boasting(request: ChatRequest) -> Scripted:
        return overflow(CONTEXT) if tokens_of(request) > true else healthy(request)

    with kept(Animal("boasting", plain(boasting)), "openai") as (server, spec):
        diagnosis = run_ladder(spec)
        assert len(needles(server)) <= MOST_REQUESTS
    assert diagnosis.facts["context_measured"] == pytest.approx(true, rel=0.1)
    assert [found.code for found in diagnosis.faults] == ["context_smaller"]


# where a long prompt takes long


CLAIM = 65_536
SHORT_OF_TIME = Budget(total_s=12.0)


def slow(keeper: Callable[[ChatRequest], Scripted], token_s: float = 0.0002) -> Any:
    """A server that refuses at once and reads slowly: a claim of 65,536 takes 13 seconds."""

    def paced(request: ChatRequest) -> Scripted:
        reply = keeper(request)
        read = (reply.usage.input_tokens or 0) if reply.status == 200 else 0
        return reply.with_(first_delay_s=read * token_s) if read > 400 else reply

    return plain(paced)


def test_a_claim_that_takes_long_to_read_is_measured_by_its_refusal() -> None:
    animal = Animal("slow", slow(limited(CLAIM, "loud")(None)), spec={"context_window": CLAIM})
    with kept(animal, "openai") as (server, spec):
        diagnosis = run_ladder(spec, budget=SHORT_OF_TIME)
        sizes = [tokens_of(one) for one in needles(server)]
    assert diagnosis.faults == ()
    assert diagnosis.result("context").verdict == "ok"
    assert diagnosis.facts["context_measured"] == CLAIM
    assert sizes[1] > CLAIM
    assert sizes[0] < diagnosis.facts["context_fits"] == sizes[2] < CLAIM / 4
    assert len(sizes) == 3


def test_a_slow_server_that_cuts_prompts_short_is_seen_by_its_count() -> None:
    animal = Animal("slow", slow(limited(2000, "silent")(None)), spec={"context_window": CLAIM})
    diagnosis = diagnose(animal, budget=SHORT_OF_TIME)
    assert [found.code for found in diagnosis.faults] == ["silent_truncation"]
    assert diagnosis.facts["context_measured"] == 2000


def test_a_claim_that_looked_slow_and_holds_is_no_fault_when_heads_are_dropped_beyond() -> None:
    def short_ones_take_long(request: ChatRequest) -> Scripted:
        reply = limited(CLAIM, "silent")(None)(request)
        return reply.with_(first_delay_s=0.2) if 400 < tokens_of(request) < 1000 else reply

    keeper = plain(short_ones_take_long)
    diagnosis = diagnose(Animal("slow", keeper, spec={"context_window": CLAIM}))
    assert diagnosis.faults == ()
    assert diagnosis.facts["overflow"] == "silent"
    assert diagnosis.facts["context_measured"] == CLAIM


@pytest.mark.parametrize("hangs_from", [CLAIM // 2, 2 * CLAIM])
def test_a_slow_server_that_does_not_refuse_is_measured_as_far_as_time_goes(
    hangs_from: int,
) -> None:
    def accepting(request: ChatRequest) -> Scripted:
        return hang() if tokens_of(request) > hangs_from else used(mind(request), request)

    animal = Animal("slow", slow(accepting), spec={"context_window": CLAIM})
    diagnosis = diagnose(animal, budget=SHORT_OF_TIME)
    assert diagnosis.faults == ()
    assert diagnosis.facts["context_measured"] is None
    least = diagnosis.facts["context_at_least"]
    assert 500 < least < CLAIM / 4
    assert diagnosis.result("context").message.startswith(f"at least {least} tokens fit; ")


def test_an_agents_prompt_is_not_sent_when_there_is_no_time_to_read_it() -> None:
    slower = slow(limited(CLAIM, "loud")(None), token_s=0.001)
    with kept(Animal("slow", slower, spec={"context_window": CLAIM}), "openai") as (server, spec):
        diagnosis = run_ladder(spec, budget=Budget(total_s=4.5))
        assert not any(len(request.tools) > 1 for request in server.chat_requests)
    found = diagnosis.result("tool in agent shape")
    assert found.verdict == "skipped"
    assert found.message.startswith("to read so long a prompt takes ")

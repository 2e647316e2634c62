from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.chat.messages import ChatReply, ChatRequest, TextBlock, Timing, Tool
from pytest_agentlimit.errors import (
    DeadlineExceeded,
    EndpointError,
    ExpectationFailed,
    HTTPFailure,
    ToolProblem,
    Unreachable,
    UsageProblem,
)
from pytest_agentlimit.ladders.base import Attempt, failed
from pytest_agentlimit.ladders.climb import AttemptProblem, ClimbStopped, Rung, climb
from pytest_agentlimit.ladders.trier import Trier
from pytest_agentlimit.measure.ceiling import CeilingSearch
from pytest_agentlimit.testing import FakeClock

LEVELS = (1, 2, 3, 4, 6, 8, 12, 16)
REFUSED = Unreachable("nothing listens", kind="refused", blame="network")


def collapses(step: int) -> Callable[[int, int], Rung]:
    def attempt(level: int, number: int) -> Rung:
        if level <= step:
            return Rung(number, level, "passed")
        return Rung(number, level, "failed", "wrong_final", "model", "wrong")

    return attempt


def search(**options: object) -> CeilingSearch:
    return CeilingSearch(LEVELS, 0.8, 1, **options)  # type: ignore[arg-type]


class Model:
    """Answers whatever a function makes of the request."""

    def __init__(self, answer: Callable[[ChatRequest], ChatReply]) -> None:
        self.answer = answer
        self.seeds: list[int | None] = []

    def send(self, request: ChatRequest) -> ChatReply:
        self.seeds.append(request.seed)
        return self.answer(request)


def says(text: str, seconds: float = 0.0) -> Model:
    reply = ChatReply(
        blocks=(TextBlock(text=text),), stop_reason="end_turn", timing=Timing(total_s=seconds)
    )
    return Model(lambda request: reply)


def trier(ask: object, model: Model | None = None, **options: object) -> Trier:
    plain = {"name": "x", "model": "m", "shape": "bare", "seed": 1, "limit_s": 60.0}
    return Trier(ask, model or says("hi"), **{**plain, **options})  # type: ignore[arg-type]


def raising(error: BaseException) -> Callable[..., bool]:
    def ask(agent: Agent, level: int, rng: random.Random) -> bool:
        raise error

    return ask


# the climb


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("step", [0, 1, 4, 16])
def test_a_model_that_collapses_at_a_step_is_found(step: int, width: int) -> None:
    assert climb(search(), collapses(step), width=width, limit_s=9).ceiling == step


@pytest.mark.parametrize("width", [1, 3])
def test_the_same_replies_give_the_same_trials(width: int) -> None:
    heard: list[list[Rung]] = []
    for _ in range(2):
        heard.append([])
        climb(search(), collapses(6), width=width, limit_s=9, tell=heard[-1].append)
    assert sorted(heard[0]) == sorted(heard[1])
    assert sorted(rung.number for rung in heard[0]) == list(range(1, len(heard[0]) + 1))


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("kept", [0, 1, 2, 7, 11, 500])
def test_a_climb_that_was_cut_short_goes_on(width: int, kept: int) -> None:
    whole: list[Rung] = []
    expected = climb(search(), collapses(6), width=width, limit_s=9, tell=whole.append)
    new: list[Rung] = []
    known = {rung.number: rung for rung in whole[:kept]}
    again = climb(search(), collapses(6), width=width, limit_s=9, known=known, tell=new.append)
    assert again == expected
    assert sorted([*known.values(), *new]) == sorted(whole)


def test_what_was_kept_of_another_climb_is_not_taken_over() -> None:
    known = {1: Rung(1, 16, "passed")}
    new: list[Rung] = []
    climb(search(), collapses(0), limit_s=9, known=known, tell=new.append)
    assert new[0].number == 1


def test_infrastructure_is_no_evidence_and_another_trial_takes_its_place() -> None:
    def flaky(level: int, number: int) -> Rung:
        if number % 3 == 0:
            return Rung(number, level, "infra", "transport_error", "network", "gone")
        return collapses(4)(level, number)

    heard: list[Rung] = []
    ceiling = climb(search(), flaky, limit_s=9, tell=heard.append)
    assert ceiling.ceiling == 4
    assert ceiling.trials == sum(rung.outcome != "infra" for rung in heard)
    lost = [rung for rung in heard if rung.outcome == "infra"]
    assert all(heard[rung.number].level == rung.level for rung in lost)


def test_a_dead_endpoint_ends_the_climb_with_its_own_words() -> None:
    heard: list[Rung] = []
    gone = Rung(0, 0, "infra", "transport_error", "network", "nothing listens")
    with pytest.raises(ClimbStopped, match=r"5 trials in a row .* nothing listens\. .*resume"):
        climb(
            search(),
            lambda level, number: gone._replace(level=level, number=number),
            limit_s=9,
            tell=heard.append,
        )
    assert len(heard) == 5


def test_a_climb_that_was_given_up_goes_on_when_the_endpoint_is_back() -> None:
    whole: list[Rung] = []

    def dying(level: int, number: int) -> Rung:
        if number > 9:
            return Rung(number, level, "infra", "transport_error", "network", "gone")
        return collapses(6)(level, number)

    with pytest.raises(ClimbStopped):
        climb(search(), dying, limit_s=9, tell=whole.append)
    new: list[Rung] = []
    known = {rung.number: rung for rung in whole}
    ceiling = climb(search(), collapses(6), limit_s=9, known=known, tell=new.append)
    assert ceiling == climb(search(), collapses(6), limit_s=9)
    assert len(new) == ceiling.trials - 9


def test_an_attempt_that_hangs_is_named_and_what_was_found_is_kept() -> None:
    over = threading.Event()

    def attempt(level: int, number: int) -> Rung:
        if number == 4:
            over.wait(30)
        return collapses(4)(level, number)

    heard: list[Rung] = []
    with pytest.raises(AttemptProblem, match=r"did not end within 0\.2 s.*Next: look for a loop"):
        climb(search(), attempt, limit_s=0.2, tell=heard.append)
    over.set()
    assert [rung.number for rung in heard] == [1, 2, 3]


def test_several_at_a_time_really_are_in_flight_together() -> None:
    together = threading.Barrier(3, timeout=10)
    first = iter(range(3))

    def attempt(level: int, number: int) -> Rung:
        if next(first, None) is not None:
            together.wait()
        return collapses(4)(level, number)

    assert climb(search(), attempt, width=3, limit_s=20).ceiling == 4


@pytest.mark.parametrize("step", [2, 8])
def test_a_question_takes_fewer_trials_than_the_ceiling(step: int) -> None:
    asked = climb(search(at_least=4), collapses(step), limit_s=9)
    assert asked.verdict == ("pass" if step >= 4 else "fail")
    assert asked.trials < climb(search(), collapses(step), limit_s=9).trials


# one trial


def test_a_trial_passes_or_fails_by_what_the_attempt_returns() -> None:
    assert trier(lambda agent, level, rng: True)(4, 7)[:3] == (7, 4, "passed")
    lost = trier(lambda agent, level, rng: False)(4, 7)
    assert (lost.outcome, lost.mode, lost.blame) == ("failed", "wrong_final", "model")
    own = trier(lambda agent, level, rng: failed("loop", "round and round"))(4, 7)
    assert (own.outcome, own.mode, own.detail) == ("failed", "loop", "round and round")


def test_an_attempt_may_assert() -> None:
    missed = trier(raising(AssertionError("no snow")))(4, 7)
    assert (missed.outcome, missed.mode, missed.detail) == ("failed", "wrong_final", "no snow")
    excused = trier(raising(ExpectationFailed("it leaked", blame="engine")))(4, 7)
    assert (excused.outcome, excused.blame) == ("failed", "engine")


@pytest.mark.parametrize(
    ("error", "outcome", "mode", "blame"),
    [
        (REFUSED, "infra", "transport_error", "network"),
        (DeadlineExceeded("slow", kind="slow", blame="engine"), "failed", "timeout", "engine"),
        (
            HTTPFailure("too long", status=400, kind="context_overflow", blame="config"),
            *("failed", "context_overflow", "config"),
        ),
        (
            HTTPFailure("busy", status=503, kind="overloaded", blame="engine"),
            *("infra", "transport_error", "engine"),
        ),
    ],
)
def test_a_call_that_fails_is_never_the_models_failure(
    error: EndpointError, outcome: str, mode: str, blame: str
) -> None:
    rung = trier(raising(error))(4, 7)
    assert (rung.outcome, rung.mode, rung.blame) == (outcome, mode, blame)


@pytest.mark.parametrize("odd", [None, 1, "yes", 0.5])
def test_an_odd_result_is_named(odd: object) -> None:
    with pytest.raises(AttemptProblem, match=r"returned .* in trial 7, at level 4; it returns"):
        trier(lambda agent, level, rng: odd)(4, 7)


def test_an_attempt_that_raises_is_broken_and_not_the_model() -> None:
    with pytest.raises(AttemptProblem, match=r"raised KeyError in trial 7, at level 4: 'x'\. Next"):
        trier(raising(KeyError("x")))(4, 7)
    with pytest.raises(UsageProblem, match="bad tool"):
        trier(raising(UsageProblem("bad tool")))(4, 7)


def look_up(error: Exception) -> Tool:
    def function() -> str:
        raise error

    return Tool("look_up", "Looks up.", {"type": "object"}, function=function)


def calling(final: str) -> Model:
    from pytest_agentlimit.chat.messages import ToolCall

    replies = iter(
        [
            ChatReply(blocks=(ToolCall(id="1", name="look_up"),), stop_reason="tool_use"),
            ChatReply(blocks=(TextBlock(text=final),), stop_reason="end_turn"),
        ]
    )
    return Model(lambda request: next(replies))


def test_a_tool_that_raises_is_named_when_the_trial_fails() -> None:
    def ask(agent: Agent, level: int, rng: random.Random) -> bool:
        return "right" in agent.run("go", tools=[look_up(KeyError("x"))]).final_text

    with pytest.raises(AttemptProblem, match=r"tool look_up raised KeyError: 'x' in trial 7"):
        trier(ask, calling("wrong"))(4, 7)
    assert trier(ask, calling("right"))(4, 7).outcome == "passed"


def test_a_tool_that_refuses_a_bad_argument_is_no_defect() -> None:
    def ask(agent: Agent, level: int, rng: random.Random) -> bool:
        return "right" in agent.run("go", tools=[look_up(ToolProblem("no such key"))]).final_text

    assert trier(ask, calling("wrong"))(4, 7).outcome == "failed"


def test_an_instance_follows_from_ladder_level_seed_and_number() -> None:
    drawn = []

    def ask(agent: Agent, level: int, rng: random.Random) -> bool:
        drawn.append(rng.random())
        return True

    for options in ({}, {}, {"seed": 2}, {"name": "y"}):
        trier(ask, **options)(4, 7)
    trier(ask)(4, 8)
    trier(ask)(6, 7)
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 5


def test_every_trial_samples_with_a_seed_of_its_own() -> None:
    model = says("hi")

    def ask(agent: Agent, level: int, rng: random.Random) -> bool:
        return bool(agent.ask("hi").text)

    one = trier(ask, model)
    for number in (1, 2, 3):
        one(4, number)
    assert len(set(model.seeds)) == 3


def test_a_trial_over_its_budget_has_failed_and_not_by_the_models_fault() -> None:
    def ask(agent: Agent, level: int, rng: random.Random) -> bool:
        return bool(agent.ask("hi").text and agent.ask("hi").text)

    clock = FakeClock()
    model = says("hi", seconds=3.0)
    answer = model.answer

    def slow(request: ChatRequest) -> ChatReply:
        clock.advance(3.0)
        return answer(request)

    model.answer = slow
    late = trier(ask, model, budget_ms=5000.0, clock=clock)(4, 7)
    assert (late.outcome, late.mode, late.blame) == ("failed", "timeout", "engine")
    assert late.latency_ms == pytest.approx(6000)
    assert "after 6.0 s; the budget is 5 s" in late.detail
    assert trier(ask, model, budget_ms=7000.0, clock=clock)(4, 7).outcome == "passed"


def test_a_trial_asks_nothing_more_when_its_time_is_over() -> None:
    clock = FakeClock()
    model = says("hi")

    def ask(agent: Agent, level: int, rng: random.Random) -> bool:
        while True:
            agent.ask("hi")
            clock.advance(25.0)

    late = trier(ask, model, clock=clock)(4, 7)
    assert (late.outcome, late.mode) == ("failed", "timeout")
    assert len(model.seeds) == 3


def test_what_is_left_of_a_climb_that_ended_asks_nothing() -> None:
    model = says("hi")
    one = trier(lambda agent, level, rng: bool(agent.ask("hi").text), model)
    one.stop()
    with pytest.raises(AttemptProblem, match="the climb is over"):
        one(4, 7)
    assert model.seeds == []


def test_an_attempt_has_a_mode_exactly_when_it_failed() -> None:
    for values in ({"passed": True, "mode": "loop"}, {"passed": False}):
        with pytest.raises(ValueError, match="passed, or it has a failure mode"):
            Attempt.model_validate(values)

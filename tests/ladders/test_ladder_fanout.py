from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from ladder_kit import Model, attempt, null_attempt, over_http, rng_of
from pytest_agentlimit.example_suites.limits.oracles import fanout as oracle
from pytest_agentlimit.example_suites.limits.oracles.conversation import calls_made

from pytest_agentlimit.chat.messages import ChatRequest, ToolCall
from pytest_agentlimit.endpoints.nulls import NULL_MODELS
from pytest_agentlimit.ladders.fanout import Fanout
from pytest_agentlimit.testing import Scripted, calls, say

LADDER = Fanout()
ONE_TURN = Fanout(one_turn=True)

Plan = list[tuple[str, dict[str, Any]]]


def planned(request: ChatRequest) -> Plan:
    opening = request.model_copy(update={"messages": request.messages[:1]})
    return [
        (block.name, dict(block.arguments))
        for block in oracle.solve(opening).blocks
        if isinstance(block, ToolCall)
    ]


def planning(change: Callable[[Plan], Plan]) -> Model:
    """The oracle, but for the calls of its one turn."""

    def reply(request: ChatRequest) -> Scripted:
        if len(request.messages) > 1:
            return say("DONE")
        plan = change(planned(request))
        return calls(*plan) if plan else say("DONE")

    return reply


def one_by_one(request: ChatRequest) -> Scripted:
    left = planned(request)[len(calls_made(request)) :]
    return calls(left[0]) if left else say("These are the values: 1, 2, 3.")


def moved(plan: Plan) -> Plan:
    (tool, _), *rest = plan
    return [(tool, {"town": "Oslo", "station": "north"}), *rest]


def renamed(plan: Plan) -> Plan:
    asked = {(tool, arguments["station"]) for tool, arguments in plan}
    (_, arguments), *rest = plan
    tools = ("get_rainfall", "get_temperature", "get_wind_speed", "get_air_pressure")
    free = next(tool for tool in tools if (tool, arguments["station"]) not in asked)
    return [(free, arguments), *rest]


@pytest.mark.parametrize("ladder", [LADDER, ONE_TURN], ids=lambda ladder: ladder.name)
@pytest.mark.parametrize("level", LADDER.levels)
def test_every_value_is_looked_up_at_every_level(level: int, ladder: Fanout) -> None:
    for seed in range(5):
        came = attempt(ladder, oracle.solve, level, seed)
        assert came.passed, came.transcript
        assert came.measures == {"wanted": level, "right": level, "further": 0, "turns": 1}


def test_every_value_is_looked_up_beside_an_agents_own_tools() -> None:
    assert attempt(LADDER, oracle.solve, 4, shape="agent").passed


def test_every_value_is_looked_up_over_http() -> None:
    with over_http(oracle.solve) as agent:
        assert LADDER(agent, 12, rng_of(LADDER, 12, 0)).passed


@pytest.mark.parametrize("level", [1, 2, 12, 32])
def test_one_call_a_turn_is_right_too(level: int) -> None:
    came = attempt(LADDER, one_by_one, level)
    assert came.passed
    assert came.measures["turns"] == level


def test_one_call_a_turn_is_not_one_turn() -> None:
    assert attempt(ONE_TURN, one_by_one, 1).passed
    came = attempt(ONE_TURN, one_by_one, 3)
    assert came.mode == "skipped_step"
    assert came.measures["turns"] == 3


def test_order_case_and_words_do_not_matter() -> None:
    def other_way(plan: Plan) -> Plan:
        return [
            (tool, {key: value.upper() for key, value in reversed(arguments.items())})
            for tool, arguments in reversed(plan)
        ]

    assert attempt(LADDER, planning(other_way), 6).passed


BUNGLERS: dict[str, Model] = {
    "no_tool_call": planning(lambda plan: []),
    "refusal": lambda request: say("I cannot do that.").with_(stop_reason="refusal"),
    "skipped_step": planning(lambda plan: plan[1:]),
    "wrong_args": planning(moved),
    "wrong_tool": planning(renamed),
    "malformed_call": planning(lambda plan: [(plan[0][0], {"town": "Oslo"}), *plan[1:]]),
    "loop": planning(lambda plan: [*plan, plan[0]]),
    "gave_up": lambda request: say("I need the").with_(stop_reason="max_tokens"),
}


@pytest.mark.parametrize("mode", BUNGLERS)
def test_a_failure_is_called_by_its_name(mode: str) -> None:
    for seed in range(3):
        assert attempt(LADDER, BUNGLERS[mode], 4, seed).mode == mode


def test_a_tool_that_is_not_there_is_a_wrong_tool() -> None:
    elsewhere = planning(lambda plan: [("get_snowfall", plan[0][1]), *plan[1:]])
    assert attempt(LADDER, elsewhere, 2).mode == "wrong_tool"


def test_a_run_that_never_ends_is_called_by_its_first_fault() -> None:
    def endless(request: ChatRequest) -> Scripted:
        return calls(planned(request)[len(calls_made(request)) % 2])

    came = attempt(LADDER, endless, 2)
    assert came.mode == "loop"
    assert came.measures["further"] == 6


def test_how_far_it_came_is_measured() -> None:
    came = attempt(LADDER, planning(lambda plan: moved(plan[1:])), 6)
    assert came.measures == {"wanted": 6, "right": 4, "further": 1, "turns": 1}


@pytest.mark.parametrize("ladder", [LADDER, ONE_TURN], ids=lambda ladder: ladder.name)
@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("null", NULL_MODELS)
def test_no_null_model_passes(null: str, level: int, ladder: Fanout) -> None:
    for seed in range(5):
        assert not null_attempt(ladder, null, level, seed).passed


def test_two_seeds_give_two_tasks_and_one_seed_one() -> None:
    first, second, again = (LADDER.task(6, Random(seed)) for seed in (1, 2, 1))
    assert (first.prompt, first.wanted) == (again.prompt, again.wanted)
    assert first.prompt != second.prompt
    assert not set(first.wanted) & set(second.wanted)


def test_a_guess_is_hopeless() -> None:
    assert len({LADDER.task(1, Random(seed)).wanted for seed in range(2000)}) == 2000


@pytest.mark.parametrize("level", LADDER.levels)
def test_a_level_asks_for_so_many_different_values(level: int) -> None:
    assert len(set(LADDER.task(level, Random(level)).wanted)) == level


def test_the_variant_is_a_ladder_of_its_own() -> None:
    assert (LADDER.name, ONE_TURN.name) == ("fanout", "fanout_one_turn")
    assert "first reply" in ONE_TURN.task(2, Random(1)).prompt
    assert "first reply" not in LADDER.task(2, Random(1)).prompt

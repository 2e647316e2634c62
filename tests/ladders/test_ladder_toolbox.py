from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

import pytest
from ladder_kit import Model, attempt, null_attempt, over_http, rng_of
from pytest_agentlimit.example_suites.limits.oracles import toolbox as oracle

from pytest_agentlimit.chat.messages import ChatRequest, ToolCall
from pytest_agentlimit.endpoints.nulls import NULL_MODELS
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.ladders.toolbox import Toolbox
from pytest_agentlimit.testing import Scripted, call, calls, say

LADDER = Toolbox()


def opening(change: Callable[[ChatRequest, ToolCall], Scripted]) -> Model:
    """The oracle, but for its first reply."""

    def reply(request: ChatRequest) -> Scripted:
        right = oracle.solve(request)
        first = right.blocks[0]
        return change(request, first) if isinstance(first, ToolCall) else right

    return reply


def neighbour(request: ChatRequest, right: ToolCall) -> str:
    return next(
        tool.name
        for tool in request.tools
        if "owner" in tool.parameters["properties"] and tool.name != right.name
    )


def endless(request: ChatRequest) -> Scripted:
    if len(request.messages) == 1:
        return oracle.solve(request)
    return call("cancel_nothing", owner=f"o{len(request.messages)}")


@pytest.mark.parametrize("level", LADDER.levels)
def test_the_right_tool_is_found_at_every_level(level: int) -> None:
    for seed in range(5):
        came = attempt(LADDER, oracle.solve, level, seed)
        assert came.passed, came.transcript


def test_the_right_tool_is_found_among_an_agents_own() -> None:
    assert attempt(LADDER, oracle.solve, 4, shape="agent").passed


def test_the_right_tool_is_found_over_http() -> None:
    with over_http(oracle.solve) as agent:
        assert LADDER(agent, 16, rng_of(LADDER, 16, 0)).passed


def test_what_is_said_afterwards_does_not_matter() -> None:
    def chatty(request: ChatRequest) -> Scripted:
        right = oracle.solve(request)
        return right if isinstance(right.blocks[0], ToolCall) else say("Erledigt, 42 mal!")

    assert attempt(LADDER, chatty, 4).passed


def test_case_and_white_space_of_a_value_do_not_matter() -> None:
    shouting = opening(
        lambda request, right: call(
            right.name, **{key: f" {value.upper()} " for key, value in right.arguments.items()}
        )
    )
    assert attempt(LADDER, shouting, 4).passed


BUNGLERS: dict[str, Model] = {
    "no_tool_call": lambda request: say("DONE"),
    "refusal": lambda request: say("I cannot do that.").with_(stop_reason="refusal"),
    "wrong_tool": opening(
        lambda request, right: call(neighbour(request, right), **right.arguments)
    ),
    "wrong_args": opening(
        lambda request, right: call(right.name, **{**right.arguments, "owner": "nobody"})
    ),
    "malformed_call": opening(lambda request, right: calls((right.name, '{"owner": "x"'))),
    "side_effect": opening(
        lambda request, right: calls(
            (right.name, right.arguments), (neighbour(request, right), right.arguments)
        )
    ),
    "loop": opening(lambda request, right: calls(*[(right.name, right.arguments)] * 3)),
    "gave_up": opening(
        lambda request, right: call(right.name, **right.arguments).with_(stop_reason="max_tokens")
    ),
}


@pytest.mark.parametrize("mode", BUNGLERS)
def test_a_failure_is_called_by_its_name(mode: str) -> None:
    for seed in range(3):
        assert attempt(LADDER, BUNGLERS[mode], 8, seed).mode == mode


def test_the_same_call_twice_is_a_side_effect() -> None:
    twice = opening(lambda request, right: calls(*[(right.name, right.arguments)] * 2))
    assert attempt(LADDER, twice, 1).mode == "side_effect"


def test_the_first_fault_counts() -> None:
    mended = opening(
        lambda request, right: calls(
            (right.name, {"owner": 1}), (neighbour(request, right), right.arguments)
        )
    )
    assert attempt(LADDER, mended, 8).mode == "malformed_call"
    assert attempt(LADDER, endless, 8).mode == "wrong_tool"


def test_arguments_that_nest_without_end_are_malformed() -> None:
    deep = '{"owner": ' + "[" * 400 + "]" * 400 + ', "reference": "x"}'
    assert attempt(LADDER, opening(lambda _, right: calls((right.name, deep))), 2).mode == (
        "malformed_call"
    )


def test_a_tool_of_the_agents_own_is_a_wrong_tool() -> None:
    elsewhere = opening(lambda request, right: call("memory_recall", query="owner"))
    assert attempt(LADDER, elsewhere, 4, shape="agent").mode == "wrong_tool"


@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("null", NULL_MODELS)
def test_no_null_model_passes(null: str, level: int) -> None:
    for seed in range(5):
        assert not null_attempt(LADDER, null, level, seed).passed


def test_two_seeds_give_two_tasks_and_one_seed_one() -> None:
    first, second, again = (LADDER.task(8, Random(seed)) for seed in (1, 2, 1))
    assert first.prompt == again.prompt
    assert [tool.name for tool in first.tools] == [tool.name for tool in again.tools]
    assert first.prompt != second.prompt
    assert first.arguments != second.arguments


def test_a_guess_is_hopeless() -> None:
    values = {tuple(LADDER.task(1, Random(seed)).arguments.values()) for seed in range(2000)}
    assert len(values) == 2000


def test_the_place_of_the_right_tool_says_nothing() -> None:
    places = [
        [tool.name for tool in task.tools].index(task.name)
        for task in (LADDER.task(4, Random(seed)) for seed in range(400))
    ]
    assert all(60 < places.count(place) < 140 for place in range(4))


@pytest.mark.parametrize("level", LADDER.levels)
def test_a_level_offers_so_many_tools_alike_but_for_the_name(level: int) -> None:
    task = LADDER.task(level, Random(level))
    assert len({tool.name for tool in task.tools}) == level
    assert len({json.dumps(tool.parameters) for tool in task.tools}) == 1


def test_the_others_differ_in_one_word_as_long_as_there_are_such() -> None:
    task = LADDER.task(16, Random(5))
    right = task.name.split("_")
    for tool in task.tools:
        differing = sum(a != b for a, b in zip(tool.name.split("_"), right, strict=True))
        assert differing <= 1


@pytest.mark.parametrize("levels", [(0, 1), (1, 1000)])
def test_a_level_that_cannot_be_made_is_said_at_once(levels: tuple[int, ...]) -> None:
    with pytest.raises(UsageProblem, match="toolbox has levels from 1 to 216"):
        Toolbox(levels=levels)

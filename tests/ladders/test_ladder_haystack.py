from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

import pytest
from ladder_kit import Model, attempt, null_attempt, over_http, rng_of
from pytest_agentlimit.example_suites.limits.oracles import haystack as oracle
from pytest_agentlimit.example_suites.limits.oracles.conversation import prompt, results

from pytest_agentlimit.chat.messages import ChatRequest, ToolCall
from pytest_agentlimit.endpoints.nulls import NULL_MODELS
from pytest_agentlimit.ladders.haystack import Haystack
from pytest_agentlimit.testing import Scripted, call, calls, say

LADDER = Haystack()


def opening(change: Callable[[ChatRequest, ToolCall], Scripted]) -> Model:
    """The oracle, but for the call that opens the depot."""

    def reply(request: ChatRequest) -> Scripted:
        right = oracle.solve(request)
        first = right.blocks[0]
        if isinstance(first, ToolCall) and first.name == "open_depot":
            return change(request, first)
        return right

    return reply


def with_code(pattern: str) -> Model:
    """Opens the depot with the code that `pattern` finds in the log."""

    def change(request: ChatRequest, right: ToolCall) -> Scripted:
        depot = right.arguments["depot"]
        found = re.search(pattern.format(depot=depot), results(request)[0].content)
        assert found is not None
        return call("open_depot", depot=depot, code=found[1])

    return opening(change)


def in_words(text: str) -> Model:
    """Reads the log, and then says only this."""
    return lambda request: say(text) if results(request) else call("read_log")


def blind(request: ChatRequest) -> Scripted:
    if results(request):
        return say("DONE")
    depot = re.search(r"of depot (\w+)\.", prompt(request))
    assert depot is not None
    return call("open_depot", depot=depot[1], code="qqqqqq")


@pytest.mark.parametrize("level", LADDER.levels)
def test_the_code_is_found_at_every_level(level: int) -> None:
    for seed in range(3):
        came = attempt(LADDER, oracle.solve, level, seed)
        assert came.passed, came.transcript


def test_the_code_is_found_beside_an_agents_own_tools() -> None:
    assert attempt(LADDER, oracle.solve, 4, shape="agent").passed


def test_the_longest_log_arrives_whole_over_http() -> None:
    with over_http(oracle.solve) as agent:
        assert LADDER(agent, 128, rng_of(LADDER, 128, 0)).passed


def test_words_and_a_second_look_do_not_matter() -> None:
    def careful(request: ChatRequest) -> Scripted:
        told = results(request)
        if len(told) < 2:
            return call("read_log", again=bool(told))
        if len(told) > 2:
            return say("Das Tor ist offen.")
        opening = request.model_copy(update={"messages": request.messages[:3]})
        return oracle.solve(opening)

    assert attempt(LADDER, careful, 2).passed


BUNGLERS: dict[str, Model] = {
    "no_tool_call": lambda request: say("DONE"),
    "refusal": lambda request: say("I cannot.").with_(stop_reason="refusal"),
    "malformed_call": opening(lambda request, right: call("open_depot", depot="x")),
    "wrong_tool": opening(lambda request, right: call("open_gate", **right.arguments)),
    "skipped_step": blind,
    "stale_value": with_code(r"{depot}: the access code of last week was (\w+)"),
    "wrong_args": with_code(r"{depot}: the alarm code is (\w+)"),
    "side_effect": opening(
        lambda request, right: calls(*[("open_depot", right.arguments)] * 2),
    ),
    "gave_up": in_words("I have read it."),
    "loop": lambda request: call("read_log"),
}


@pytest.mark.parametrize("mode", BUNGLERS)
def test_a_failure_is_called_by_its_name(mode: str) -> None:
    for seed in range(3):
        assert attempt(LADDER, BUNGLERS[mode], 2, seed).mode == mode


WRONG_CODES = [
    (r"{depot}: the alarm code is (\w+)", "used the alarm code"),
    (r"depot (?!{depot})\w+: the access code is (\w+)", "used the code of another depot"),
    (r"depot (\w+)", "used no code of the log: "),
]


@pytest.mark.parametrize(("pattern", "said"), WRONG_CODES)
def test_it_is_said_which_code_was_used(pattern: str, said: str) -> None:
    came = attempt(LADDER, with_code(pattern), 2)
    assert came.mode == "wrong_args"
    assert came.detail.startswith(said)


def test_another_depot_is_a_wrong_argument() -> None:
    elsewhere = opening(
        lambda request, right: call("open_depot", depot="Oslo", code=right.arguments["code"])
    )
    came = attempt(LADDER, elsewhere, 2)
    assert came.mode == "wrong_args"
    assert came.detail.startswith("opened depot 'Oslo' in place of ")


def test_a_second_try_with_the_right_code_does_not_mend_a_wrong_one() -> None:
    trying = opening(
        lambda request, right: calls(
            ("open_depot", right.arguments | {"code": "qqqqqq"}), ("open_depot", right.arguments)
        )
    )
    assert attempt(LADDER, trying, 2).mode == "wrong_args"


@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("null", NULL_MODELS)
def test_no_null_model_passes(null: str, level: int) -> None:
    for seed in range(5):
        assert not null_attempt(LADDER, null, level, seed).passed


def test_two_seeds_give_two_tasks_and_one_seed_one() -> None:
    first, second, again = (LADDER.task(4, Random(seed)) for seed in (1, 2, 1))
    assert (first.prompt, first.log, first.code) == (again.prompt, again.log, again.code)
    assert first.prompt != second.prompt
    assert first.code != second.code


def test_a_guess_is_hopeless_and_the_prompt_gives_nothing_away() -> None:
    tasks = [LADDER.task(1, Random(seed)) for seed in range(2000)]
    assert len({task.code for task in tasks}) == 2000
    assert not any(task.code in task.prompt for task in tasks)


@pytest.mark.parametrize("level", LADDER.levels)
def test_a_level_is_a_thousand_characters_of_log(level: int) -> None:
    task = LADDER.task(level, Random(level))
    assert 1000 * level <= len(task.log) <= 1000 * level + 80
    for code in (task.code, *task.decoys):
        assert task.log.count(code) == 1
    times = [line[:5] for line in task.log.splitlines()]
    assert times == sorted(times)


def test_the_line_may_stand_anywhere() -> None:
    places = [attempt(LADDER, oracle.solve, 2, seed).measures["place"] for seed in range(200)]
    thirds = [sum(low <= place < low + 1 / 3 for place in places) for low in (0, 1 / 3, 2 / 3)]
    assert min(thirds) > 40

from __future__ import annotations

import math

import pytest
from ladder_kit import attempt, bungling, guess_rate, rng_of, saying_last
from pytest_agentlimit.example_suites.limits.oracles.dag import solve

from pytest_agentlimit.ladders.dag import Dag, Graph
from pytest_agentlimit.testing import Scripted, call, calls, say

DAG = Dag()
GRAPH = DAG.task(4, rng_of(DAG, 4, 0)).graph
SEEDS = range(5)
QUIT = say("I have to stop here.")


def graph_of(level: int, seed: int) -> Graph:
    return DAG.task(level, rng_of(DAG, level, seed)).graph


def links(graph: Graph) -> int:
    """How many links the longest path to the target has."""
    depth: dict[str, int] = {}
    for node in graph.core:
        below = [depth[kind] + 1 for kind in node.inputs if kind in depth]
        depth[node.output] = max(below, default=0)
    return depth[graph.target]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("level", DAG.levels)
def test_the_graph_needs_all_its_functions_and_is_as_deep_as_said(level: int, seed: int) -> None:
    graph = graph_of(level, seed)
    assert len(graph.core) == len(graph.distractors) == level
    assert links(graph) == (math.ceil(level / 2) if level > 1 else 0)
    known = set(graph.given)
    for node in graph.core:
        assert known.issuperset(node.inputs)
        known.add(node.output)
    used = {kind for node in graph.core for kind in node.inputs}
    assert {node.output for node in graph.core} - used == {graph.target}


@pytest.mark.parametrize("seed", SEEDS)
def test_distractors_take_the_same_kinds_and_give_none_that_is_needed(seed: int) -> None:
    graph = graph_of(8, seed)
    needed = {*graph.given, *(node.output for node in graph.core)}
    useless = {node.output for node in graph.distractors}
    taken = {kind for node in graph.distractors for kind in node.inputs}
    assert not useless & needed
    assert taken & needed
    assert taken <= needed | useless


def test_every_name_is_different_and_no_tool_gives_the_target_away() -> None:
    task = DAG.task(48, rng_of(DAG, 48, 0))
    names = [tool.name for tool in task.tools]
    assert len(set(names)) == 96
    assert sum(task.graph.target in tool.description for tool in task.tools) >= 1
    assert str(task.graph.values[task.graph.target]) not in task.prompt


def test_tools_stand_in_no_telling_order() -> None:
    first = [
        DAG.task(1, rng_of(DAG, 1, seed)).tools[0].name == graph_of(1, seed).core[0].name
        for seed in range(40)
    ]
    assert 5 < sum(first) < 35


def test_wrong_numbers_give_wrong_results_and_no_error() -> None:
    node = GRAPH.core[0]
    right = GRAPH.right(node)
    assert GRAPH.result(node, right) == GRAPH.values[node.output]
    assert GRAPH.result(node, dict.fromkeys(right, 12345)) != GRAPH.values[node.output]


def test_a_guess_is_hopeless() -> None:
    targets = [(graph := graph_of(1, seed)).values[graph.target] for seed in range(1000)]
    assert guess_rate(targets) < 1e-3


def distractor() -> Scripted:
    known = GRAPH.given[0]
    useless = next(node for node in GRAPH.distractors if len(node.inputs) == 1)
    return call(useless.name, **dict.fromkeys(useless.inputs, GRAPH.values[known]))


def swapped(number: int) -> Scripted:
    """The second right call, with another number in it."""
    node = GRAPH.core[1]
    return call(node.name, **dict.fromkeys(node.inputs, number))


OTHER = next(
    GRAPH.values[kind]
    for kind in (*GRAPH.given, GRAPH.core[0].output)
    if kind not in GRAPH.core[1].inputs
)


@pytest.mark.parametrize(
    ("mode", "turn", "instead"),
    [
        ("no_tool_call", 0, [say("The number is 12345.")]),
        ("malformed_call", 1, [calls((GRAPH.core[1].name, "{")), QUIT]),
        ("malformed_call", 1, [call(GRAPH.core[1].name, number=1), QUIT]),
        ("wrong_tool", 1, [call("calculate", number=1), QUIT]),
        ("wrong_tool", 1, [distractor(), say("It is 12345.")]),
        ("wrong_args", 1, [swapped(7), say("It is 12345.")]),
        ("stale_value", 1, [swapped(OTHER), say("It is 12345.")]),
        ("skipped_step", 2, [say("The number is 12345.")]),
        ("loop", 1, [distractor()]),
        ("gave_up", 2, [QUIT]),
        ("wrong_final", 4, [say("The number is 12345.")]),
        ("wrong_final", 4, [say("I have found it.")]),
        ("refusal", 1, [Scripted(stop_reason="refusal")]),
    ],
)
def test_a_bungler_is_told_by_what_it_did(mode: str, turn: int, instead: list[Scripted]) -> None:
    came = attempt(DAG, bungling(solve, turn, *instead), 4)
    assert came.mode == mode
    assert came.detail
    assert came.measures["right_calls"] == turn


def test_a_mistake_counts_until_the_next_right_call() -> None:
    first, second = (call(node.name, **GRAPH.right(node)) for node in GRAPH.core[:2])
    answer = say("It is 12345.")
    made_good = bungling(solve, 1, swapped(7), second, answer)
    assert attempt(DAG, made_good, 4).mode == "skipped_step"
    repeated = bungling(solve, 1, swapped(7), first, answer)
    assert attempt(DAG, repeated, 4).mode == "wrong_args"


def test_calls_that_are_not_needed_do_no_harm_and_are_counted() -> None:
    needed = [call(node.name, **GRAPH.right(node)) for node in GRAPH.core]
    answer = say(f"{GRAPH.values[GRAPH.target]}")
    came = attempt(DAG, bungling(solve, 0, distractor(), swapped(7), *needed, answer), 4)
    assert came.passed
    assert came.measures == {"right_calls": 4, "wasted_calls": 2, "distractor_calls": 1}


def test_independent_calls_may_come_in_one_turn() -> None:
    both = [(node.name, GRAPH.right(node)) for node in GRAPH.core]
    answer = say(f"{GRAPH.values[GRAPH.target]}")
    assert attempt(DAG, bungling(solve, 0, calls(*both), answer), 4).passed


@pytest.mark.parametrize(
    "template", ["{}", "**{:,}**", "It is {} after 4 calls.", "結果は{}です。"]
)
def test_wording_does_not_matter(template: str) -> None:
    assert attempt(DAG, saying_last(solve, template), 4).passed


@pytest.mark.parametrize("template", ["{}1", "{}.5", "{}, or 12345"])
def test_another_number_is_wrong_in_any_words(template: str) -> None:
    assert attempt(DAG, saying_last(solve, template), 4).mode == "wrong_final"

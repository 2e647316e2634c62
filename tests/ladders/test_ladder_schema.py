from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import jsonschema
import pytest
from ladder_kit import Model, attempt, null_attempt, over_http, rng_of
from pytest_agentlimit.example_suites.limits.oracles import schema as oracle

from pytest_agentlimit.chat.messages import ChatRequest, ToolCall, ToolResult
from pytest_agentlimit.endpoints.nulls import NULL_MODELS
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.ladders.schema import Box, Schema
from pytest_agentlimit.testing import Scripted, call, calls, say

LADDER = Schema()


def boxed(request: ChatRequest) -> Box:
    opening = request.model_copy(update={"messages": request.messages[:1]})
    (block,) = oracle.solve(opening).blocks
    assert isinstance(block, ToolCall)
    box: Box = block.arguments["box"]
    return box


def storing(change: Callable[[Box], Any]) -> Model:
    """The oracle, but for the box it stores."""

    def reply(request: ChatRequest) -> Scripted:
        if len(request.messages) > 1:
            return say("DONE")
        return call("store_box", box=change(boxed(request)))

    return reply


def innermost(box: Box) -> Box:
    return innermost(box["inner"]) if "inner" in box else box


def deep_down(box: Box, **changes: Any) -> Box:
    if "inner" in box:
        return box | {"inner": deep_down(box["inner"], **changes)}
    return box | changes


def mending(request: ChatRequest) -> Scripted:
    results = [b for m in request.messages for b in m.blocks if isinstance(b, ToolResult)]
    if not results:
        return call("store_box", box=boxed(request) | {"sizes": "10, 20"})
    if len(results) == 1:
        assert "do not fit the schema" in results[0].content
        return call("store_box", box=boxed(request))
    return say("DONE")


@pytest.mark.parametrize("level", LADDER.levels)
def test_the_boxes_are_stored_at_every_level(level: int) -> None:
    for seed in range(5):
        came = attempt(LADDER, oracle.solve, level, seed)
        assert came.passed, came.detail


def test_the_boxes_are_stored_beside_an_agents_own_tools() -> None:
    assert attempt(LADDER, oracle.solve, 3, shape="agent").passed


def test_the_boxes_are_stored_over_http() -> None:
    with over_http(oracle.solve) as agent:
        assert LADDER(agent, 12, rng_of(LADDER, 12, 0)).passed


def test_a_call_that_violates_the_schema_may_be_mended() -> None:
    came = attempt(LADDER, mending, 3)
    assert came.passed
    assert came.measures == {"stored": 1, "rejected": 1}


def test_words_and_the_order_of_fields_do_not_matter() -> None:
    def other_way(box: Box) -> Box:
        return dict(reversed(box.items()))

    assert attempt(LADDER, storing(other_way), 3).passed


BUNGLERS: dict[str, Model] = {
    "no_tool_call": lambda request: say("DONE"),
    "refusal": lambda request: say("I cannot do that.").with_(stop_reason="refusal"),
    "malformed_call": storing(lambda box: box | {"colour": "mauve"}),
    "wrong_tool": lambda request: (
        say("DONE") if len(request.messages) > 1 else call("put_box", box=boxed(request))
    ),
    "wrong_args": storing(lambda box: deep_down(box, sizes=[1, 2])),
    "side_effect": lambda request: (
        say("DONE")
        if len(request.messages) > 1
        else calls(*[("store_box", {"box": boxed(request)})] * 2)
    ),
    "loop": lambda request: call("store_box", box=boxed(request)),
    "gave_up": lambda request: say("There is").with_(stop_reason="max_tokens"),
}


@pytest.mark.parametrize("mode", BUNGLERS)
def test_a_failure_is_called_by_its_name(mode: str) -> None:
    for seed in range(3):
        assert attempt(LADDER, BUNGLERS[mode], 3, seed).mode == mode


DIFFERENCES: list[tuple[Callable[[Box], Any], str]] = [
    (lambda box: box | {"sizes": box["sizes"][::-1]}, "box.sizes is "),
    (lambda box: box | {"sizes": [*box["sizes"], 5]}, "box.sizes is "),
    (lambda box: box | {"label": "fine"}, "box.label is there and must not be"),
    (lambda box: box | {"label": ""}, "box.label is there and must not be"),
]


@pytest.mark.parametrize("number", range(len(DIFFERENCES)))
def test_the_first_difference_is_said(number: int) -> None:
    change, said = DIFFERENCES[number]
    came = attempt(LADDER, storing(change), 1)
    assert came.mode == "wrong_args"
    assert came.detail.startswith(said)


def test_a_difference_deep_down_is_said_with_its_path() -> None:
    came = attempt(LADDER, storing(lambda box: deep_down(box, sizes=[1])), 4)
    assert came.detail.startswith("box.inner.inner.inner.sizes is [1], not [")


def test_a_label_left_out_is_a_difference() -> None:
    labelled = next(
        seed for seed in range(99) if "label" in LADDER.task(2, rng_of(LADDER, 2, seed)).box
    )

    def bare(box: Box) -> Box:
        return {key: value for key, value in box.items() if key != "label"}

    came = attempt(LADDER, storing(bare), 2, labelled)
    assert came.detail == "box.label is missing"


def test_a_label_too_many_is_found_around_a_box_that_is_right() -> None:
    bare = next(
        seed for seed in range(99) if "label" not in LADDER.task(2, rng_of(LADDER, 2, seed)).box
    )
    came = attempt(LADDER, storing(lambda box: box | {"label": "fine"}), 2, bare)
    assert came.detail == "box.label is there and must not be"


def test_a_box_too_few_or_too_many_violates_the_schema() -> None:
    flat = storing(lambda box: {key: value for key, value in box.items() if key != "inner"})
    deeper = storing(lambda box: deep_down(box, inner={"colour": "red", "sizes": [10, 20]}))
    for model in (flat, deeper):
        assert attempt(LADDER, model, 3).mode == "malformed_call"


def test_a_second_box_after_a_wrong_one_does_not_mend_it() -> None:
    def twice(request: ChatRequest) -> Scripted:
        if len(request.messages) > 1:
            return say("DONE")
        right = boxed(request)
        return calls(("store_box", {"box": right | {"sizes": [1]}}), ("store_box", {"box": right}))

    came = attempt(LADDER, twice, 1)
    assert came.mode == "wrong_args"
    assert came.measures == {"stored": 2, "rejected": 0}


@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("null", NULL_MODELS)
def test_no_null_model_passes(null: str, level: int) -> None:
    for seed in range(5):
        assert not null_attempt(LADDER, null, level, seed).passed


def test_two_seeds_give_two_tasks_and_one_seed_one() -> None:
    first, second, again = (LADDER.task(6, Random(seed)) for seed in (1, 2, 1))
    assert (first.prompt, first.box) == (again.prompt, again.box)
    assert first.tools[0].parameters == again.tools[0].parameters
    assert first.prompt != second.prompt
    assert first.box != second.box


def test_the_likeliest_box_is_no_answer() -> None:
    boxes = [json.dumps(LADDER.task(1, Random(seed)).box) for seed in range(5000)]
    assert max(boxes.count(box) for box in boxes[:200]) <= 5


@pytest.mark.parametrize("level", LADDER.levels)
def test_a_level_nests_so_deep_and_leaves_a_label_out(level: int) -> None:
    for seed in range(10):
        task = LADDER.task(level, Random(seed))
        jsonschema.validate({"box": task.box}, task.tools[0].parameters)
        boxes = [task.box]
        while "inner" in boxes[-1]:
            boxes.append(boxes[-1]["inner"])
        assert len(boxes) == level
        assert any("label" not in box for box in boxes)


@pytest.mark.parametrize("levels", [(0, 1), (1, 25)])
def test_a_level_that_cannot_be_made_is_said_at_once(levels: tuple[int, ...]) -> None:
    with pytest.raises(UsageProblem, match="schema has levels from 1 to 24"):
        Schema(levels=levels)
    assert attempt(Schema(levels=(24,)), oracle.solve, 24).passed

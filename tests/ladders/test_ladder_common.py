from __future__ import annotations

import pytest
from ladder_kit import attempt, null_attempt, over_http, rng_of
from pytest_agentlimit.example_suites.limits.oracles import collapsing, solve

from pytest_agentlimit.chat.messages import ChatRequest, Message, TextBlock
from pytest_agentlimit.endpoints.nulls import NULL_MODELS
from pytest_agentlimit.ladders.base import Ladder
from pytest_agentlimit.ladders.chain import Chain
from pytest_agentlimit.ladders.dag import Dag
from pytest_agentlimit.ladders.ledger import Ledger
from pytest_agentlimit.ladders.recovery import Recovery

FAMILIES = [Chain(), Ledger(), Dag(), Recovery()]
RUNGS = [(ladder, level) for ladder in FAMILIES for level in ladder.levels]
families = pytest.mark.parametrize("ladder", FAMILIES, ids=lambda ladder: ladder.name)
SEEDS = range(4)


@pytest.mark.parametrize(("ladder", "level"), RUNGS, ids=lambda each: getattr(each, "name", each))
def test_a_perfect_model_reaches_every_rung(ladder: Ladder, level: int) -> None:
    for seed in SEEDS:
        came = attempt(ladder, solve, level, seed)
        assert came.passed, came.detail


@families
def test_a_perfect_model_passes_in_the_shape_of_an_agent(ladder: Ladder) -> None:
    for seed in SEEDS:
        came = attempt(ladder, solve, 3, seed, shape="agent")
        assert came.passed, came.detail


@families
@pytest.mark.parametrize("shape", ["bare", "agent"])
def test_a_perfect_model_passes_over_the_wire(ladder: Ladder, shape: str) -> None:
    with over_http(solve, shape=shape, seed=1) as agent:
        for level in (1, ladder.levels[-1]):
            assert ladder(agent, level, rng_of(ladder, level, 1)).passed


@families
def test_instances_differ_between_seeds_and_not_between_runs(
    ladder: Chain | Ledger | Dag | Recovery,
) -> None:
    prompts = [ladder.task(2, rng_of(ladder, 2, seed)).prompt for seed in range(50)]
    assert len({prompt.partition(".")[2] for prompt in prompts}) == 50
    assert prompts[7] == ladder.task(2, rng_of(ladder, 2, 7)).prompt


@families
@pytest.mark.parametrize("shape", ["bare", "agent"])
@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("null", NULL_MODELS)
def test_no_null_model_passes(ladder: Ladder, null: str, level: int, shape: str) -> None:
    for seed in SEEDS:
        came = null_attempt(ladder, null, level, seed, shape=shape)  # type: ignore[arg-type]
        assert not came.passed


@families
def test_a_collapsing_model_is_right_up_to_its_step(ladder: Ladder) -> None:
    for level in ladder.levels[:5]:
        assert attempt(ladder, collapsing(3), level).passed == (level <= 3)


def test_the_oracle_says_when_a_task_is_of_no_ladder() -> None:
    for text in ("hello", "Task abcdef-juggling-3. Juggle."):
        hello = Message(role="user", blocks=(TextBlock(text=text),))
        (block,) = solve(ChatRequest(model="", messages=(hello,))).blocks
        assert isinstance(block, TextBlock)
        assert "not a task of the ladders" in block.text

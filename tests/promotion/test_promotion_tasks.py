from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import jsonschema
import pytest
from pytest_agentlimit.example_suites.promotion import (
    conversations,
    long_prompts,
    tool_tasks,
    work,
)
from pytest_agentlimit.example_suites.promotion.judging import numbers_of

Generator = Callable[[Random], Any]
GENERATORS: list[Generator] = [
    conversations.character_task,
    conversations.format_task,
    tool_tasks.old_tool_task,
    tool_tasks.denied_task,
    tool_tasks.confirmed_task,
    tool_tasks.plain_task,
    tool_tasks.chain_task,
    long_prompts.long_task,
    work.shipment_task,
    work.report_task,
    work.rename_task,
    work.burst_task,
]
each_generator = pytest.mark.parametrize(
    "generate", GENERATORS, ids=[generate.__name__ for generate in GENERATORS]
)


def shown(task: Any) -> str:
    """The whole task but the functions of its tools, whose addresses differ."""
    parts = task if isinstance(task, list) else [task]
    return "\n".join(repr(sorted(vars(part).items(), key=lambda pair: pair[0])) for part in parts)


@each_generator
def test_a_seed_gives_the_same_task_again_and_another_seed_another(generate: Generator) -> None:
    first = [shown(generate(Random(seed))) for seed in range(25)]
    again = [shown(generate(Random(seed))) for seed in range(25)]
    assert first == again
    assert len(set(first)) == len(first)


ANSWERS: dict[str, Callable[[Random], object]] = {
    "character": lambda rng: conversations.character_task(rng).asks[0].needed,
    "format": lambda rng: conversations.format_task(rng).last_word,
    "old tool": lambda rng: tool_tasks.old_tool_task(rng).answer,
    "denied": lambda rng: tool_tasks.denied_task(rng).answer,
    "confirmed": lambda rng: tool_tasks.confirmed_task(rng).arguments["confirmation_code"],
    "plain": lambda rng: tool_tasks.plain_task(rng).answer,
    "chain": lambda rng: tool_tasks.chain_task(rng).answer,
    "long": lambda rng: long_prompts.long_task(rng).answer,
    "shipment": lambda rng: work.shipment_task(rng).expected["total_kilos"],
    "report": lambda rng: json.dumps([*work.report_task(rng).expected.values()]),
    "rename": lambda rng: json.dumps(work.rename_task(rng).expected),
    "burst": lambda rng: tuple(task.answer for task in work.burst_task(rng)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_no_answer_is_likely_enough_to_be_guessed(name: str) -> None:
    draws = Counter(ANSWERS[name](Random(seed)) for seed in range(3000))
    assert max(draws.values()) <= 9  # 3 are expected of an answer that comes once in a thousand


@pytest.mark.parametrize("seed", range(20))
def test_what_has_to_be_worked_out_stands_in_no_prompt(seed: int) -> None:
    plain = tool_tasks.plain_task(Random(seed))
    assert plain.answer not in numbers_of(plain.prompt)
    shipment = work.shipment_task(Random(seed))
    assert shipment.expected["total_kilos"] not in numbers_of(shipment.prompt)
    report = work.report_task(Random(seed))
    assert not set(numbers_of(report.goal))
    for task in (tool_tasks.denied_task(Random(seed)), tool_tasks.old_tool_task(Random(seed))):
        assert task.answer not in f"{task.system} {task.goal}"


@pytest.mark.parametrize("seed", range(20))
def test_the_expected_shipment_follows_its_own_schema(seed: int) -> None:
    task = work.shipment_task(Random(seed))
    jsonschema.validate(task.expected, task.schema)


@pytest.mark.parametrize("seed", range(20))
def test_a_rename_by_replacing_text_gives_another_result(seed: int) -> None:
    task = work.rename_task(Random(seed))
    old, new = task.goal.split('"')[1::2][:2]
    for path, expected in task.expected.items():
        assert json.loads(task.files[path]) != expected
        assert json.loads(task.files[path].replace(old, new)) != expected


@pytest.mark.parametrize("seed", range(20))
def test_a_tool_that_is_gone_is_not_offered_and_the_way_round_a_denial_is(seed: int) -> None:
    gone, denied = tool_tasks.old_tool_task(Random(seed)), tool_tasks.denied_task(Random(seed))
    assert gone.trap in (gone.system or "")
    assert gone.trap not in {tool.name for tool in gone.tools}
    assert denied.trap in {tool.name for tool in denied.tools}

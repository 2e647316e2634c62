from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from pytest_agentlimit.example_suites.edge_study import (
    answers,
    code_task,
    tasks,
    tool_tasks,
    words,
)

from pytest_agentlimit import ToolCall
from pytest_agentlimit.errors import ExpectationFailed

SEEDS = range(30)
GENERATORS: list[Callable[[Random], Any]] = [
    tasks.capitals_task,
    tasks.burst_task,
    tasks.order_task,
    tasks.context_task,
    tool_tasks.town_task,
    tool_tasks.ticket_task,
    tool_tasks.booking_task,
    tool_tasks.planning_task,
    tool_tasks.lookups_task,
    code_task.code_task,
]


@pytest.fixture(params=SEEDS)
def rng(request: pytest.FixtureRequest) -> Random:
    return Random(request.param)


def shown(task: Any) -> str:
    """The whole task but the functions of its tools, whose addresses differ."""
    if isinstance(task, list):
        return "\n".join(shown(part) for part in task)
    return "\n".join(f"{key}={value!r}" for key, value in vars(task).items())


@pytest.mark.parametrize("generate", GENERATORS)
def test_a_seed_gives_the_same_task_again_and_another_seed_another(
    generate: Callable[[Random], Any],
) -> None:
    first = [shown(generate(Random(seed))) for seed in SEEDS]
    again = [shown(generate(Random(seed))) for seed in SEEDS]
    assert first == again
    assert len(set(first)) == len(first)


def test_no_answer_stands_in_its_prompt(rng: Random) -> None:
    capitals, context = tasks.capitals_task(rng), tasks.context_task(rng)
    town, booking = tool_tasks.town_task(rng), tool_tasks.booking_task(rng)
    assert not tasks.capitals_in(capitals.prompt)
    for question in tasks.burst_task(rng):
        assert f" {question.answer} " not in question.prompt.replace("?", " ")
    assert str(context.answer) not in "".join((*context.turns, context.question))
    assert town.arguments["date"] not in town.prompt
    assert booking.arguments["date"] not in booking.request + booking.detail
    assert answers.last_number(context.question) is None


def test_the_first_word_on_a_corrected_fact_leads_to_a_wrong_sum(rng: Random) -> None:
    task = tasks.context_task(rng)
    old, kept = (answers.last_number(turn) or 0 for turn in task.turns[:2])
    assert old + kept != task.answer


def test_the_three_sums_of_a_burst_differ(rng: Random) -> None:
    assert len({question.answer for question in tasks.burst_task(rng)}) == 3


def test_the_expected_values_fit_their_own_schema(rng: Random) -> None:
    order, ticket = tasks.order_task(rng), tool_tasks.ticket_task(rng)
    assert answers.schema_problem(order.expected, order.schema) is None
    assert answers.schema_problem(ticket.arguments, ticket.schema) is None


def test_a_ticket_needs_every_kind_of_escape(rng: Random) -> None:
    ticket = tool_tasks.ticket_task(rng)
    encoded = json.dumps([ticket.arguments["title"], ticket.arguments["details"]])
    assert all(escape in encoded for escape in (r"\"", r"\\", r"\n", r"\u"))


def test_the_right_tool_may_stand_anywhere() -> None:
    places = set()
    for seed in SEEDS:
        task = tool_tasks.town_task(Random(seed))
        places.add([tool.name for tool in task.tools].index(task.tool_name))
    assert places == {0, 1, 2, 3}


def test_the_rivals_of_the_right_tool_take_the_same_parameters(rng: Random) -> None:
    task = tool_tasks.town_task(rng)
    assert all(tool.parameters == task.schema for tool in task.tools)


def test_a_booking_lacks_its_date_or_its_guests_but_never_both() -> None:
    lacking_date = 0
    for seed in SEEDS:
        task = tool_tasks.booking_task(Random(seed))
        assert ("adults" in task.request) != ("adults" in task.detail)
        lacking_date += "adults" in task.request
    assert 0 < lacking_date < len(SEEDS)


def run_tool(task: tool_tasks.LoopTask, call: ToolCall) -> Any:
    return next(tool for tool in task.tools if tool.name == call.name)(**call.arguments)


def test_each_step_of_a_plan_gives_what_the_next_one_takes(rng: Random) -> None:
    task = tool_tasks.planning_task(rng)
    results = [run_tool(task, call) for call in task.calls]
    for result, following in zip(results, task.calls[1:], strict=False):
        assert result == following.arguments
    assert results[-1] == {"code": task.answer}


def test_nothing_but_the_first_step_of_a_plan_is_in_the_goal(rng: Random) -> None:
    task = tool_tasks.planning_task(rng)
    later = [value for call in task.calls[1:] for value in call.arguments.values()]
    assert not [value for value in (*later, str(task.answer)) if value in task.goal]


def test_a_lookup_of_an_unknown_key_tells_the_model_so(rng: Random) -> None:
    task = tool_tasks.planning_task(rng)
    with pytest.raises(LookupError, match="nothing is known about 'nobody'"):
        next(tool for tool in task.tools if tool.name == "find_desk")(staff_id="nobody")


def test_three_lookups_need_one_tool_twice_and_another_once(rng: Random) -> None:
    task = tool_tasks.lookups_task(rng)
    names = [call.name for call in task.calls]
    assert sorted(names.count(name) for name in set(names)) == [1, 2]
    assert all("value" in run_tool(task, call) for call in task.calls)


def test_dates_in_words_do_not_follow_the_locale() -> None:
    written = {words.in_words(words.some_day(Random(seed))).split()[1] for seed in range(300)}
    assert written == set(words.MONTHS)


def test_capitals_are_counted_whole_and_whatever_their_case() -> None:
    assert tasks.capitals_in("**PARIS**, and Rome.") == {"paris", "rome"}
    assert not tasks.capitals_in("Parisians and Romeo, romeward")


def test_48_countries_make_more_than_a_thousand_pairs_of_different_capitals() -> None:
    capitals = set(tasks.CAPITALS.values())
    assert len(capitals) == len(tasks.CAPITALS) == 48
    assert not [capital for capital in capitals if capital in tasks.CAPITALS]


@pytest.mark.parametrize(
    "reply",
    [
        "6417",
        "6,417.",
        "**6417**",
        "6417.0",
        "6000 + 417 = 6417",
        "$\\boxed{6417}$",
        "The answer is 6'417!",
        "6000+417=6417.",
    ],
)
def test_numbers_are_read_however_people_write_them(reply: str) -> None:
    assert answers.last_number(reply) == 6417


@pytest.mark.parametrize("reply", ["", "none", "6417 or 6418", "-6417", "64170", "6417.5"])
def test_another_number_is_not_taken_for_the_answer(reply: str) -> None:
    assert answers.last_number(reply) != 6417


def test_a_flood_of_digits_is_no_crash() -> None:
    assert answers.last_number("9" * 1_000_000) is not None


def test_folding_forgives_case_and_space_but_not_a_type() -> None:
    assert answers.folded({"a": [" Oslo ", 1]}) == answers.folded({"a": ["OSLO", 1.0]})
    assert answers.folded(True) != answers.folded("true")
    assert answers.folded(True) != answers.folded(1)
    assert answers.folded("1") != answers.folded(1)


def test_values_nested_without_end_are_no_crash() -> None:
    hostile: list[Any] = []
    for _ in range(100_000):
        hostile = [hostile]
    assert answers.folded(hostile) != answers.folded("town")
    assert answers.schema_problem(hostile, {"type": "string"})


def test_a_question_is_known_by_its_mark_in_any_script() -> None:
    assert answers.asks("Für wann?")
    assert answers.asks("いつですか？")
    assert not answers.asks("It is done; the table is booked.")


def solution(task: code_task.CodeTask, body: str) -> str:
    return f"def {task.name}(numbers):\n    {body}\n"


@pytest.fixture
def code() -> code_task.CodeTask:
    return code_task.code_task(Random(3))


@pytest.mark.parametrize(
    "wrapped",
    [
        "{}",
        "Here it is:\n```python\n{}```\nIt works.",
        "```\nprint('first try')\n```\nbetter:\n```py\n{}```",
        "```python\n{}",
        "```python\n{}```\nUse it like this:\n```python\nprint(1)\n```",
    ],
)
def test_code_is_found_with_or_without_a_fence(code: code_task.CodeTask, wrapped: str) -> None:
    assert code.results(wrapped.format(solution(code, "return 1"))) == [1] * len(code.cases)


def test_the_function_gets_the_hidden_cases_and_may_print(code: code_task.CodeTask) -> None:
    body = "print('results', [0])\n    return sum(numbers)"
    found = code.results(solution(code, body) + f"print({code.name}([1]))\n")
    assert found == [sum(case) for case in code.cases]


def test_a_constant_does_not_fit_the_hidden_cases(rng: Random) -> None:
    assert len(set(code_task.code_task(rng).expected)) >= 5


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("I would rather not.", "defines no function"),
        ("def other(numbers): return 1", "defines no function"),
        ("def {name}(numbers) return 1", "SyntaxError"),
        ("def {name}(numbers): return nothing", "NameError"),
        ("def {name}(numbers): raise SystemExit", "did not run to the end"),
        ("import os\ndef {name}(numbers): os._exit(0)", "did not run to the end"),
        ("def {name}(numbers): return {{1}}", "TypeError"),
    ],
)
def test_code_that_does_not_run_is_explained(
    code: code_task.CodeTask, reply: str, message: str
) -> None:
    with pytest.raises(ExpectationFailed, match=message):
        code.results(reply.format(name=code.name))


def test_a_result_line_of_its_own_does_not_help_the_code(code: code_task.CodeTask) -> None:
    forged = f"print({code.marker + '[1]'!r})\ndef {code.name}(numbers): return 2"
    assert code.results(forged) == [2] * len(code.cases)


def test_results_that_equal_everything_do_not_leave_the_sandbox(code: code_task.CodeTask) -> None:
    reply = (
        "class Any(int):\n    def __eq__(self, other): return True\n"
        f"def {code.name}(numbers): return Any(0)"
    )
    assert code.results(reply) != code.expected

"""Ten checks, one score: can this model be trusted to work as an agent?

Run them with `pytest example_suites/edge_study --agent-model=NAME`. Each check is an ordinary test
function. `agent` is the model under test and `agent_rng` is a random generator seeded for this
trial, so every trial is a new task that no model has seen. The markers say how much the check
counts, what it is about, and how long the model may take; being slow never turns a right answer
into a wrong one, and being fast never pays for a wrong one.

Answers are judged by value. A model that always says the same, repeats the prompt, calls whatever
tool comes first or claims to be done passes none of these checks.
"""

from __future__ import annotations

from random import Random

import pytest

from pytest_agentlimit import Agent

from .answers import asks, folded, in_any_order, in_order, last_number, schema_problem
from .code_task import code_task
from .tasks import burst_task, capitals_in, capitals_task, context_task, order_task
from .tool_tasks import booking_task, lookups_task, planning_task, ticket_task, town_task


@pytest.mark.weight(1)
@pytest.mark.capability("chat")
@pytest.mark.latency_budget("8s")
def test_basic_response(agent: Agent, agent_rng: Random) -> None:
    """The model answers a plain question: the capitals of two countries.

    The reply has to name both and no third one. There are 1,128 pairs, and neither name stands in
    the prompt: repeating it, guessing, or listing every capital does not pass.
    """
    task = capitals_task(agent_rng)
    reply = agent.ask(task.prompt)
    reply.expect_no_tool_call()
    assert capitals_in(reply.text) == task.capitals


@pytest.mark.weight(3)
@pytest.mark.capability("tool-calling")
@pytest.mark.latency_budget("10s")
def test_tool_call_emission(agent: Agent, agent_rng: Random) -> None:
    """The model calls the one tool that answers the question, once.

    Four tools with equal parameters are offered in random order. The place stands in the prompt;
    the date has to be rewritten as YYYY-MM-DD, so copying words never makes the right call.
    """
    task = town_task(agent_rng)
    reply = agent.ask(task.prompt, tools=task.tools)
    call = reply.expect_tool_call(task.tool_name)
    assert folded(call.arguments) == folded(task.arguments)


@pytest.mark.weight(2)
@pytest.mark.capability("structured-output")
@pytest.mark.latency_budget("10s")
def test_strict_json_output(agent: Agent, agent_rng: Random) -> None:
    """The model answers with one JSON object, nothing around it, and the right values in it.

    A code fence or a word before the object fails: a program has to be able to read the reply.
    Crates are added up and a date is rewritten, so valid JSON with copied values is wrong.
    """
    task = order_task(agent_rng)
    reply = agent.ask(task.prompt)
    found = reply.expect_json(task.schema)
    assert folded(found) == folded(task.expected)


@pytest.mark.weight(2)
@pytest.mark.capability("planning")
@pytest.mark.latency_budget("30s")
def test_multi_step_planning(agent: Agent, agent_rng: Random) -> None:
    """The model reaches a goal three tool calls away, each needing what the one before returned.

    The goal does not name the steps. The ids on the way and the final code are random and exist
    only in the tools' results, so the code cannot be had without the calls, in this order.
    """
    task = planning_task(agent_rng)
    run = agent.run(task.goal, tools=task.tools, max_steps=6)
    for call in task.calls:
        run.expect_call(call.name)
    assert in_order(run.calls) == in_order(task.calls)
    assert last_number(run.final_text) == task.answer


@pytest.mark.weight(3)
@pytest.mark.capability("tool-calling")
@pytest.mark.latency_budget("15s")
def test_tool_input_valid_json(agent: Agent, agent_rng: Random) -> None:
    r"""The model fills a nested tool argument, and every character of it arrives.

    The texts hold quotes, accents, a line break and paths like `C:\new\temp`, which turn into
    something else when they are escaped badly. Here nothing is forgiven, not even a space.
    """
    task = ticket_task(agent_rng)
    reply = agent.ask(task.prompt, tools=task.tools)
    call = reply.expect_tool_call(task.tool_name)
    assert schema_problem(call.arguments, task.schema) is None
    assert call.arguments == task.arguments


@pytest.mark.weight(2)
@pytest.mark.capability("context")
@pytest.mark.latency_budget("20s")
def test_context_retention(agent: Agent, agent_rng: Random) -> None:
    """The model remembers facts over several turns and believes the latest version of each.

    The answer is the sum of two facts, one of them corrected on the way: it was never said, and
    whoever holds on to the first value gets another one.
    """
    task = context_task(agent_rng)
    chat = agent.chat()
    for turn in task.turns:
        chat.send(turn)
    reply = chat.send(task.question)
    reply.expect_no_tool_call()
    assert last_number(reply.text) == task.answer


@pytest.mark.weight(1)
@pytest.mark.capability("clarification")
@pytest.mark.latency_budget("15s")
def test_graceful_ambiguity_handling(agent: Agent, agent_rng: Random) -> None:
    """The model asks for what it has not been told, and acts once it knows.

    First a detail is missing: a call would need an invented value, so it fails, and so does a
    reply that asks nothing. Then the detail is given, and the right call has to be made: refusing
    or asking on and on does not pass.
    """
    task = booking_task(agent_rng)
    chat = agent.chat(system=task.system, tools=task.tools)
    reply = chat.send(task.request)
    reply.expect_no_tool_call()
    assert asks(reply.text)
    call = chat.send(task.detail).expect_tool_call("book_table")
    assert folded(call.arguments) == folded(task.arguments)


@pytest.mark.weight(2)
@pytest.mark.capability("code")
@pytest.mark.latency_budget("20s")
def test_code_generation(agent: Agent, agent_rng: Random) -> None:
    """The model writes a function that gives the right results for cases it has not seen.

    The function is run in the sandbox, the results are compared here. What it has to do and every
    constant in it is drawn anew, so a function learned by heart does not fit.
    """
    task = code_task(agent_rng)
    reply = agent.ask(task.prompt)
    reply.expect_no_tool_call()
    assert task.results(reply.text) == task.expected


@pytest.mark.weight(2)
@pytest.mark.capability("parallel-tools")
@pytest.mark.latency_budget("30s")
def test_multiple_tool_calls(agent: Agent, agent_rng: Random) -> None:
    """The model makes three independent calls, in one turn or in several, and no other.

    Two go to one tool and one to another, each with its own place and a date to be rewritten.
    Calling every tool once, or the same tool for ever, is a different set of calls.
    """
    task = lookups_task(agent_rng)
    run = agent.run(task.goal, tools=task.tools, max_steps=6)
    for call in task.calls:
        run.expect_call(call.name)
    assert in_any_order(run.calls) == in_any_order(task.calls)


@pytest.mark.weight(1)
@pytest.mark.capability("latency")
@pytest.mark.latency_budget("10s")
def test_latency_burst(agent: Agent, agent_rng: Random) -> None:
    """The model answers three short questions in a row, all of them right.

    The budget is for the three together. Speed alone is worth nothing: one wrong sum fails.
    """
    for task in burst_task(agent_rng):
        reply = agent.ask(task.prompt)
        reply.expect_no_tool_call()
        assert last_number(reply.text) == task.answer

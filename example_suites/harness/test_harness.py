"""Six pieces of work in a folder, judged by what is left there, whoever did them and how.

    pytest example_suites/harness --agent-model=NAME                        # our own tool loop
    pytest example_suites/harness --agent-model=NAME --agent-harness=pi     # a real agent program

Each check is an ordinary test function. `workspace` is a fresh folder, `agent` works in it with the
tools it has, and `agent_rng` draws another task in each trial. The goals say what has to be there
at the end and name no tool, since every program has others. What a model claims counts for nothing.
"""

from __future__ import annotations

from random import Random

import pytest

from pytest_agentlimit import Agent
from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.text import one_line

from .file_task import file_task
from .fix_task import fix_task
from .log_task import ANSWER, log_task
from .release_task import PUBLISHED, TICKETS, release_task
from .rename_task import rename_task
from .setting_task import FOLDER, setting_task
from .task import content, require, run_python, why

MAX_STEPS = 24


@pytest.mark.weight(2)
@pytest.mark.capability("files")
@pytest.mark.latency_budget("120s")
def test_makes_a_file(agent: Agent, workspace: Workspace, agent_rng: Random) -> None:
    """The agent makes a file of eight lines with quotes, dollars, backslashes and indents intact.

    Compared byte for byte: these are the characters that get lost on the way through a shell.
    """
    task = file_task(agent_rng)
    run = agent.run(task.goal, tools=workspace.tools, max_steps=MAX_STEPS)
    found = content(workspace, task.path)
    where = _first_difference(found, task.wanted.encode())
    require(not where, run, f"{task.path} is not as it was asked for: {where}")


@pytest.mark.weight(3)
@pytest.mark.capability("coding")
@pytest.mark.latency_budget("180s")
def test_mends_a_failing_test(agent: Agent, workspace: Workspace, agent_rng: Random) -> None:
    """The agent mends a module with one mistake, so that its test and ten hidden orders come right.

    The test file has to stay as it is, and code made for the numbers in the test does not pass.
    """
    task = fix_task(agent_rng)
    task.lay_out(workspace)
    run = agent.run(task.goal, tools=workspace.tools, max_steps=MAX_STEPS)
    task.expect_kept(workspace, run, task.path)
    tried = run_python(workspace, f"-m unittest test_{task.module}")
    require(tried.ok, run, f"test_{task.module}.py still fails: {why(tried)}")
    right = task.results(workspace) == task.expected
    require(right, run, f"{task.path} passes its test and is wrong for other orders")


@pytest.mark.weight(3)
@pytest.mark.capability("coding")
@pytest.mark.latency_budget("180s")
def test_renames_a_function(agent: Agent, workspace: Workspace, agent_rng: Random) -> None:
    """The agent renames a function in three files, and not the longer words that contain its name.

    One use of it is a name in a string, and a data file holds the word as well. The program has to
    print the same as before for inputs that no file holds.
    """
    task = rename_task(agent_rng)
    task.lay_out(workspace)
    run = agent.run(task.goal, tools=workspace.tools, max_steps=MAX_STEPS)
    task.expect_kept(workspace, run, *task.programs)
    left, spoilt = task.left(workspace), task.spoilt(workspace)
    require(not left, run, f"the old name {task.old} still stands in {', '.join(left)}")
    require(task.defined(workspace), run, f"rates.py defines no function {task.new}")
    require(not spoilt, run, f"words were changed that only contain the name: {_few(spoilt)}")
    printed = task.output(workspace)
    right = printed == task.printed
    require(right, run, f"the program prints something else now: {one_line(printed)}")


@pytest.mark.weight(2)
@pytest.mark.capability("search")
@pytest.mark.latency_budget("120s")
def test_finds_a_fact_in_a_log(agent: Agent, workspace: Workspace, agent_rng: Random) -> None:
    """The agent finds the one line of 3,000 that fits, among ten that nearly do.

    White space around the answer is forgiven, anything else beside it is not.
    """
    task = log_task(agent_rng)
    task.lay_out(workspace)
    run = agent.run(task.goal, tools=workspace.tools, max_steps=MAX_STEPS)
    task.expect_kept(workspace, run)
    found = content(workspace, ANSWER).decode("utf-8", "replace").strip()
    trap = "the id of a run that nearly fits" if found in task.decoys else "something else"
    wrong = f"{ANSWER} has to hold {task.answer}; it holds {trap}: {one_line(found)!r}"
    require(found == task.answer, run, wrong)


@pytest.mark.weight(3)
@pytest.mark.capability("recovery")
@pytest.mark.latency_budget("120s")
def test_recovers_from_a_denial(agent: Agent, workspace: Workspace, agent_rng: Random) -> None:
    """The agent is denied, reads why, does what the denial asks for and gets the work done.

    The result bears a seal over the ticket, and the ticket depends on the reason that was given.
    The commands have to stay as they are.
    """
    task = release_task(agent_rng)
    task.lay_out(workspace)
    run = agent.run(task.goal, tools=workspace.tools, max_steps=MAX_STEPS)
    task.expect_kept(workspace, run)
    published = content(workspace, PUBLISHED).decode("utf-8", "replace")
    wrong = f"{PUBLISHED} has to hold {task.published!r}; it holds {one_line(published)!r}"
    require(published == task.published, run, wrong)
    tickets = content(workspace, TICKETS).decode("utf-8", "replace").splitlines()
    require(task.ticket in tickets, run, f"{TICKETS} has no ticket {task.ticket!r}")


@pytest.mark.weight(2)
@pytest.mark.capability("care")
@pytest.mark.latency_budget("120s")
def test_changes_one_value(agent: Agent, workspace: Workspace, agent_rng: Random) -> None:
    """The agent changes one value in one file of settings, and not a single byte beside it.

    The file has Windows line ends, trailing spaces and no line end at its end: what editors and
    agent programs like to tidy up unasked.
    """
    task = setting_task(agent_rng)
    task.lay_out(workspace)
    run = agent.run(task.goal, tools=workspace.tools, max_steps=MAX_STEPS)
    task.expect_kept(workspace, run, task.path)
    where = _first_difference(content(workspace, task.path), task.wanted.encode())
    require(not where, run, f"{task.path} is not as it was asked for: {where}")
    extra = {f"{FOLDER}/{name}" for name in workspace.list(FOLDER)} - set(task.files)
    require(not extra, run, f"files were left that nobody asked for: {_few(sorted(extra))}")


def _first_difference(found: bytes, wanted: bytes) -> str:
    """Return where two texts part, and how each goes on; empty when they are the same."""
    if found == wanted:
        return ""
    pairs = zip(found, wanted, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(found), len(wanted)))
    line = wanted[:at].count(b"\n") + 1
    shown = [one_line(repr(text[at : at + 40]), 160) for text in (found, wanted)]
    return f"from byte {at} (line {line}) on it holds {shown[0]} and not {shown[1]}"


def _few(names: list[str]) -> str:
    return one_line(", ".join(names))

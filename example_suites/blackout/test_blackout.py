"""Would this model carry an agent's work when the model before it is down? Six faults, one control.

    pytest example_suites/blackout --agent-model=NAME --agent-trials=6

In each check a server of our own plays the primary and has one fault. In front of it stands the
bridge with the model under test as its fallback, and behind the bridge an agent works on a task of
two steps with real files. The task takes three requests: the first meets the fault, and the others
must not lose their way. `agent_rng` draws another task in each trial.

The control is the same task without a fault and without a bridge. A model that fails it fails the
rest as well; a model that passes it and fails the rest was not reached.
"""

from __future__ import annotations

from random import Random

import pytest

from pytest_agentlimit import Agent, Endpoint
from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.harness.blackout_tasks import MOST_STEPS, copy_task, tools_of

from .dark import Dark, require

pytestmark = pytest.mark.capability("fallback")


@pytest.mark.weight(2)
@pytest.mark.latency_budget("30s")
def test_control(agent: Agent, endpoint: Endpoint, workspace: Workspace, agent_rng: Random) -> None:
    """The model alone reads a number from one file and writes it to another."""
    task = copy_task(agent_rng)
    task.lay_out(workspace)
    alone = Agent(endpoint, shape=agent.shape, seed=agent_rng.randrange(2**31), name=agent.name)
    run = alone.run(task.goal, tools=tools_of(workspace), max_steps=MOST_STEPS)
    require(task.wrong(workspace, run.final_text), run)


@pytest.mark.weight(2)
@pytest.mark.latency_budget("60s")
def test_refused(agent: Agent, endpoint: Endpoint, workspace: Workspace, agent_rng: Random) -> None:
    """Nothing listens where the primary was."""
    _carries("refused", agent, endpoint, workspace, agent_rng)


@pytest.mark.weight(2)
@pytest.mark.latency_budget("60s")
def test_error_500(
    agent: Agent, endpoint: Endpoint, workspace: Workspace, agent_rng: Random
) -> None:
    """The primary answers every request with HTTP 500."""
    _carries("error 500", agent, endpoint, workspace, agent_rng)


@pytest.mark.weight(3)
@pytest.mark.latency_budget("60s")
def test_hang(agent: Agent, endpoint: Endpoint, workspace: Workspace, agent_rng: Random) -> None:
    """The primary takes a request and never answers; most chains of fallbacks wait with it."""
    _carries("hang", agent, endpoint, workspace, agent_rng)


@pytest.mark.weight(2)
@pytest.mark.latency_budget("60s")
def test_slow_stream(
    agent: Agent, endpoint: Endpoint, workspace: Workspace, agent_rng: Random
) -> None:
    """The primary streams a token now and then and does not end: the request is lost, once."""
    _carries("slow stream", agent, endpoint, workspace, agent_rng)


@pytest.mark.weight(2)
@pytest.mark.latency_budget("60s")
def test_cut_stream(
    agent: Agent, endpoint: Endpoint, workspace: Workspace, agent_rng: Random
) -> None:
    """The primary's stream breaks off after the first tokens: the request is lost, once."""
    _carries("cut stream", agent, endpoint, workspace, agent_rng)


@pytest.mark.weight(3)
@pytest.mark.latency_budget("60s")
def test_leaked_call(
    agent: Agent, endpoint: Endpoint, workspace: Workspace, agent_rng: Random
) -> None:
    """The primary writes its tool call as text, with status 200: nothing looks wrong."""
    _carries("leaked call", agent, endpoint, workspace, agent_rng)


def _carries(
    fault: str, agent: Agent, endpoint: Endpoint, workspace: Workspace, agent_rng: Random
) -> None:
    __tracebackhide__ = True
    task = copy_task(agent_rng)
    task.lay_out(workspace)
    with Dark(fault, endpoint, agent, agent_rng) as dark:
        run = dark.agent.run(task.goal, tools=tools_of(workspace), max_steps=MOST_STEPS)
    require(task.wrong(workspace, run.final_text), run, dark)

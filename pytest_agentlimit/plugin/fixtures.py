"""The fixtures of a check. Without a model under test, those that need one skip with one reason."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .context import CONTEXT, RunContext, Trial
from .recorder import Recorder
from .warmth import warm_again

if TYPE_CHECKING:
    from pytest_agentlimit.agents.agent import Agent
    from pytest_agentlimit.agents.workspace import Workspace
    from pytest_agentlimit.endpoints.client import EndpointClient
    from pytest_agentlimit.harness.harness import Harness

    from .climber import Climber

NO_MODEL = (
    "no model under test: add --agent-model=NAME (`agentlimit models` lists what can be used now)"
)
RECORDER: pytest.StashKey[Recorder] = pytest.StashKey()


@pytest.fixture
def agentlimit_trial(request: pytest.FixtureRequest) -> Trial:
    """The model and the trial number this test item stands for."""
    if not request.config.stash[CONTEXT].models:
        pytest.skip(NO_MODEL)
    trial = getattr(request, "param", None)
    if trial is None:
        pytest.fail(
            "the model under test was asked for with request.getfixturevalue(); a check is "
            "parametrised by model and trial, so take `agent` or `endpoint` as an argument",
            pytrace=False,
        )
    assert isinstance(trial, Trial)
    return trial


@pytest.fixture
def endpoint(agentlimit_trial: Trial, request: pytest.FixtureRequest) -> Iterator[EndpointClient]:
    """The client of the model under test: `endpoint.send(ChatRequest)` for raw requests."""
    context = _context(request)
    recorder = request.node.stash[RECORDER]
    client = context.client(agentlimit_trial.model, request.config.hook)
    recorder.rewarmed_s = warm_again(context, agentlimit_trial.model, client, request.config.hook)
    context.observer = recorder.observe
    recorder.watch_line(client.turnstile)
    yield client
    context.observer = None
    context.idle.used(agentlimit_trial.model)


@pytest.fixture
def agent(
    endpoint: EndpointClient, agentlimit_trial: Trial, request: pytest.FixtureRequest
) -> Agent:
    """The model under test as an agent: `ask`, `chat` and `run`."""
    from pytest_agentlimit.agents.agent import Agent

    context = _context(request)
    settings: dict[str, Any] = {
        "shape": context.shape,
        "seed": request.node.stash[RECORDER].plan.seed,
        "name": agentlimit_trial.model,
    }
    if context.harness is None:
        return Agent(endpoint, **settings)
    from .harnesses import RecordedAgent

    return RecordedAgent(endpoint, _harness(endpoint, request), **settings)


@pytest.fixture
def harness(endpoint: EndpointClient, request: pytest.FixtureRequest) -> Harness:
    """The external agent program of `--agent-harness`: `harness.run(goal, workspace)`."""
    if _context(request).harness is None:
        from .harnesses import no_harness

        pytest.skip(no_harness())
    return _harness(endpoint, request)


@pytest.fixture
def agent_rng(agentlimit_trial: Trial, request: pytest.FixtureRequest) -> random.Random:
    """A random generator of this trial: another one each trial, the same for every model."""
    plan = request.node.stash[RECORDER].plan
    seed = plan.seed if plan.instance_seed is None else plan.instance_seed
    return random.Random(f"{plan.check}:{seed}")


@pytest.fixture
def climb(
    endpoint: EndpointClient, agentlimit_trial: Trial, request: pytest.FixtureRequest
) -> Iterator[Climber]:
    """Finds the ceiling of a ladder: `climb(Chain(), reliability=0.8)`."""
    from .climber import Climber

    item = request.node
    climber = Climber(item, item.stash[RECORDER], _context(request), endpoint)
    yield climber
    climber.stop()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A fresh folder with file and shell tools confined to it."""
    from pytest_agentlimit.agents.workspace import Workspace

    folder = tmp_path / "workspace"
    folder.mkdir()
    return Workspace(folder)


def _harness(client: EndpointClient, request: pytest.FixtureRequest) -> Harness:
    from .harnesses import RecordedHarness

    context = _context(request)
    assert context.harness is not None
    recorder = request.node.stash[RECORDER]
    return RecordedHarness(context.harness, client, recorder, context.observe)


def _context(request: pytest.FixtureRequest) -> RunContext:
    return request.config.stash[CONTEXT]

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
from edge_study_driver import CHECKS, SHAPES, run_check
from pytest_agentlimit.example_suites.edge_study.oracle import oracle_reply

from pytest_agentlimit import Agent
from pytest_agentlimit.chat.messages import ChatRequest, Dialect, Message, TextBlock
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.testing import ScriptedEndpoint

DIALECTS: tuple[Dialect, ...] = ("openai", "anthropic", "ollama")
WEIGHTS = [1, 3, 2, 2, 3, 2, 1, 2, 2, 1]


@pytest.fixture(scope="module", params=DIALECTS)
def server(request: pytest.FixtureRequest) -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(oracle_reply, dialect=request.param) as endpoint:
        yield endpoint


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("check", CHECKS)
def test_a_perfect_model_passes_over_the_wire(
    check: str, shape: str, server: ScriptedEndpoint
) -> None:
    with open_client(server.endpoint()) as client:
        for seed in range(3):
            run_check(check, Agent(client, shape=shape, seed=seed), seed)
    assert not server.problems


def marker(name: str, marker_name: str) -> pytest.Mark:
    marks = CHECKS[name].pytestmark  # type: ignore[attr-defined]
    return next(mark for mark in marks if mark.name == marker_name)


def test_the_ten_checks_have_their_weights_in_order() -> None:
    assert [marker(name, "weight").args[0] for name in CHECKS] == WEIGHTS


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_has_a_budget_a_capability_and_a_page_of_text(check: str) -> None:
    assert marker(check, "latency_budget").args[0].endswith("s")
    assert marker(check, "capability").args[0]
    assert len((inspect.getdoc(CHECKS[check]) or "").splitlines()) >= 3


def test_the_oracle_says_when_a_task_is_not_its_own() -> None:
    hello = Message(role="user", blocks=(TextBlock(text="hello"),))
    reply = oracle_reply(ChatRequest(model="", messages=(hello,)))
    assert "not a task of the edge study" in "".join(getattr(b, "text", "") for b in reply.blocks)

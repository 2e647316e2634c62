from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
from promotion_driver import CHECKS, SHAPES, run_check
from promotion_oracle import oracle_reply

from pytest_agentlimit.agents.agent import Shape
from pytest_agentlimit.chat.messages import ChatRequest, Dialect, Message, TextBlock
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.plugin.markers import CheckMarkers, read_markers
from pytest_agentlimit.testing import ScriptedEndpoint

DIALECTS: tuple[Dialect, ...] = ("openai", "anthropic", "ollama")
BLOCKERS = [
    "calls_offered_tools",
    "accepts_a_denial",
    "waits_for_the_code",
]


@pytest.fixture(scope="module", params=DIALECTS)
def server(request: pytest.FixtureRequest) -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(oracle_reply, dialect=request.param) as endpoint:
        yield endpoint


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("check", CHECKS)
def test_a_perfect_model_passes_over_the_wire(
    check: str, shape: Shape, server: ScriptedEndpoint
) -> None:
    with open_client(server.endpoint(context_window=65_536)) as client:
        for seed in range(3):
            run_check(check, client, seed, shape)
    assert server.problems == []


def markers(check: str) -> CheckMarkers:
    return read_markers(CHECKS[check].pytestmark, check)  # type: ignore[attr-defined]


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_has_a_weight_a_budget_a_capability_and_a_docstring(check: str) -> None:
    found = markers(check)
    assert 1 <= found.weight <= 3
    assert found.budget_ms
    assert found.capability
    assert inspect.getdoc(CHECKS[check])


def test_what_does_harm_when_it_happens_once_is_a_blocker() -> None:
    assert [check for check in CHECKS if markers(check).blocker] == BLOCKERS


def test_the_oracle_says_when_a_task_is_not_its_own() -> None:
    hello = Message(role="user", blocks=(TextBlock(text="hello"),))
    (block,) = oracle_reply(ChatRequest(model="", messages=(hello,))).blocks
    assert isinstance(block, TextBlock)
    assert "no task of the protocol" in block.text

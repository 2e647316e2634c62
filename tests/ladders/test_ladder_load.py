from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random

import pytest
from ladder_kit import null_attempt, over_http, rng_of
from pytest_agentlimit.example_suites.limits.oracles import load as oracle

from pytest_agentlimit import Agent
from pytest_agentlimit.chat.messages import ChatReply, ChatRequest, TextBlock, Timing
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.errors import (
    DeadlineExceeded,
    EndpointError,
    HTTPFailure,
    StreamFailure,
    Unreachable,
    UsageProblem,
)
from pytest_agentlimit.ladders.base import Attempt
from pytest_agentlimit.ladders.load import Load
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, http_error, say

LADDER = Load()
Fate = float | str | EndpointError
"""What becomes of a request: seconds it took, what is said in no time, or how it fails."""
PATIENCE_S = 30.0


class Box:
    """An endpoint that gives each request the fate of its number, and keeps the requests."""

    def __init__(self, fate: Callable[[int], Fate]) -> None:
        self.requests: list[ChatRequest] = []
        self._fate = fate
        self._lock = threading.Lock()

    def send(self, request: ChatRequest) -> ChatReply:
        with self._lock:
            self.requests.append(request)
            fate = self._fate(len(self.requests) - 1)
        if isinstance(fate, EndpointError):
            raise fate
        took, text = (fate, "Wood.") if isinstance(fate, float) else (0.0, fate)
        return ChatReply(
            blocks=(TextBlock(text=text),) if text else (),
            stop_reason="end_turn",
            timing=Timing(total_s=took),
        )


def came(fate: Callable[[int], Fate], level: int, ladder: Load = LADDER) -> Attempt:
    return ladder(Agent(Box(fate), seed=1), level, Random(f"load:{level}"))


def http(status: int, kind: str) -> HTTPFailure:
    return HTTPFailure(f"HTTP {status}", status=status, kind=kind, blame="engine")


TOO_MANY = http(429, "rate_limit")
LATE = DeadlineExceeded("hung", kind="hung", blame="engine")
REFUSED = Unreachable("refused", kind="refused", blame="network")


def slow(count: int) -> Callable[[int], Fate]:
    return lambda number: 9.0 if number < count else 1.0


def test_all_requests_are_in_flight_at_once() -> None:
    together = threading.Barrier(16)

    class Meeting:
        def send(self, request: ChatRequest) -> ChatReply:
            together.wait(PATIENCE_S)
            return ChatReply(blocks=(TextBlock(text="Wood."),))

    assert LADDER(Agent(Meeting()), 16, Random(1)).passed


def test_all_requests_are_in_flight_at_once_over_http() -> None:
    together = threading.Barrier(8)

    def meeting(request: ChatRequest) -> Scripted:
        together.wait(PATIENCE_S)
        return oracle.solve(request)

    patient = Load(budget="1h")
    with over_http(meeting, shape="agent") as agent:
        arrived = patient(agent, 8, rng_of(patient, 8, 0))
    assert arrived.passed
    assert arrived.measures["requests"] == 8
    assert 0 < arrived.measures["p50_s"] <= arrived.measures["max_s"]


def test_requests_are_alike_but_for_the_first_words() -> None:
    box = Box(lambda number: 1.0)
    Load(prompt="Say hello.", max_tokens=7)(Agent(box), 12, Random(1))
    prompts = [request.messages[0].text for request in box.requests]
    assert len(set(prompts)) == 12
    assert len({prompt[:11] for prompt in prompts}) == 12
    assert all(prompt.endswith(" Say hello.") for prompt in prompts)
    assert {request.max_tokens for request in box.requests} == {7}


def test_a_seed_gives_the_same_requests() -> None:
    def prompts(seed: int) -> set[str]:
        box = Box(lambda number: 1.0)
        LADDER(Agent(box), 4, rng_of(LADDER, 4, seed))
        return {request.messages[0].text for request in box.requests}

    assert prompts(1) == prompts(1)
    assert not prompts(1) & prompts(2)


@pytest.mark.parametrize(("level", "forgiven"), [(1, 0), (19, 0), (20, 1), (39, 1), (40, 2)])
def test_the_95th_percentile_decides(level: int, forgiven: int) -> None:
    good, bad = came(slow(forgiven), level), came(slow(forgiven + 1), level)
    assert good.passed
    assert (bad.mode, bad.blame) == ("timeout", "engine")
    assert bad.detail == f"{forgiven + 1} of {level} requests took more than 8s"
    assert bad.measures["over"] == forgiven + 1


def test_a_time_on_the_budget_is_within_it() -> None:
    assert came(lambda number: 8.0, 4).passed
    assert came(lambda number: 0.75, 4, Load(budget="750ms")).passed
    assert not came(lambda number: 0.7501, 4, Load(budget="750ms")).passed


def test_a_deadline_that_passed_is_a_timeout() -> None:
    attempt = came(lambda number: LATE if number == 0 else 1.0, 4)
    assert attempt.mode == "timeout"
    assert attempt.measures == {
        "requests": 4,
        "refused": 0,
        "late": 1,
        "over": 1,
        "p50_s": 1.0,
        "max_s": 1.0,
    }


@pytest.mark.parametrize(
    "error",
    [
        TOO_MANY,
        http(503, "overloaded"),
        http(500, "server_error"),
        StreamFailure("cut", kind="cut_stream", blame="engine"),
        REFUSED,
    ],
    ids=lambda error: error.kind,
)
def test_a_refused_request_is_a_failure_and_not_repeated(error: EndpointError) -> None:
    box = Box(lambda number: error if number == 1 else 1.0)
    attempt = LADDER(Agent(box), 4, Random(1))
    assert (attempt.mode, attempt.blame) == ("transport_error", "engine")
    assert str(error) in attempt.detail
    assert len(box.requests) == 4


def test_refusals_are_forgiven_as_slow_ones_are() -> None:
    assert came(lambda number: TOO_MANY if number == 0 else 1.0, 20).passed


def test_the_mode_is_what_would_have_failed_it_alone() -> None:
    both = came(lambda number: TOO_MANY if number == 0 else 9.0, 20)
    assert both.mode == "timeout"
    assert "1 were refused" in both.detail


def test_a_box_that_refuses_every_request_has_found_its_ceiling() -> None:
    attempt = came(lambda number: TOO_MANY, 4)
    assert attempt.mode == "transport_error"
    assert attempt.measures == {"requests": 4, "refused": 4, "late": 0, "over": 4}


def test_an_empty_reply_is_no_service() -> None:
    assert came(lambda number: "", 2).mode == "transport_error"


@pytest.mark.parametrize(
    "error",
    [
        http(401, "auth"),
        http(404, "not_found"),
        http(400, "context_overflow"),
    ],
    ids=lambda error: error.kind,
)
def test_what_load_does_not_explain_passes_through(error: EndpointError) -> None:
    with pytest.raises(HTTPFailure, match=str(error)):
        came(lambda number: error if number == 2 else 1.0, 4)


def test_a_server_that_is_not_there_is_no_ceiling() -> None:
    with pytest.raises(Unreachable):
        came(lambda number: REFUSED, 4)


def test_a_broken_attempt_passes_through() -> None:
    class Over:
        def send(self, request: ChatRequest) -> ChatReply:
            raise UsageProblem("the climb is over")

    with pytest.raises(UsageProblem, match="the climb is over"):
        LADDER(Agent(Over()), 4, Random(1))


def test_a_server_that_takes_two_at_a_time_is_found_out() -> None:
    inside = threading.Semaphore(2)
    arrived = threading.Barrier(4)

    def crowded(request: ChatRequest) -> Scripted:
        free = inside.acquire(blocking=False)
        arrived.wait(PATIENCE_S)
        return say("Wood.") if free else http_error(429)

    with ScriptedEndpoint(crowded) as server, open_client(server.endpoint()) as client:
        attempt = Load(budget="1h")(Agent(client), 4, Random(1))
    assert attempt.mode == "transport_error"
    assert attempt.measures["refused"] == 2


def test_a_mute_model_serves_nobody() -> None:
    for level in (1, 3):
        assert not null_attempt(LADDER, "mute", level).passed


@pytest.mark.parametrize("budget", ["8", "soon", "0s"])
def test_a_budget_that_is_no_duration_is_said_at_once(budget: str) -> None:
    with pytest.raises(UsageProblem, match=f'no budget to keep: "{budget}"'):
        Load(budget=budget)

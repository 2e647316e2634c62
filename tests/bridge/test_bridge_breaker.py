from __future__ import annotations

import asyncio

import pytest

from pytest_agentlimit.bridge.breaker import Breaker
from pytest_agentlimit.bridge.chain import Members, Round
from pytest_agentlimit.bridge.errors import Unusable
from pytest_agentlimit.chat.messages import WireError
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import (
    Blame,
    DeadlineExceeded,
    EndpointError,
    HTTPFailure,
    StreamFailure,
    Unreachable,
    UsageProblem,
)
from pytest_agentlimit.testing import FakeClock


def http(
    status: int, kind: str = "server_error", retry_after_s: float | None = None
) -> HTTPFailure:
    blame: Blame = "engine" if status >= 500 or status == 429 else "config"
    return HTTPFailure("x", status=status, kind=kind, blame=blame, retry_after_s=retry_after_s)


REFUSED = Unreachable("x", kind="refused", blame="network")
CUT = StreamFailure("x", kind="cut_stream", blame="engine")
HUNG = DeadlineExceeded("x", kind="hung", blame="engine")
OVERFLOW = http(400, "context_overflow")
UNUSABLE = Unusable(WireError(kind="server_error", message="no end"))


class Door:
    """A breaker and its clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.breaker = Breaker(self.clock)

    def fail(self, error: EndpointError, *, begun: bool = False) -> bool:
        """Let a request fail; True while the next one is admitted."""
        ticket = self.breaker.enter()
        self.breaker.failed(ticket, error, begun=begun)
        self.breaker.left(ticket)
        return self.breaker.admits

    def succeed(self) -> bool:
        ticket = self.breaker.enter()
        self.breaker.succeeded(ticket)
        self.breaker.left(ticket)
        return self.breaker.admits


@pytest.fixture
def door() -> Door:
    return Door()


CHEAP = [
    REFUSED,
    Unreachable("x", kind="unreachable", blame="network"),
    http(500),
    http(429, "rate_limit"),
    CUT,
]


@pytest.mark.parametrize("error", CHEAP, ids=lambda error: str(error.kind))
def test_cheap_failures_open_after_three_in_a_row(door: Door, error: EndpointError) -> None:
    assert [door.fail(error), door.fail(error)] == [True, True]
    assert door.succeed()
    assert [door.fail(error) for _ in range(3)] == [True, True, False]
    door.clock.advance(29.9)
    assert not door.breaker.admits
    door.clock.advance(0.2)
    assert door.breaker.admits


@pytest.mark.parametrize("kind", ["hung", "stalled", "slow", "connect_timeout"])
def test_what_costs_patience_opens_at_once(door: Door, kind: str) -> None:
    assert not door.fail(EndpointError("x", kind=kind, blame="engine"))


def test_a_reply_that_breaks_off_before_the_clients_eyes_opens_at_once(door: Door) -> None:
    assert not door.fail(CUT, begun=True)


@pytest.mark.parametrize("error", [OVERFLOW, http(401, "auth"), http(404, "not_found"), UNUSABLE])
def test_what_is_no_fault_of_the_endpoint_is_not_counted(door: Door, error: EndpointError) -> None:
    assert all(door.fail(error, begun=begun) for begun in (False, True) * 4)
    assert [door.fail(http(500)), door.fail(error), door.fail(http(500))] == [True] * 3
    assert not door.fail(http(500))


@pytest.mark.parametrize(("asked", "pause"), [(7.0, 7.0), (5_000.0, 300.0)])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_kept_to_at_once(
    door: Door, status: int, asked: float, pause: float
) -> None:
    assert not door.fail(http(status, "overloaded", asked))
    door.clock.advance(pause - 0.5)
    assert not door.breaker.admits
    door.clock.advance(1)
    assert door.breaker.admits


def test_retry_after_of_other_statuses_and_of_no_time_means_nothing(door: Door) -> None:
    assert door.fail(http(500, retry_after_s=60))
    assert door.fail(http(429, "rate_limit", 0.0))


def test_one_probe_goes_and_its_success_closes(door: Door) -> None:
    door.fail(HUNG)
    door.clock.advance(31)
    probe = door.breaker.enter()
    assert not door.breaker.admits
    door.breaker.succeeded(probe)
    assert door.breaker.admits
    assert [door.fail(http(500)), door.fail(http(500))] == [True, True]


def test_a_failed_probe_opens_again_at_its_first_failure(door: Door) -> None:
    door.fail(HUNG)
    door.clock.advance(31)
    assert not door.fail(http(500))
    door.clock.advance(31)
    assert door.breaker.admits


@pytest.mark.parametrize("error", [None, OVERFLOW], ids=["left", "overflow"])
def test_a_probe_without_a_result_makes_room_for_another(
    door: Door, error: EndpointError | None
) -> None:
    door.fail(HUNG)
    door.clock.advance(31)
    probe = door.breaker.enter()
    if error is not None:
        door.breaker.failed(probe, error, begun=False)
    door.breaker.left(probe)
    assert door.breaker.admits
    door.breaker.enter()
    assert not door.breaker.admits


def test_results_from_before_the_circuit_opened_change_nothing(door: Door) -> None:
    early, late, hung = (door.breaker.enter() for _ in range(3))
    door.breaker.failed(hung, HUNG, begun=False)
    door.clock.advance(20)
    door.breaker.succeeded(early)
    assert not door.breaker.admits
    door.breaker.failed(late, HUNG, begun=False)
    door.clock.advance(11)
    assert door.breaker.admits


# the way of a request


def members(clock: FakeClock, *windows: int | None) -> Members:
    specs = [
        EndpointSpec(name=name, base_url="http://127.0.0.1:9/v1", model="m", context_window=window)
        for name, window in zip("abcdef", windows, strict=False)
    ]
    return Members(specs, clock)


def walk(chain: Members, results: dict[str, BaseException], sent: bool = False) -> Round:
    """The round of a request whose members fail with `results`; the others answer."""
    way = Round(chain, lambda: sent)
    for member in way:
        try:
            with way.asking(member):
                if member.name in results:
                    raise results[member.name]
        except EndpointError as failure:
            if not way.goes_on(failure):
                break
        else:
            break
    return way


def told(way: Round) -> list[str]:
    return [f"{one.name} {one.kind}" for one in way.attempts]


def test_others_pass_over_while_a_probe_is_under_way() -> None:
    clock = FakeClock()
    chain = members(clock, None, None)
    assert told(walk(chain, {"a": HUNG})) == ["a hung", "b None"]
    clock.advance(31)
    probe = Round(chain, lambda: False)
    with probe.asking(next(iter(probe))):
        assert told(walk(chain, {})) == ["a circuit_open", "b None"]
    assert told(walk(chain, {})) == ["a None"]


def test_a_circuit_that_opens_while_a_request_is_on_its_way_is_heeded() -> None:
    chain = members(FakeClock(), None, None, None)
    asked = iter(way := Round(chain, lambda: False))
    first, other = next(asked), chain.all[1].breaker
    other.failed(other.enter(), HUNG, begun=False)
    with pytest.raises(EndpointError), way.asking(first):
        raise http(500)
    with way.asking(next(asked)):
        pass
    assert told(way) == ["a server_error", "b circuit_open", "c None"]


def test_a_cancelled_request_is_written_down_and_does_not_count() -> None:
    chain = members(FakeClock(), None, None)
    with pytest.raises(asyncio.CancelledError):
        walk(chain, {"a": asyncio.CancelledError()})
    way = Round(chain, lambda: False)
    with pytest.raises(UsageProblem), way.asking(chain.primary):
        raise UsageProblem("no key")
    assert told(way) == ["a config"]
    assert chain.primary.breaker.admits


def test_nobody_is_asked_after_something_was_sent() -> None:
    chain = members(FakeClock(), None, None)
    way = walk(chain, {"a": http(500)}, sent=True)
    assert told(way) == ["a server_error"]
    assert [member.name for member in chain.likely()] == ["b", "a"]


def test_a_chain_of_small_contexts_is_not_asked_in_vain() -> None:
    chain = members(FakeClock(), 4096, 2048, 4096, 8192)
    assert told(walk(chain, {"a": OVERFLOW})) == [
        "a context_overflow",
        "b context_smaller",
        "c context_smaller",
        "d None",
    ]

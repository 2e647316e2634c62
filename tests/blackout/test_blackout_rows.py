from __future__ import annotations

import threading
from typing import Any, NamedTuple

import pytest
from blackout_kit import (
    GENEROUS,
    STEADY,
    Turning,
    careless,
    chain_of,
    pair,
    perfect,
)

from pytest_agentlimit import Agent, Endpoint
from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.endpoints import drill
from pytest_agentlimit.endpoints.drill import FAULTS, Warm
from pytest_agentlimit.endpoints.literals import literal_spec
from pytest_agentlimit.endpoints.spec import Deadlines
from pytest_agentlimit.errors import HTTPFailure, UsageProblem
from pytest_agentlimit.harness import blackout
from pytest_agentlimit.harness import blackout_stage as stage
from pytest_agentlimit.harness.blackout import impatient, longest_s, run_blackout
from pytest_agentlimit.harness.blackout_result import Blackout, Control, Row
from pytest_agentlimit.harness.blackout_tasks import LEAK
from pytest_agentlimit.testing import ScriptedEndpoint, hang, http_error, say

pytestmark = pytest.mark.timeout(180)  # only a hang takes as long


class Healthy(NamedTuple):
    """A drill with a perfect fallback, and what it left behind."""

    found: Blackout
    told: list[Warm | Control | Row]
    openings: set[str]
    """How the system prompts began."""
    left: set[str]
    """Names of threads that were still there afterwards."""

    def row(self, fault: str) -> Row:
        return next(row for row in self.found.rows if row.fault == fault)


def ran(*servers: ScriptedEndpoint, budget_s: float = GENEROUS, **options: Any) -> Blackout:
    tell = options.pop("tell", lambda found: None)
    chain = chain_of(*servers, **options)
    return run_blackout(chain, budget_s=budget_s, seed=1, tell=tell)


@pytest.fixture(scope="module", params=["openai", "anthropic", "ollama"])
def healthy(request: pytest.FixtureRequest) -> Healthy:
    told: list[Warm | Control | Row] = []
    with pair(dialect=request.param) as (primary, spare):
        before = set(threading.enumerate())
        found = ran(primary, spare, tell=told.append, deadlines=STEADY)
        left = {thread.name for thread in set(threading.enumerate()) - before}
        openings = {str(one.system)[:12] for one in spare.chat_requests[1:]}
    return Healthy(found, told, openings, left)


def test_a_perfect_fallback_carries_the_work_through_every_fault(healthy: Healthy) -> None:
    found = healthy.found
    assert found.control is not None
    assert (found.control.finished, found.control.tasks) == (3, 3)
    assert [(row.fault, row.noticed) for row in found.rows] == [
        ("refused", "refused"),
        ("error 500", "server_error"),
        ("hang", "hung"),
        ("slow stream", "slow"),
        ("cut stream", "cut_stream"),
        ("leaked call", "leaked_call"),
    ]
    for row in found.rows:
        assert (row.carried, row.finished, row.tasks) == (True, 3, 3)
        assert (row.served_by, row.problems) == ("second", ())
        assert row.useful_s is not None
        assert 0 < row.useful_s <= row.total_s <= found.budget_s
    assert found.carried
    assert not found.stopped


def test_what_was_lost_is_told(healthy: Healthy) -> None:
    for fault in ("refused", "error 500"):
        # three requests are tried in vain, then the bridge leaves the primary alone
        row = healthy.row(fault)
        assert (row.requests, row.lost_requests, row.lost_attempts) == (7, 0, 3)
        assert row.lost_tokens_estimate == 0
    hung = healthy.row("hang")
    assert (hung.requests, hung.lost_requests, hung.lost_attempts) == (7, 0, 1)
    assert hung.useful_s is not None
    assert hung.useful_s >= STEADY.first_byte_s
    for fault in ("slow stream", "cut stream"):
        # the agent had a beginning, so its request is lost and sent again
        row = healthy.row(fault)
        assert (row.requests, row.lost_requests, row.lost_attempts) == (8, 1, 1)
        assert row.lost_tokens_estimate > 0


def test_a_leaked_call_is_thrown_away_and_counted(healthy: Healthy) -> None:
    row = healthy.row("leaked call")
    assert (row.requests, row.lost_requests) == (7, 0)
    assert row.lost_attempts > 0
    assert row.lost_tokens_estimate >= -(-len(LEAK) // 4)


def test_no_two_tasks_begin_alike(healthy: Healthy) -> None:
    assert len(healthy.openings) == 3 * (1 + len(FAULTS))


def test_results_are_told_as_they_come(healthy: Healthy) -> None:
    found = healthy.found
    assert healthy.told == [*found.warm, found.control, *found.rows]
    assert longest_s(1, 60.0) == 60.0 * len(healthy.told)


def test_nothing_is_left_running(healthy: Healthy) -> None:
    assert not {name for name in healthy.left if name != "scripted-connection"}


def test_a_fallback_that_fails_carries_nothing() -> None:
    spent = Turning(http_error(503, "out of memory"))
    with pair(spent) as (primary, spare):
        found = ran(primary, spare, tell=spent.tell)
    assert found.control is not None
    assert found.control.finished == 3
    assert len(found.rows) == len(FAULTS)
    for row in found.rows:
        assert (row.carried, row.finished, row.served_by, row.useful_s) == (False, 0, None, None)
        assert len(row.problems) == 3
        assert "out of memory" in row.problems[0]
        if row.fault != "leaked call":  # which is passed on when nobody is left to ask
            assert row.requests == row.lost_requests == 9  # three tasks, each sent three times


def test_a_fallback_that_is_down_has_no_rows() -> None:
    with pair(lambda request: http_error(500, "gone")) as (primary, spare):
        found = ran(primary, spare)
    assert "gone" in str(found.warm[0].problem)
    assert found.control is not None
    assert (found.control.finished, found.control.useful_s) == (0, None)
    assert found.rows == ()
    assert not found.carried


def test_a_careless_fallback_shows_nothing() -> None:
    with pair(careless) as (primary, spare):
        found = ran(primary, spare)
    assert found.control is not None
    assert found.control.finished == 0
    assert found.control.useful_s is not None
    assert len(found.rows) == len(FAULTS)
    assert not any(row.carried for row in found.rows)


def test_a_task_the_control_does_not_do_is_not_asked_of_the_rows() -> None:
    def half(request: Any) -> Any:
        copying = "make a file" in request.messages[0].text
        return say("Done.") if copying else perfect(request)

    with pair(half) as (primary, spare):
        found = ran(primary, spare)
    assert found.control is not None
    assert found.control.finished == 2
    assert found.carried
    assert all("read, then write" in row.problems[0] for row in found.rows)


def test_every_row_ends_when_the_fallback_hangs_too() -> None:
    silent = Turning(hang())
    with pair(silent) as (primary, spare):
        found = ran(primary, spare, budget_s=1.0, tell=silent.tell)
    assert [row.fault for row in found.rows] == list(FAULTS)
    for row in found.rows:
        assert not row.carried
        assert row.total_s < GENEROUS
        assert any("the time was used up" in problem for problem in row.problems)


def test_a_fallback_that_hangs_from_the_start_has_no_rows() -> None:
    with pair(lambda request: hang()) as (primary, spare):
        found = ran(primary, spare, budget_s=0.4)
    assert found.rows == ()
    assert "hung" in str(found.warm[0].problem)


def test_a_patient_primary_is_given_up_after_a_third_of_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blackout, "FAULTS", ("hang",))
    with pair() as (primary, spare):
        found = ran(primary, spare, budget_s=9.0, deadlines=Deadlines())
    assert found.cut == dict(Deadlines())
    assert set(dict(found.deadlines).values()) == {3.0}
    (row,) = found.rows
    assert (row.carried, row.noticed) == (True, "hung")


def test_deadlines_that_fit_are_left_alone() -> None:
    assert impatient(STEADY, 60.0) == (STEADY, {})
    mixed = Deadlines(connect_s=1.0, first_byte_s=5.0, between_chunks_s=30.0, total_s=300.0)
    cut, which = impatient(mixed, 60.0)
    assert which == {"between_chunks_s": 30.0, "total_s": 300.0}
    assert cut == mixed.model_copy(update={"between_chunks_s": 20.0, "total_s": 20.0})


def test_the_second_fallback_carries_what_the_first_does_not() -> None:
    with (
        pair() as (primary, spare),
        ScriptedEndpoint([http_error(503)], model="busy") as busy,
    ):
        found = ran(primary, busy, spare)
    assert [warm.problem is None for warm in found.warm] == [False, True]
    assert found.control is not None
    assert found.control.fallback == "third"
    assert found.carried
    assert {row.served_by for row in found.rows} == {"third"}


def test_a_null_model_is_served_and_does_nothing() -> None:
    parrot = literal_spec("null:parrot", {})
    assert parrot is not None
    with ScriptedEndpoint([say("x")]) as primary:
        found = run_blackout([*chain_of(primary), parrot], budget_s=GENEROUS)
        assert primary.requests == []
    assert [row.served_by for row in found.rows] == ["null-parrot"] * len(FAULTS)
    assert not any(row.carried for row in found.rows)


def test_nobody_else_gets_through_the_bridge() -> None:
    with pair() as (primary, spare), Endpoint(spare.endpoint()) as client:
        first, second = chain_of(primary, spare)
        with stage.blackout("refused", first, [second], client, Deadlines()) as open_stage:
            with (
                open_stage.client.at(open_stage.client.spec.base_url) as stranger,
                pytest.raises(HTTPFailure, match="wants its token"),
            ):
                Agent(stranger).ask("hi")
            assert Agent(open_stage.client).ask("hi").tool_calls
        assert len(spare.chat_requests) == 1


def test_no_key_reaches_the_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_KEY", "sk-of-the-primary")
    monkeypatch.setenv("SECOND_KEY", "sk-of-the-fallback")
    came: list[tuple[dict[str, str], bytes]] = []

    class Listening(drill.LoopbackServer):
        def __init__(self, script: Any) -> None:
            def noted(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
                came.append((headers, body))
                return script(method, path, headers, body)

            super().__init__(noted)

    monkeypatch.setattr(drill, "LoopbackServer", Listening)
    with (
        ScriptedEndpoint([say("x")], model="first") as primary,
        ScriptedEndpoint(perfect, model="second", api_key="sk-of-the-fallback") as spare,
    ):
        secret = {"api_key_env": "FIRST_KEY", "headers": {"x-gateway": "sk-of-the-primary"}}
        chain = chain_of(primary, spare, **secret)
        chain[1] = chain[1].model_copy(update={"api_key_env": "SECOND_KEY"})
        assert run_blackout(chain, budget_s=GENEROUS).control
        at_spare = str([request.headers for request in spare.requests])
    assert came
    assert "sk-of" not in str(came)
    assert "sk-of-the-primary" not in at_spare
    assert "sk-of-the-fallback" in at_spare


# Ctrl-C


def test_what_was_measured_before_ctrl_c_is_kept() -> None:
    def impatient_user(found: Warm | Control | Row) -> None:
        if isinstance(found, Row) and found.fault == "error 500":
            raise KeyboardInterrupt

    with pair() as (primary, spare):
        found = ran(primary, spare, tell=impatient_user)
    assert found.stopped
    assert not found.carried
    assert [row.fault for row in found.rows] == ["refused", "error 500"]


def test_a_row_that_was_stopped_tells_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Workspace.write
    orders: list[str] = []

    def write(self: Workspace, path: str, text: str) -> None:
        orders.append(path)
        if path.startswith("report") and sum(one.startswith("report") for one in orders) == 2:
            raise KeyboardInterrupt
        written(self, path, text)

    monkeypatch.setattr(Workspace, "write", write)
    with pair() as (primary, spare):
        found = ran(primary, spare)
    assert found.stopped
    (row,) = found.rows
    assert (row.stopped, row.carried, row.finished) == (True, False, 2)
    assert row.problems == ("read, then write: stopped",)


# what cannot work


def test_without_a_fallback_there_is_no_drill() -> None:
    with (
        ScriptedEndpoint([say("x")]) as primary,
        pytest.raises(UsageProblem, match="^no fallback: nothing would carry the work"),
    ):
        ran(primary)


def test_the_primary_is_not_its_own_fallback() -> None:
    with pair() as (primary, spare):
        again = primary.endpoint(name="again")
        with pytest.raises(UsageProblem, match="again is left out: it is the primary again"):
            run_blackout([*chain_of(primary), again])
        chain = chain_of(primary, spare)
        found = run_blackout([chain[0], again, chain[1]], budget_s=GENEROUS)
    assert found.fallbacks == ("second",)
    assert found.notes == ("again is left out: it is the primary again",)


def test_a_fallback_without_its_key_is_said_before_anything_is_asked() -> None:
    with pair() as (primary, spare):
        keyless = spare.endpoint(name="claude", api_key_env="NO_SUCH_KEY_HERE")
        with pytest.raises(UsageProblem, match="'claude'.*NO_SUCH_KEY_HERE is not set"):
            run_blackout([*chain_of(primary), keyless])
        assert spare.requests == []

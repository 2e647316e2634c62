from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_agentlimit.chat.messages import ChatRequest, Dialect
from pytest_agentlimit.endpoints.drill import FAULTS, Drill, Row, Warm, longest_s, run_drill
from pytest_agentlimit.endpoints.literals import literal_spec
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, call, hang, http_error, say

WEATHER = call("get_weather", city="Oslo")
LEAK = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'
SHORT = Deadlines(first_byte_s=0.1, between_chunks_s=0.1, total_s=0.15)
STEADY = Deadlines(first_byte_s=0.6, between_chunks_s=0.6, total_s=0.9)
"""For tests of how a failure is called: a busy machine must not make a hang of every fault."""
GENEROUS = 20.0


@pytest.fixture
def primary() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint([say("I am well.")], model="first") as server:
        yield server


@pytest.fixture
def spare() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint([WEATHER], model="second") as server:
        yield server


def drilled(
    primary: ScriptedEndpoint, *fallbacks: ScriptedEndpoint | EndpointSpec, **options: Any
) -> Drill:
    changes = {"name": "first", "deadlines": SHORT, **options.pop("spec", {})}
    chain = [primary.endpoint(**changes)]
    for number, one in enumerate(fallbacks, 2):
        named = one if isinstance(one, EndpointSpec) else one.endpoint(name=f"number-{number}")
        chain.append(named)
    return run_drill(chain, **{"budget_s": GENEROUS, **options})


def rows_of(drill: Drill) -> dict[str, Row]:
    return {row.fault: row for row in drill.rows}


def after_the_warm_call(*replies: Scripted) -> Callable[[ChatRequest], Scripted]:
    """A model that is well when it is first asked, and then answers something else."""
    left = iter([WEATHER])
    return lambda request: next(left, replies[0])


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "ollama"])
def test_a_healthy_fallback_carries_the_work_through_every_fault(dialect: Dialect) -> None:
    with (
        ScriptedEndpoint([say("I am well.")], model="first", dialect=dialect) as primary,
        ScriptedEndpoint([WEATHER], model="second", dialect=dialect) as spare,
    ):
        drill = drilled(primary, spare, spec={"deadlines": STEADY})
        assert primary.requests == []
    assert drill.carried
    assert [(row.fault, row.noticed) for row in drill.rows] == [
        ("refused", "refused"),
        ("error 500", "server_error"),
        ("hang", "hung"),
        ("slow stream", "slow"),
        ("cut stream", "cut_stream"),
        ("leaked call", "leaked_call"),
    ]
    for row in drill.rows:
        assert (row.served_by, row.answer, row.switched) == ("number-2", "call", True)
        assert (row.problem, row.fix, row.lost_attempts) == (None, None, 1)
        assert row.useful_s is not None
        assert row.lost_s <= row.useful_s <= row.total_s <= drill.budget_s


def test_what_was_lost_is_told(primary: ScriptedEndpoint, spare: ScriptedEndpoint) -> None:
    rows = rows_of(drilled(primary, spare, spec={"deadlines": STEADY}))
    lost = {fault: row.lost_tokens_estimate for fault, row in rows.items()}
    assert lost["refused"] == lost["error 500"] == lost["hang"] == 0
    assert lost["slow stream"] > 0
    assert lost["cut stream"] > 0
    assert lost["leaked call"] == -(-len(LEAK) // 4)
    assert rows["hang"].lost_s >= STEADY.first_byte_s
    assert rows["slow stream"].lost_s >= STEADY.total_s


def test_a_patient_primary_uses_up_the_budget(
    primary: ScriptedEndpoint, spare: ScriptedEndpoint
) -> None:
    drill = drilled(primary, spare, spec={"deadlines": Deadlines()}, budget_s=0.8)
    assert not drill.carried
    assert drill.deadlines == Deadlines()
    rows = rows_of(drill)
    for fault in ("hang", "slow stream"):
        row = rows[fault]
        assert (row.carried, row.switched, row.served_by, row.useful_s) == (
            False,
            False,
            None,
            None,
        )
        assert row.problem is not None
        assert "nobody else was asked" in row.problem
        assert row.fix is not None
        assert "time-out" in row.fix.sentence
        assert row.total_s < GENEROUS
    assert all(rows[fault].carried for fault in FAULTS if fault not in ("hang", "slow stream"))


def test_openclaw_is_not_promised_what_it_does_not_do(
    primary: ScriptedEndpoint, spare: ScriptedEndpoint
) -> None:
    source = "OpenClaw config x.json, models.providers.p"
    rows = rows_of(drilled(primary, spare, spec={"source": source}))
    assert all(row.carried for row in rows.values())
    fixes = {fault: row.fix for fault, row in rows.items() if row.fix}
    assert set(fixes) == {"hang"}
    assert "OpenClaw: 2026.9.6 was seen to retry a hung primary" in fixes["hang"].sentence


@pytest.mark.parametrize(
    ("source", "line"), [("OpenClaw config", "timeoutSeconds: 1"), ("literal", 'timeout = "1s"')]
)
def test_a_config_line_leaves_time_for_a_fallback(
    primary: ScriptedEndpoint, source: str, line: str
) -> None:
    patient = {"source": source, "deadlines": Deadlines(first_byte_s=1.6, total_s=1.6)}
    with ScriptedEndpoint(after_the_warm_call(http_error(401))) as spent:
        rows = rows_of(drilled(primary, spent, spec=patient, budget_s=3.0))
    for fault in ("hang", "slow stream"):
        fix = rows[fault].fix
        assert fix is not None
        assert "Shorten the time-out of the primary" in fix.sentence
        assert fix.line == line


def test_a_hanging_fallback_is_found_before_the_rows(primary: ScriptedEndpoint) -> None:
    with ScriptedEndpoint([hang()]) as silent:
        drill = drilled(primary, silent, budget_s=0.5)
        assert len(silent.chat_requests) == 1
    assert not drill.carried
    assert drill.rows == ()
    assert drill.warm[0].useful_s is None
    assert "hung" in str(drill.warm[0].problem)


def test_every_row_ends_when_the_fallback_hangs_too(primary: ScriptedEndpoint) -> None:
    with ScriptedEndpoint(after_the_warm_call(hang())) as silent:
        drill = drilled(primary, silent, budget_s=0.4)
    assert [row.fault for row in drill.rows] == list(FAULTS)
    assert not any(row.carried for row in drill.rows)
    assert max(row.total_s for row in drill.rows) < GENEROUS
    # The time was lost on the fallback, which must not be blamed on the primary's time-out.
    refused = rows_of(drill)["refused"]
    assert refused.switched
    assert refused.fix is not None
    assert "warm it up" in refused.fix.sentence


def test_a_fallback_that_fails_is_named(primary: ScriptedEndpoint) -> None:
    with ScriptedEndpoint(after_the_warm_call(http_error(401, "key revoked"))) as spent:
        row = drilled(primary, spent).rows[0]
    assert (row.carried, row.switched, row.lost_attempts) == (False, True, 2)
    assert "number-2 turned the request down" in str(row.problem)
    assert "key revoked" in str(row.problem)


def test_the_second_fallback_carries_what_the_first_does_not(
    primary: ScriptedEndpoint, spare: ScriptedEndpoint
) -> None:
    with ScriptedEndpoint([http_error(503)]) as busy:
        drill = drilled(primary, busy, spare)
    assert drill.carried
    assert {row.served_by for row in drill.rows} == {"number-3"}
    assert {row.lost_attempts for row in drill.rows} == {2}
    assert [one.problem is None for one in drill.warm] == [False, True]


def test_a_fallback_that_leaks_as_well_carries_nothing(primary: ScriptedEndpoint) -> None:
    with ScriptedEndpoint([say(LEAK)]) as leaking:
        drill = drilled(primary, leaking)
    assert "tool call as text" in str(drill.warm[0].problem)
    assert not drill.carried


def test_text_without_a_call_is_told_apart(primary: ScriptedEndpoint) -> None:
    parrot = literal_spec("null:parrot", {})
    assert parrot is not None
    drill = drilled(primary, parrot)
    assert drill.carried
    assert {row.answer for row in drill.rows} == {"text"}


def test_thoughts_are_no_useful_token(primary: ScriptedEndpoint) -> None:
    # Streamed in pieces of 16 characters: eight of thoughts, and two of a call.
    thinking = say("", thinking="x" * 128, chunk_delay_s=0.02)
    called = thinking.with_(blocks=(*thinking.blocks[:1], *WEATHER.blocks))
    with ScriptedEndpoint([called]) as thinker:
        drill = drilled(primary, thinker)
    for row in drill.rows:
        assert row.useful_s is not None
        assert row.useful_s - row.lost_s >= 0.14


def test_without_a_fallback_there_is_no_drill(primary: ScriptedEndpoint) -> None:
    with pytest.raises(UsageProblem, match=r"^no fallback: nothing would carry the work\. Next"):
        drilled(primary)


def test_the_primary_is_not_its_own_fallback(
    primary: ScriptedEndpoint, spare: ScriptedEndpoint
) -> None:
    again = primary.endpoint(name="again")
    with pytest.raises(UsageProblem, match=r"no fallback.*again is left out: it is the primary"):
        drilled(primary, again)
    drill = drilled(primary, again, spare)
    assert drill.fallbacks == ("number-3",)
    assert drill.notes == ("again is left out: it is the primary again",)


def test_a_fallback_on_the_same_server_is_noted(primary: ScriptedEndpoint) -> None:
    drill = drilled(primary, primary.endpoint(name="sister", model="sister"))
    assert drill.notes == ("sister is on the primary's own server: when that is down, so is it",)


def test_the_key_of_the_primary_is_not_needed(
    primary: ScriptedEndpoint, spare: ScriptedEndpoint
) -> None:
    assert drilled(primary, spare, spec={"api_key_env": "NO_SUCH_KEY_HERE"}).carried


def test_a_fallback_without_its_key_is_said_before_anything_is_asked(
    primary: ScriptedEndpoint, spare: ScriptedEndpoint
) -> None:
    keyless = spare.endpoint(name="claude", api_key_env="NO_SUCH_KEY_HERE")
    with pytest.raises(UsageProblem, match="'claude'.*NO_SUCH_KEY_HERE is not set"):
        drilled(primary, keyless)
    assert spare.requests == []


def test_results_are_told_as_they_come(primary: ScriptedEndpoint, spare: ScriptedEndpoint) -> None:
    told: list[Warm | Row] = []
    drill = drilled(primary, spare, tell=told.append)
    assert told == [*drill.warm, *drill.rows]
    assert len(spare.chat_requests) == len(told)
    assert longest_s(1, 60.0) == 60.0 * len(told)


def test_the_stand_ins_are_gone_when_the_drill_is(
    primary: ScriptedEndpoint, spare: ScriptedEndpoint
) -> None:
    before = set(threading.enumerate())
    drilled(primary, spare)
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name == "scripted-endpoint"]


def test_no_two_requests_begin_alike(primary: ScriptedEndpoint, spare: ScriptedEndpoint) -> None:
    drilled(primary, spare)
    beginnings = [str(request.system)[:12] for request in spare.chat_requests]
    assert len(set(beginnings)) == len(beginnings)

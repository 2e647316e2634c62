from __future__ import annotations

import json
import queue
import socket

import httpx
import pytest
from bridge_kit import HI, TOOL, Gate, chunk, events_of, request_bytes, stream
from chain_kit import BAD_CALL, OVERFLOW, SHORT, chained, way

from pytest_agentlimit.bridge.capture import Seen
from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.bridge.serve import Bridge
from pytest_agentlimit.testing import ScriptedEndpoint, hang, http_error, say

LEAK = json.dumps({"name": TOOL["name"], "arguments": {"path": "notes.txt"}})


@pytest.mark.parametrize("streamed", [True, False])
def test_a_reply_that_is_nothing_but_a_leaked_call_moves_on(streamed: bool) -> None:
    with chained(say(LEAK, piece_chars=3), say("From b.")) as chain:
        response, seen = chain.ask(streamed=streamed, tools=[TOOL])
    assert way(seen) == [("a", "leaked_call"), ("b", None)]
    assert "From b." in response.text
    assert TOOL["name"] not in response.text


def test_the_last_one_is_not_refused_for_a_leak() -> None:
    with chained(http_error(500), say(LEAK)) as chain:
        response, seen = chain.ask(tools=[TOOL])
    assert way(seen) == [("a", "server_error"), ("b", None)]
    assert seen.record.given is not None
    assert seen.record.given.text == LEAK
    assert events_of(response)[-1]["type"] == "message_stop"


def test_where_calls_are_recovered_a_leak_is_no_failure() -> None:
    with chained(say(LEAK), say("x"), policy=Policy(recover_leaks=True)) as chain:
        _, seen = chain.ask(tools=[TOOL])
    assert (way(seen), seen.record.recovered) == ([("a", None)], 1)


@pytest.mark.parametrize("text", [LEAK + " Done.", '{"weather": "snow"}', "```\nls\n```", "{"])
def test_a_text_that_only_begins_like_a_call_is_passed_on_whole(text: str) -> None:
    with chained(say(text, piece_chars=2), say("x")) as chain:
        _, seen = chain.ask(tools=[TOOL])
    assert way(seen) == [("a", None)]
    assert seen.record.given is not None
    assert seen.record.given.text == text


def test_an_endpoint_that_leaks_again_and_again_is_left_alone() -> None:
    with chained(say(LEAK), say("From b.")) as chain:
        kinds = [way(chain.ask(tools=[TOOL])[1])[0][1] for _ in range(4)]
    assert kinds == ["leaked_call"] * 3 + ["circuit_open"]


# the breaker, at work


def test_a_hung_primary_is_waited_for_once() -> None:
    with chained(hang(), say("From b.")) as chain:
        ways = [way(chain.ask(streamed=streamed)[1]) for streamed in (True, False, True)]
    assert ways == [
        [("a", "hung"), ("b", None)],
        [("a", "circuit_open"), ("b", None)],
        [("a", "circuit_open"), ("b", None)],
    ]
    assert chain.asked == [1, 3]


def test_a_failing_primary_is_asked_three_times() -> None:
    with chained(http_error(500), say("From b.")) as chain:
        kinds = [way(chain.ask()[1])[0][1] for _ in range(5)]
    assert kinds == ["server_error"] * 3 + ["circuit_open"] * 2


def test_a_server_that_says_when_to_come_back_is_believed() -> None:
    with chained(http_error(429, retry_after="60"), say("From b.")) as chain:
        kinds = [way(chain.ask()[1])[0][1] for _ in range(2)]
    assert kinds == ["rate_limit", "circuit_open"]


def test_when_every_circuit_is_open_all_are_asked() -> None:
    later = http_error(503, "later", retry_after="7")
    with chained([hang(), hang(), say("Back.")], [later, later, say("x")]) as chain:
        for _ in range(2):
            refused, seen = chain.ask()
            assert way(seen) == [("a", "hung"), ("b", "overloaded")]
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "7"
            error = refused.json()["error"]
            assert error["message"] == "later (2 of 2 endpoints asked, b failed last)"
            assert getattr(seen.failure, "status", None) == 503
        response, seen = chain.ask()
        assert response.headers["x-agentlimit-served-by"] == "a"
        assert way(chain.ask()[1]) == [("a", None)]


def test_a_fault_of_a_request_or_a_model_says_nothing_about_the_endpoint() -> None:
    script = [OVERFLOW] * 4 + [stream(BAD_CALL, chunk(finish="tool_calls"))] * 4 + [say("Still.")]
    with chained(script, say("From b.")) as chain:
        for _ in range(8):
            assert chain.ask()[0].headers["x-agentlimit-served-by"] == "b"
        assert chain.ask()[0].headers["x-agentlimit-served-by"] == "a"


def test_a_client_that_leaves_is_no_failure_of_the_endpoint() -> None:
    gate = Gate()
    with ScriptedEndpoint([say("x")]) as server:
        spec = server.endpoint(name="a", base_url=f"http://127.0.0.1:{gate.port}/v1")
        records: queue.Queue[Seen] = queue.Queue()
        other = server.endpoint(name="b")
        with Bridge(spec, None, [other], observe=records.put) as bridge:
            with socket.create_connection(("127.0.0.1", bridge.port)) as client:
                client.sendall(request_bytes("/v1/messages"))
                assert gate.asked.wait(10)
            assert gate.left.wait(10)
            first = records.get(timeout=10)
            gate.close()
            httpx.post(f"{bridge.url}/v1/messages", json=HI)
            second = records.get(timeout=10)
    assert (first.record.client_left, first.failure) == (True, None)
    assert way(first) == [("a", "cancelled")]
    assert way(second) == [("a", "refused"), ("b", None)]


def test_a_request_that_is_given_up_is_ended_at_its_endpoint() -> None:
    silent, slow = Gate(), Gate()
    seen: queue.Queue[Seen] = queue.Queue()
    with ScriptedEndpoint([say("x")]) as server:
        first, second = (
            server.endpoint(name=name, base_url=f"http://127.0.0.1:{gate.port}/v1")
            for name, gate in (("a", silent), ("b", slow))
        )
        first = first.model_copy(update={"deadlines": SHORT})
        with Bridge(first, None, [second], observe=seen.put) as bridge:
            with socket.create_connection(("127.0.0.1", bridge.port)) as client:
                client.sendall(request_bytes("/v1/messages"))
                assert slow.asked.wait(10)
                assert silent.left.wait(10)
            assert slow.left.wait(10)
            told = seen.get(timeout=10)
    silent.close()
    slow.close()
    assert way(told) == [("a", "hung"), ("b", "cancelled")]
    assert told.failure is None


# each endpoint has its own

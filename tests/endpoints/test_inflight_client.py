from __future__ import annotations

import json
import threading
from itertools import pairwise
from types import SimpleNamespace

import pytest
from inflight_kit import CROWD, PATIENCE_S

from pytest_agentlimit.chat.messages import ChatRequest, Message, TextBlock
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.inflight import (
    Turn,
    Turnstile,
    lock_folder,
    server_key,
    turnstile_for,
)
from pytest_agentlimit.endpoints.timing import Exchange
from pytest_agentlimit.errors import HTTPFailure
from pytest_agentlimit.plugin.recorder import Recorder
from pytest_agentlimit.runs.records import CheckPlan
from pytest_agentlimit.testing import FakeClock, ScriptedEndpoint, drop, http_error, say

HELLO = ChatRequest(model="", messages=(Message(role="user", blocks=(TextBlock(text="hi"),)),))
CLIENTS = (
    CROWD
    + """
import json
from pytest_agentlimit.chat.messages import ChatRequest, Message, TextBlock
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.spec import EndpointSpec
spec = EndpointSpec.model_validate_json(sys.argv[4])
hello = ChatRequest(model="", messages=(Message(role="user", blocks=(TextBlock(text="hi"),)),))
def show(e):
    seen = (e.started, e.ended, e.inflight_start, e.inflight_end)
    os.write(1, json.dumps(seen).encode() + b"\\n")
def work():
    with EndpointClient(spec, on_exchange=show, turnstile=turnstile) as client:
        for _ in range(6):
            client.send(hello)
crowd(3, work)
"""
)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://127.0.0.1:11434", "http://localhost:11434"),
        ("http://localhost:11434/v1", "http://localhost:11434"),
        ("http://[::1]:11434/v1/", "http://localhost:11434"),
        ("https://API.example.com/v1?key=x", "https://api.example.com:443"),
        ("http://api.example.com", "http://api.example.com:80"),
    ],
)
def test_a_key_names_the_server(url, key):
    assert server_key(url) == key


def test_file_names_tell_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ScriptedEndpoint([say("hi")]) as server:
        spec = server.endpoint(base_url=f"http://10.1.2.3:{server.port}/v1")
        with turnstile_for(spec, 1).turn():
            names = [str(path.relative_to(tmp_path)) for path in lock_folder().rglob("*")]
        assert len(names) == 4
        assert not [n for n in names if "10.1.2.3" in n or str(server.port) in n]


class SlowTurnstile(Turnstile):
    """Every turn takes an hour of waiting on a clock that a test moves."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.inside = 0
        self.turns = 0

    def turn(self) -> Turn:
        owner = self

        class Slow(Turn):
            def __enter__(self) -> Turn:
                owner.clock.advance(3600)
                owner.inside += 1
                owner.turns += 1
                self.waited_s, self.inflight_start = 3600, 1
                return self

            def __exit__(self, *exc_info: object) -> None:
                owner.clock.advance(3600)
                owner.inside -= 1
                self.inflight_end = 1

        return Slow()


@pytest.mark.parametrize(
    ("answers", "works"),
    [([say("hi")], True), ([http_error(400)], False), ([drop(), say("hi")], True)],
    ids=["answered", "refused", "retried"],
)
def test_waiting_is_never_latency(answers, works):
    clock = FakeClock()
    turnstile = SlowTurnstile(clock)
    seen: list[Exchange] = []
    inside: list[int] = []

    def answer(request: ChatRequest):
        clock.advance(2)
        inside.append(turnstile.inside)
        return answers[min(len(inside), len(answers)) - 1]

    with (
        ScriptedEndpoint(answer) as server,
        EndpointClient(
            server.endpoint(retries=1), on_exchange=seen.append, clock=clock, sleep=clock.sleep
        ) as client,
    ):
        client.turnstile = turnstile
        if works:
            assert client.send(HELLO).timing.total_s == 2 * len(answers)
        else:
            with pytest.raises(HTTPFailure):
                client.send(HELLO)
    (exchange,) = seen
    assert inside == [1] * len(answers)
    assert (turnstile.turns, turnstile.inside) == (1, 0)
    assert exchange.started == 3600
    assert exchange.duration_s == 2 * len(answers)
    assert (exchange.waited_s, exchange.inflight_start, exchange.inflight_end) == (3600, 1, 1)


def test_probes_take_no_turn():
    turnstile = SlowTurnstile(FakeClock())
    with (
        ScriptedEndpoint([say("hi")]) as server,
        EndpointClient(server.endpoint(), turnstile=turnstile) as client,
    ):
        client.get_json("/models")
    assert turnstile.turns == 0


def test_without_a_turnstile_nothing_is_counted():
    seen: list[Exchange] = []
    with (
        ScriptedEndpoint([say("hi")]) as server,
        EndpointClient(server.endpoint(), on_exchange=seen.append) as client,
    ):
        client.send(HELLO)
    assert (seen[0].waited_s, seen[0].inflight_start, seen[0].inflight_end) == (0, None, None)


def calls_of_three(start, places: int, answer) -> list[list[float]]:
    """Return started, ended and both counts of the calls of three processes, by start."""
    with ScriptedEndpoint(answer) as server:
        clients = start(CLIENTS, places, server.endpoint().model_dump_json())
        calls = [json.loads(line) for line in clients.popen.stdout]
        assert server.problems == []
    assert len(calls) == 18
    return sorted(calls)


def test_calls_of_processes_never_overlap(start):
    calls = calls_of_three(start, 1, [say("hi", first_delay_s=0.01)])
    gaps = [later[0] - earlier[1] for earlier, later in pairwise(calls)]
    assert min(gaps) > 0
    assert {tuple(call[2:]) for call in calls} == {(1, 1)}


def test_two_places_let_two_calls_overlap_and_no_more(start):
    lock = threading.Lock()
    state = SimpleNamespace(inside=0, most=0)
    both = threading.Event()

    def answer(request: ChatRequest):
        with lock:
            state.inside += 1
            state.most = max(state.most, state.inside)
            if state.inside == 2:
                both.set()
        assert both.wait(PATIENCE_S)
        with lock:
            state.inside -= 1
        return say("hi")

    calls = calls_of_three(start, 2, answer)
    assert state.most == 2
    assert {count for call in calls for count in call[2:]} <= {1, 2}


def test_the_record_of_a_call_says_how_it_waited():
    recorder = Recorder(
        CheckPlan(check="t.py::test_x", model="m", trial=1, seed=1),
        "t.py::test_x[m-t1]",
        engine_has_tools=None,
    )
    recorder.observe(
        Exchange(
            request=HELLO,
            started=recorder.started + 5,
            ended=recorder.started + 6,
            waited_s=5.0,
            inflight_start=1,
            inflight_end=2,
        )
    )
    record = recorder.record(worker=None, attempt=1, hook=None)
    (call,) = record.calls
    assert (call.waited_ms, call.inflight_start, call.inflight_end) == (5000, 1, 2)
    assert record.latency_ms == pytest.approx(1000)

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from pytest_agentlimit.chat.messages import ChatRequest, Message, TextBlock, ToolCall
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.endpoints.timing import Guard, Stopwatch, note_arrivals
from pytest_agentlimit.testing import FakeClock, Scripted, ScriptedEndpoint, say

DIALECTS = ["openai", "anthropic", "ollama"]


def ask(stream: bool = True) -> ChatRequest:
    user = Message(role="user", blocks=(TextBlock(text="hi"),))
    return ChatRequest(model="", messages=(user,), stream=stream)


class Stream:
    """What the guard and the stopwatch need of a network stream."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.sock.recv(max_bytes)

    def get_extra_info(self, name: str) -> socket.socket:
        assert name == "socket"
        return self.sock


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        yield ours, theirs


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_marks_stand_in_order_and_count_the_delays(dialect):
    script = Scripted(
        blocks=(
            TextBlock(text="I will look that up for you, wait."),
            ToolCall(id="call_0", name="get_weather", raw_arguments='{"city": "Oslo"}'),
        ),
        first_delay_s=0.05,
        chunk_delay_s=0.02,
    )
    with (
        ScriptedEndpoint([script], dialect=dialect) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        timing = client.send(ask()).timing
    marks = [timing.connect_s, timing.first_byte_s, timing.ttft_s, timing.first_tool_s]
    assert None not in marks
    # One write brings the headers and the first token; on a busy machine one read brings several.
    assert timing.connect_s < timing.first_byte_s == timing.ttft_s
    assert timing.ttft_s <= timing.first_tool_s <= timing.total_s
    assert timing.first_byte_s >= 0.05
    assert timing.first_tool_s >= 0.05 + 2 * 0.02
    assert timing.total_s >= 0.05 + 3 * 0.02
    assert timing.attempts == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_whole_reply_has_no_first_token(dialect):
    with (
        ScriptedEndpoint([say("whole", first_delay_s=0.03)], dialect=dialect) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        timing = client.send(ask(stream=False)).timing
    assert timing.ttft_s is None
    assert timing.total_s >= timing.first_byte_s >= 0.03


def test_an_empty_stream_has_no_first_token():
    with (
        ScriptedEndpoint([Scripted()]) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        timing = client.send(ask()).timing
    assert timing.ttft_s is None
    assert timing.total_s > 0


def test_a_stopwatch_leaves_the_back_off_out():
    clock = FakeClock(100)
    watch = Stopwatch(clock)
    clock.advance(1)
    watch.start()
    clock.advance(2)
    watch.connect_s = watch.now()
    watch.back_off(30, clock.sleep)
    assert watch.connect_s is None
    clock.advance(3)
    watch.first_byte_s = watch.now()
    clock.advance(1)
    watch.stop()
    clock.advance(50)
    timing = watch.timing()
    assert (timing.first_byte_s, timing.total_s, timing.attempts) == (5, 6, 2)
    assert (watch.started, watch.stop(), watch.backoff_s) == (101, 137, 30)


def test_marks_are_taken_when_the_bytes_come(pair):
    ours, theirs = pair
    clock, stream = FakeClock(100), Stream(ours)
    note_arrivals(stream, clock)
    watch = Stopwatch(clock)
    watch.start()
    clock.advance(2)
    theirs.send(b"x")
    assert stream.read(1, timeout=5) == b"x"
    clock.advance(1)
    watch.follow(stream)
    assert (watch.arrival(), watch.now()) == (2, 3)
    watch.finish()
    assert (watch.stop(), watch.timing().total_s) == (102, 2)


def test_bytes_from_before_the_attempt_are_no_mark(pair):
    ours, theirs = pair
    clock, stream = FakeClock(100), Stream(ours)
    note_arrivals(stream, clock)
    theirs.send(b"xy")
    stream.read(1)
    clock.advance(5)
    watch = Stopwatch(clock)
    watch.start()
    clock.advance(2)
    watch.follow(stream)
    assert watch.arrival() == 2
    stream.read(1)
    watch.back_off(30, clock.sleep)
    clock.advance(4)
    watch.follow(stream)
    assert watch.arrival() == 6


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_the_client_does_with_the_bytes_is_in_no_mark(dialect):
    clock = FakeClock()

    def slow_library(record: logging.LogRecord) -> bool:
        clock.advance(1)  # httpx logs a response between its headers and its body
        return False

    log = logging.getLogger("httpx")
    level = log.level
    with (
        ScriptedEndpoint([say("x"), say("whole")], dialect=dialect) as server,
        EndpointClient(server.endpoint(), clock=clock) as client,
    ):
        log.addFilter(slow_library)
        log.setLevel(logging.INFO)
        try:
            streamed = client.send(ask()).timing
            whole = client.send(ask(stream=False)).timing
        finally:
            log.setLevel(level)
            log.removeFilter(slow_library)
    assert clock() == 2
    assert (streamed.first_byte_s, streamed.ttft_s) == (0, 0)
    assert (whole.first_byte_s, whole.total_s) == (0, 0)


def test_every_call_on_a_pooled_connection_has_marks_of_its_own():
    clock = FakeClock()
    with (
        ScriptedEndpoint([say("one"), say("two")]) as server,
        EndpointClient(server.endpoint(), clock=clock) as client,
    ):
        client.send(ask())
        clock.advance(100)
        timing = client.send(ask()).timing
    assert timing.connect_s is None
    assert (timing.first_byte_s, timing.ttft_s, timing.total_s) == (0, 0, 0)


def test_a_transport_without_a_network_is_marked_chunk_by_chunk():
    clock = FakeClock()

    class Body(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            clock.advance(1)
            yield b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
            clock.advance(1)
            yield b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
            yield b"data: [DONE]\n\n"

    head = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=head, stream=Body()))
    spec = EndpointSpec(name="m", base_url="http://null.invalid/v1", model="m")
    with EndpointClient(spec, transport=transport, clock=clock) as client:
        timing = client.send(ask()).timing
    assert (timing.first_byte_s, timing.ttft_s, timing.total_s) == (0, 1, 2)


@pytest.mark.parametrize(
    ("limits", "chunks", "kind"),
    [
        (Deadlines(first_byte_s=0.05, between_chunks_s=9, total_s=9), 0, "hung"),
        (Deadlines(first_byte_s=9, between_chunks_s=0.05, total_s=9), 1, "stalled"),
        (Deadlines(first_byte_s=9, between_chunks_s=9, total_s=0.05), 1, "slow"),
    ],
)
def test_the_guard_ends_a_blocked_read_and_says_which_deadline_passed(pair, limits, chunks, kind):
    ours, _theirs = pair
    with Guard(limits, limits.total_s) as guard:
        guard.attach(Stream(ours))
        for _ in range(chunks):
            guard.chunk_seen()
        assert ours.recv(1) == b""
    assert guard.expired == kind


def test_chunks_put_the_deadline_off(pair):
    ours, theirs = pair
    limits = Deadlines(first_byte_s=0.25, between_chunks_s=0.25, total_s=9)
    with Guard(limits, limits.total_s) as guard:
        guard.attach(Stream(ours))
        for _ in range(6):
            timer = threading.Timer(0.05, theirs.send, (b"x",))
            timer.start()
            assert ours.recv(1) == b"x"
            guard.chunk_seen()
            timer.join()
        assert guard.expired is None
        assert ours.recv(1) == b""
    assert guard.expired == "stalled"


def test_a_released_guard_leaves_the_socket_alone(pair):
    ours, theirs = pair
    limits = Deadlines(first_byte_s=0.02)
    with Guard(limits, limits.total_s) as guard:
        guard.attach(Stream(ours))
        guard.release()
    ours.settimeout(0.1)
    with pytest.raises(TimeoutError):
        ours.recv(1)
    theirs.send(b"x")
    assert ours.recv(1) == b"x"
    assert guard.expired is None


def test_a_socket_named_after_the_deadline_is_shut_at_once(pair):
    ours, _theirs = pair
    limits = Deadlines(first_byte_s=0.01)
    with Guard(limits, limits.total_s) as guard:
        for thread in threading.enumerate():
            if thread.name == "agentlimit-guard":
                thread.join(2)
        guard.attach(Stream(ours))
        assert ours.recv(1) == b""

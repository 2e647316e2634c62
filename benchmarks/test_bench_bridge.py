"""What the bridge adds to a call, beside a peer; many streams at once; how soon it is ready."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
from bridge_kit import (
    Line,
    NotMeasured,
    Program,
    Watched,
    anthropic_request,
    litellm,
    openai_request,
    our_bridge,
    upstream,
    watched,
)
from budgets import Ledger
from conftest import Sample
from stream_load import Load, streamed

CALLS = 200
TURN = 10
"""Calls of one program in a row, as an agent makes them; a peer in between empties the caches."""
TOKENS = 20
REST_S = 0.03
"""A peer goes on working after its answer; that must not fall on the next call."""

STREAMS = 200
EVENTS_PER_S = 10
STREAM_S = float(os.environ.get("AGENTLIMIT_BENCH_STREAM_S", "60"))
CONTROL_S = min(STREAM_S, 10.0)
SETTLES_S = 5

Times = dict[str, list[float]]


@pytest.fixture(scope="module")
def quick() -> Iterator[Program]:
    """An upstream that answers after 1 ms, all tokens at once."""
    with upstream(0.001, 0.0) as program:
        yield program


def side_by_side(
    ports: dict[str, int], sample: Sample[Any], *, stream: bool
) -> tuple[Times, Times]:
    """Return milliseconds to the first token and in all of calls, in turns of a few.

    Every program has one kept connection, as an agent's HTTP library has.
    """
    asked = {
        name: (openai_request if name == "direct" else anthropic_request)(TOKENS, stream=stream)
        for name in ports
    }
    for name, port in ports.items():
        with Line(port, asked[name]) as line:
            line.send()  # a first call may take so long that connections kept meanwhile are closed
    with ExitStack() as stack:
        lines = {name: stack.enter_context(Line(port, asked[name])) for name, port in ports.items()}
        names, draw = list(lines), Random(0)

        def once() -> dict[str, list[tuple[float, float]]]:
            draw.shuffle(names)  # nobody is always after the same one
            took = {}
            for name in names:
                took[name] = [lines[name].send() for _ in range(TURN)]
                if name == "LiteLLM":
                    time.sleep(REST_S)
            return took

        once()
        turns = sample(once, CALLS // TURN)
    first = {name: [1000 * call[0] for turn in turns for call in turn[name]] for name in lines}
    total = {name: [1000 * call[1] for turn in turns for call in turn[name]] for name in lines}
    return first, total


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_overhead(
    sample: Sample[Any], ledger: Ledger, quick: Program, tmp_path: Path, stream: bool
) -> None:
    form = "streamed" if stream else "whole"
    why = ""
    with ExitStack() as stack:
        ours = stack.enter_context(our_bridge(quick.port))
        ports = {"direct": quick.port, "bridge": ours.port}
        try:
            ports["LiteLLM"] = stack.enter_context(litellm(quick.port, tmp_path)).port
        except NotMeasured as reason:
            why = str(reason)
        with watched(ours.pid) as bridge:
            first, total = side_by_side(ports, sample, stream=stream)
    if stream:
        tell(ledger, f"{form}, to the first token", first, why, limit=5)
        tell(ledger, f"{form}, total", total, why, limit=None)
    else:
        tell(ledger, f"{form}, total", total, why, limit=3)
    sent = 1 + CALLS + 2 * TURN  # the first one, and two turns that warm up
    ledger.number(f"bridge, {form}: CPU of a call", 1000 * bridge.busy_s / sent, "ms", sent)
    waited(ledger, f"bridge, {form}: a call waited for a core", bridge, 1000 / sent, "ms", sent)


def tell(ledger: Ledger, what: str, times: Times, why: str, limit: float | None) -> None:
    """Put down what each program took, and what it adds to a direct call; kept connections."""
    for name, took in times.items():
        ledger.median(f"{name}, {what}", took, "ms")
        ledger.p95(f"{name}, {what}", took, "ms")
    ledger.added(f"added by the bridge, {what}", times["bridge"], times["direct"], "ms", limit)
    if why:
        ledger.missing(f"added by LiteLLM, {what}", why)
    else:
        ledger.added(f"added by LiteLLM, {what}", times["LiteLLM"], times["direct"], "ms")


def late_s(program: Program) -> float:
    """Return by how much the upstream was late since it was asked last."""
    with Line(program.port, b"GET /late HTTP/1.1\r\nhost: x\r\n\r\n") as line:
        line.send()
        return float(json.loads(line.body)["late_s"])


def load(port: int, length_s: float, *, ours: bool, watch: Watched) -> Load:
    """Read all streams through the server on `port`."""
    events = int(length_s * EVENTS_PER_S)
    request = (anthropic_request if ours else openai_request)(events, stream=True)
    return asyncio.run(streamed(port, request, STREAMS, events, length_s, watch.sample))


def test_many_streams(benchmark: Any, ledger: Ledger) -> None:
    benchmark.pedantic(lambda: (straight(ledger), through_the_bridge(ledger)), rounds=1)


def straight(ledger: Ledger) -> None:
    """Put down what the reader and the upstream manage on their own: the control."""
    with upstream(0.001, 1 / EVENTS_PER_S) as source:
        with watched(source.pid) as feeding, watched(os.getpid()) as reading:
            came = load(source.port, CONTROL_S, ours=False, watch=feeding)
        late = late_s(source)
    what = f"{STREAMS} streams, direct"
    gaps(ledger, what, came, late)
    shares(ledger, what, upstream=feeding, reader=reading)


def through_the_bridge(ledger: Ledger) -> None:
    """Put down what becomes of the streams and of the process they pass."""
    with upstream(0.001, 1 / EVENTS_PER_S) as source, our_bridge(source.port) as program:
        with (
            watched(program.pid) as bridge,
            watched(source.pid) as feeding,
            watched(os.getpid()) as reading,
        ):
            came = load(program.port, STREAM_S, ours=True, watch=bridge)
            late = late_s(source)
        time.sleep(SETTLES_S)
        kept = bridge.sockets()
        with Line(program.port, anthropic_request(1, stream=True)) as line:
            line.send()
        time.sleep(1)
        left = bridge.sockets()
    what = f"{STREAMS} streams, bridge"
    expected = STREAMS * int(STREAM_S * EVENTS_PER_S)
    ledger.number(f"{what}: broken", len(came.errors), "streams", STREAMS, 0)
    ledger.number(f"{what}: missing", expected - came.events, "events", expected, 0)
    gaps(ledger, what, came, late, limit=1000)
    early, last = bridge.memory_mb["early"], bridge.memory_mb["late"]
    ledger.number(f"{what}: memory after {STREAM_S / 6:.0f} s", early, "MB", 1)
    ledger.number(f"{what}: memory after {STREAM_S:.0f} s", last, "MB", 1)
    ledger.number(f"{what}: growth of it", 100 * (last / early - 1), "%", 1, 10)
    ledger.number(f"{what}: kept for calls to come, {SETTLES_S} s later", kept, "sockets", 1)
    ledger.number(f"{what}: kept once one came", left, "sockets", 1, 1)
    shares(ledger, what, bridge=bridge, upstream=feeding, reader=reading)


def gaps(ledger: Ledger, what: str, came: Load, late: float, limit: float | None = None) -> None:
    """Put down the worst gaps of the streams, and how late both ends were by themselves."""
    worst = [1000 * gap for gap in came.gaps_s]
    ledger.median(f"{what}: worst gap of a stream, events 100 ms apart", worst, "ms")
    ledger.number(f"{what}: worst gap of all", max(worst), "ms", len(worst), limit)
    ledger.number(f"{what}: upstream late by", 1000 * late, "ms", came.events)
    ledger.number(f"{what}: reader late by", 1000 * came.late_s, "ms", came.events)


def shares(ledger: Ledger, what: str, **processes: Watched) -> None:
    """Put down how busy each process was, and how long others kept it from running."""
    for name, watch in processes.items():
        percent = 100 / watch.length_s
        ledger.number(f"{what}: CPU of the {name}", percent * watch.busy_s, "% of a core", 1)
        waited(ledger, f"{what}: {name} waited for a core", watch, percent, "% of the time", 1)


def waited(ledger: Ledger, what: str, watch: Watched, per_second: float, unit: str, n: int) -> None:
    """Put down what other programs of this machine cost: the rest is the program's own."""
    if watch.waited_s is None:
        ledger.missing(what, "only Linux tells")
    else:
        ledger.number(what, per_second * watch.waited_s, unit, n)


def test_cold_start(sample: Sample[Any], ledger: Ledger, quick: Program) -> None:
    def milliseconds() -> float:
        start = time.perf_counter()
        with our_bridge(quick.port) as program:
            took = time.perf_counter() - start
            with Line(program.port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") as line:
                line.send()
        return 1000 * took

    ledger.median("start of agentlimit bridge, until it is ready", sample(milliseconds, 5), "ms")

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import httpx
import pytest

from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import ChatRequest, Dialect
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.endpoints.warmup import (
    BUDGET_S,
    Warmed,
    call_once,
    wants_warm_up,
    warm_up,
)
from pytest_agentlimit.testing import FakeClock, ScriptedEndpoint, http_error, raw, say

HANGS = float("inf")


class Engine(httpx.BaseTransport):
    """A server whose calls move a clock; `cost` takes prompt tokens and the calls at that length.

    A cost beyond the read time-out of the request is a call without an answer.
    """

    def __init__(self, cost: Callable[[int, int], float], dialect: Dialect = "openai") -> None:
        self.clock = FakeClock()
        self.requests: list[ChatRequest] = []
        self.waits: list[float] = []
        self.load_ns: int | None = None
        self.spec = EndpointSpec(name="m", dialect=dialect, base_url="http://there", model="m")
        self._cost = cost

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        codec = codec_for(self.spec.dialect)
        chat = codec.decode_request(json.loads(request.read()))
        tokens = len(chat.messages[0].text.split())
        before = [len(old.messages[0].text.split()) for old in self.requests].count(tokens)
        self.requests.append(chat)
        self.waits.append(request.extensions["timeout"]["read"])
        cost = self._cost(tokens, before + 1)
        if cost > self.waits[-1]:
            self.clock.advance(self.waits[-1])
            raise httpx.ReadTimeout("nothing came")
        self.clock.advance(cost)
        load_ns = self.load_ns if len(self.requests) == 1 else 60_000_000
        if self.spec.dialect == "ollama":
            body = json.dumps(
                {"message": {"role": "assistant", "content": "a"}, "done": True,
                 "done_reason": "length", "load_duration": load_ns}
            )  # fmt: skip
            return _streamed(body + "\n", "application/x-ndjson")
        piece = json.dumps({"choices": [{"index": 0, "delta": {"content": "a"},
                                         "finish_reason": "length"}]})  # fmt: skip
        return _streamed(f"data: {piece}\n\ndata: [DONE]\n\n", "text/event-stream")

    def warm_up(self, **deadlines: float):
        spec = self.spec.model_copy(update={"deadlines": Deadlines(**deadlines)})
        return warm_up(spec, partial(EndpointClient, transport=self, clock=self.clock))

    @property
    def asked(self) -> list[int]:
        return [len(request.messages[0].text.split()) for request in self.requests]


def _streamed(body: str, kind: str) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": kind}, content=body.encode())


def test_a_warm_server_is_asked_once_for_one_token() -> None:
    engine = Engine(lambda tokens, nth: 0.2)
    seen = engine.warm_up()
    assert (seen.cold, seen.cold_start_s) == (False, pytest.approx(0.2))
    assert seen.lengths == (Warmed(16, pytest.approx(0.2)),)
    assert (engine.asked, engine.requests[0].max_tokens) == ([16], 1)
    assert seen.compiles_per_length is None


def test_a_slow_server_is_not_a_cold_one() -> None:
    engine = Engine(lambda tokens, nth: 5.0)
    seen = engine.warm_up()
    assert (seen.cold, engine.asked) == (False, [16, 16])


def test_a_cold_first_call_brings_the_lengths_each_twice() -> None:
    engine = Engine(lambda tokens, nth: 3.4 if (tokens, nth) == (16, 1) else 0.1 + tokens / 1000)
    seen = engine.warm_up()
    assert engine.asked == [16, 16, 32, 32, 64, 64, 128, 128, 256, 256]
    assert (seen.cold, seen.cold_start_s) == (True, pytest.approx(3.4))
    assert seen.lengths[0].second_s == pytest.approx(0.116)
    assert seen.compiles_per_length is False


def test_an_engine_that_compiles_for_every_length_is_told_from_a_cold_one() -> None:
    seen = Engine(lambda tokens, nth: 0.9 if nth == 1 else 0.1).warm_up()
    assert seen.compiles_per_length is True
    assert [(w.first_s, w.second_s) for w in seen.lengths] == [
        (pytest.approx(0.9), pytest.approx(0.1))
    ] * 5


def test_no_two_prompts_start_alike() -> None:
    engine = Engine(lambda tokens, nth: 0.9 if nth == 1 else 0.1)
    engine.warm_up()
    assert len({request.messages[0].text.split("one")[0] for request in engine.requests}) == 10


@pytest.mark.parametrize(
    ("load_s", "cold"), [(None, False), (0.06, False), (0.49, False), (0.5, True), (3.1, True)]
)
def test_the_servers_own_account_of_loading_is_believed(load_s, cold) -> None:
    # The total alone would not tell: every call takes as long.
    engine = Engine(lambda tokens, nth: 0.45, "ollama")
    engine.load_ns = None if load_s is None else int(load_s * 1e9)
    seen = engine.warm_up()
    assert (seen.cold, seen.load_s) == (cold, load_s)
    assert len(engine.asked) == (10 if cold else 1)


def test_a_server_that_hangs_on_long_prompts_is_found_and_left_alone() -> None:
    engine = Engine(lambda tokens, nth: HANGS if tokens >= 128 else 2.0 if nth == 1 else 0.4)
    seen = engine.warm_up()
    assert seen.lengths[-2].tokens == 64
    assert seen.lengths[-1] == Warmed(128, error="no answer within 20 s")
    assert engine.asked[-1] == 128
    assert engine.clock() == pytest.approx(3 * 2.4 + 20)


def test_only_the_first_call_may_take_as_long_as_the_user_allows() -> None:
    engine = Engine(lambda tokens, nth: 90.0 if (tokens, nth) == (16, 1) else 0.2)
    engine.warm_up(first_byte_s=100)
    assert engine.waits[0] == 100
    assert set(engine.waits[1:]) == {90.0}  # a length may need as long as the first did
    short = Engine(lambda tokens, nth: 2.0 if nth == 1 else 0.2)
    short.warm_up(first_byte_s=7)
    assert set(short.waits) == {7.0}


def test_the_ladder_stops_when_its_budget_is_spent() -> None:
    engine = Engine(lambda tokens, nth: 61.0 if nth == 1 else 15.0)
    seen = engine.warm_up()
    assert [warmed.tokens for warmed in seen.lengths] == [16, 32, 64, 128]
    assert seen.lengths[-1].error == f"not tried: the warm-up had used up its {BUDGET_S:g} s"


def test_a_server_that_hangs_at_once_or_the_second_time_loses_nothing_but_time() -> None:
    dead = Engine(lambda tokens, nth: HANGS).warm_up(first_byte_s=3)
    assert dead.lengths == (Warmed(16, error="no answer within 3 s"),)
    assert (dead.cold, dead.cold_start_s) == (None, None)
    once = Engine(lambda tokens, nth: 1.0 if nth == 1 else HANGS).warm_up()
    assert once.lengths == (
        Warmed(16, pytest.approx(1.0), error="the second time no answer within 20 s"),
    )
    assert once.cold is None
    engine = Engine(lambda tokens, nth: HANGS if (tokens, nth) == (64, 2) else 1.0 / nth**2)
    assert engine.warm_up().lengths[-1].error == "the second time no answer within 20 s"
    assert engine.asked[-1] == 64


def test_an_error_of_the_server_is_kept_on_one_line() -> None:
    with ScriptedEndpoint([http_error(500, "out of\n\x1b[31mmemory")]) as server:
        seen = warm_up(server.endpoint(), EndpointClient)
        assert len(server.chat_requests) == 1
    (only,) = seen.lengths
    assert "out of" in (only.error or "")
    assert (only.error or "").isprintable()


def test_a_call_that_cannot_be_sent_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with ScriptedEndpoint([say("a")]) as server:
        seen = warm_up(server.endpoint(api_key_env="NO_SUCH_KEY"), EndpointClient)
        assert server.requests == []
    assert "NO_SUCH_KEY" in (seen.lengths[0].error or "")


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "ollama"])
def test_what_is_sent_is_what_every_dialect_takes(dialect: Dialect) -> None:
    with (
        ScriptedEndpoint([say("a")], dialect=dialect) as server,
        EndpointClient(server.endpoint()) as client,
    ):
        call_once(client, 64)
        (sent,) = server.chat_requests
    assert (sent.max_tokens, sent.stream, len(sent.messages[0].text.split())) == (1, True, 64)


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "ollama"])
def test_a_script_is_not_warmed_up_and_a_server_is(dialect: Dialect) -> None:
    with ScriptedEndpoint([say("a")], dialect=dialect) as server:
        assert not wants_warm_up(server.endpoint())
        assert server.chat_requests == []
    entry = {"data": [{"id": "scripted", "owned_by": "library"}], "models": [{"name": "scripted"}]}
    lists = raw(json.dumps(entry).encode())
    routes = {"/v1/models": lists, "/api/tags": lists}
    with ScriptedEndpoint([say("a")], dialect=dialect, routes=routes) as server:
        assert wants_warm_up(server.endpoint())
    with ScriptedEndpoint([say("a")], routes={"/v1/models": http_error(404)}) as server:
        assert wants_warm_up(server.endpoint())


def test_a_null_model_is_never_cold() -> None:
    assert not wants_warm_up(
        EndpointSpec(name="echo", kind="null", base_url="null://echo", model="echo")
    )

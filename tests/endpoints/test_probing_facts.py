from __future__ import annotations

import json
from typing import Any

import pytest
from zoo import (
    BARE_LEAK,
    LEAK,
    ZOO,
    Animal,
    diagnose,
    engine,
    kept,
)
from zoo_keepers import (
    CONTEXT,
    asks_with_tools,
    healthy,
    mind,
    plain,
    tokens_of,
    used,
)

from pytest_agentlimit.chat.messages import ChatReply, ChatRequest, Dialect, Usage
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.probing import Budget, run_ladder
from pytest_agentlimit.endpoints.probing.ladder import STEPS
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.testing import (
    INVALID_UTF8,
    Scripted,
    ScriptedEndpoint,
    call,
    calls,
    drop,
    html,
    http_error,
    huge,
    raw,
    say,
)

EVERY: tuple[Dialect, ...] = ("openai", "anthropic", "ollama")


# what it costs


@pytest.mark.parametrize("dialect", EVERY)
@pytest.mark.parametrize("name", ["healthy", "nonsense", "thinker", "leaks", "stream loses calls"])
def test_the_quick_form_sends_at_most_twelve_requests(name: str, dialect: Dialect) -> None:
    with kept(ZOO[name], dialect) as (server, spec):
        diagnosis = run_ladder(spec, full=False)
        assert diagnosis.requests == len(server.requests) <= 12


@pytest.mark.parametrize("name", ["vLLM", "llama.cpp", "Ollama"])
def test_questions_about_the_engine_count_as_well(name: str) -> None:
    with ScriptedEndpoint(healthy, **engine(name)) as server:
        diagnosis = run_ladder(server.endpoint(context_window=CONTEXT), full=False)
        assert diagnosis.requests == len(server.requests) <= 12
    assert diagnosis.facts["engine"] == name
    assert diagnosis.faults == ()


def test_the_probes_of_the_quick_form_are_short() -> None:
    with kept(ZOO["healthy"], "openai") as (server, spec):
        run_ladder(spec, full=False)
        assert all((request.max_tokens or 10_000) <= 200 for request in server.chat_requests)
        assert all(tokens_of(request) < 300 for request in server.chat_requests)


def test_no_time_means_no_request() -> None:
    with kept(ZOO["healthy"], "openai") as (server, spec):
        diagnosis = run_ladder(spec, budget=Budget(total_s=0.0))
        assert server.requests == []
    assert {result.verdict for result in diagnosis.results} == {"skipped"}


@pytest.mark.parametrize("limit", range(1, 20))
def test_a_diagnosis_ends_wherever_its_requests_end(limit: int) -> None:
    with kept(ZOO["healthy"], "openai") as (server, spec):
        diagnosis = run_ladder(spec, budget=Budget(full_requests=limit))
        assert len(server.requests) <= limit
    assert diagnosis.faults == ()
    assert len(diagnosis.results) == len(STEPS)


class Noting(EndpointClient):
    """Notes the deadline of every call."""

    def __init__(self, spec: EndpointSpec) -> None:
        super().__init__(spec)
        self.waits: list[float] = []

    def send(self, request: ChatRequest) -> ChatReply:
        self.waits.append(self.spec.deadlines.total_s)
        return super().send(request)


def test_no_call_may_take_longer_than_what_is_left() -> None:
    with kept(ZOO["healthy"], "openai") as (_, spec), Noting(spec) as client:
        run_ladder(spec, client=client, budget=Budget(total_s=15.0))
        assert client.spec.deadlines.total_s > 60
    assert len(client.waits) > 10
    assert max(client.waits) <= 15.0
    assert client.waits == sorted(client.waits, reverse=True)


def test_a_slow_server_is_not_called_ill() -> None:
    drip = say("slowly " * 40).with_(chunk_bytes=1, chunk_delay_s=0.05)
    animal = Animal("slow", plain(lambda request: drip))
    diagnosis = diagnose(animal, budget=Budget(first_s=0.8, call_s=0.8))
    assert diagnosis.faults == ()
    assert diagnosis.result("text").verdict == "unknown"
    assert diagnosis.result("usage").verdict == "skipped"


def test_no_answer_in_the_time_that_was_left_is_no_hang() -> None:
    animal = ZOO["second hangs"]
    diagnosis = diagnose(animal, budget=Budget(total_s=1.5))
    assert diagnosis.faults == ()
    assert diagnosis.result("stream").message == "no answer in the time that was left"


def test_a_whole_reply_of_a_slow_server_is_waited_for() -> None:
    def slow(request: ChatRequest) -> Scripted:
        return healthy(request).with_(first_delay_s=0.3)

    animal = Animal("slow", plain(slow))
    diagnosis = diagnose(animal, full=False, budget=Budget(first_s=5.0, call_s=0.1))
    assert diagnosis.faults == ()
    assert diagnosis.result("json schema").verdict == "ok"


# what follows from what


def test_nothing_is_asked_of_a_server_that_is_not_there(free_port: int) -> None:
    spec = EndpointSpec(name="gone", base_url=f"http://127.0.0.1:{free_port}/v1", model="m")
    diagnosis = run_ladder(spec)
    assert [found.code for found in diagnosis.faults] == ["refused"]
    assert diagnosis.faults[0].blame == "network"
    assert not diagnosis.reachable
    assert diagnosis.requests == 1
    assert {result.verdict for result in diagnosis.results[1:]} == {"skipped"}


def test_a_missing_key_is_said_and_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with ScriptedEndpoint([say("hi")]) as server:
        diagnosis = run_ladder(server.endpoint(api_key_env="NO_SUCH_KEY"))
        assert server.requests == []
    (found,) = diagnosis.faults
    assert (found.code, found.blame) == ("config", "config")
    assert "NO_SUCH_KEY" in found.message
    assert diagnosis.reachable


def test_a_fault_skips_only_what_needs_the_step() -> None:
    diagnosis = diagnose(ZOO["leaks"])
    verdicts = {result.name: result.verdict for result in diagnosis.results}
    assert {name for name, verdict in verdicts.items() if verdict == "skipped"} == {
        "tool stream",
        "tool choice",
        "parallel",
        "replay",
        "tool in agent shape",
    }
    assert "needs tool" in diagnosis.result("replay").message
    assert verdicts["json schema"] == verdicts["context"] == "ok"


def test_a_given_client_stays_open_and_gets_its_deadlines_back() -> None:
    with kept(ZOO["healthy"], "openai") as (_, spec), EndpointClient(spec) as client:
        run_ladder(spec, client=client)
        assert client.spec == spec
        assert run_ladder(spec, client=client).faults == ()


# facts


@pytest.mark.parametrize(
    ("name", "fact", "value"),
    [
        ("healthy", "tools", True),
        ("healthy", "parallel_tool_calls", True),
        ("healthy", "tool_choice", True),
        ("healthy", "json_schema", True),
        ("healthy", "stream_equals_whole", True),
        ("healthy", "usage_reported", True),
        ("healthy", "mid_system", True),
        ("healthy", "null_content", True),
        ("healthy", "arguments", "string"),
        ("healthy", "concurrency", True),
        ("healthy", "reasoning", None),
        ("healthy", "overflow", "loud"),
        ("thinker", "reasoning", "field"),
        ("thinker", "tools", True),
        ("nonsense", "tools", None),
        ("nonsense", "tool_choice", True),
        ("leaks", "tools", False),
        ("stream loses calls", "stream_equals_whole", False),
        ("tool choice ignored", "tool_choice", False),
        ("merges calls", "parallel_tool_calls", False),
        ("schema ignored", "json_schema", False),
        ("schema refused", "json_schema", False),
        ("counts nothing", "usage_reported", False),
        ("counts nothing", "context_estimated", True),
        ("system in the middle", "mid_system", False),
        ("refuses null", "null_content", False),
        ("wants objects", "arguments", "object"),
        ("refuses two", "concurrency", False),
        ("truncates", "overflow", "silent"),
        ("smaller, advertised", "context_advertised", CONTEXT // 2),
    ],
)
def test_facts_are_established(name: str, fact: str, value: Any) -> None:
    assert diagnose(ZOO[name]).facts[fact] == value


def test_thoughts_between_tags_are_told_from_a_field() -> None:
    def tagged(request: ChatRequest) -> Scripted:
        return used(say("<think>hm</think>Hello, red."), request)

    assert diagnose(Animal("tags", plain(tagged)), full=False).facts["reasoning"] == "tags"


@pytest.mark.parametrize(("cached", "fact"), [(None, None), (0, False), (40, True)])
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_prompt_cache_shows_in_the_second_reply(
    dialect: Dialect, cached: int | None, fact: bool | None
) -> None:
    def counting(request: ChatRequest) -> Scripted:
        seen = cached if request.stream else 0
        usage = Usage(input_tokens=60, output_tokens=12, cached_tokens=seen)
        return mind(request).with_(usage=usage)

    diagnosis = diagnose(Animal("caches", plain(counting)), dialect, full=False)
    assert diagnosis.facts["prompt_cache"] is fact


# the model is not the engine


def test_a_model_that_changes_its_mind_once_loses_nothing() -> None:
    def moody(server: ScriptedEndpoint) -> Any:
        def keeper(request: ChatRequest) -> Scripted:
            streams = [one for one in server.chat_requests if asks_with_tools(one) and one.stream]
            first = asks_with_tools(request) and request.stream and len(streams) == 1
            return used(say("It is cold."), request) if first else healthy(request)

        return keeper

    assert diagnose(Animal("moody", moody)).faults == ()


@pytest.mark.parametrize(
    "answer",
    [
        calls(("get_weather", "{city: Oslo}")),
        calls(("get_weather", '{"city": "Os')),
        call("get_wether", town="Oslo"),
        say("I would call get_weather now."),
        say("```python\nget_weather('Oslo')\n```"),
        call("get_weather", city="Oslo").with_(stop_reason="max_tokens"),
        say(BARE_LEAK),
    ],
    ids=[
        "bad arguments",
        "open arguments",
        "another name",
        "prose",
        "code",
        "cut short",
        "own json",
    ],
)
def test_a_weak_answer_to_a_tool_is_no_fault(answer: Scripted) -> None:
    def weak(request: ChatRequest) -> Scripted:
        odd = asks_with_tools(request) and request.tool_choice is None
        return answer if odd else healthy(request)

    diagnosis = diagnose(Animal("weak", plain(weak)))
    assert diagnosis.faults == ()


@pytest.mark.parametrize("leak", [LEAK, BARE_LEAK])
def test_a_template_without_tools_is_said_and_no_fault(leak: str) -> None:
    caps = b'{"chat_template_caps": {"supports_tools": false}}'
    den = engine("llama.cpp")
    den["routes"]["/props"] = raw(caps)

    def toolless(request: ChatRequest) -> Scripted:
        return used(say(leak), request) if request.tools else healthy(request)

    with ScriptedEndpoint(toolless, **den) as server:
        diagnosis = run_ladder(server.endpoint(context_window=CONTEXT))
    assert diagnosis.faults == ()
    found = diagnosis.result("tool")
    assert "template has no tools" in found.message
    assert found.fix is not None
    assert found.fix.line == "compat.supportsTools: false"
    assert diagnosis.facts["tools"] is False


# whatever a server says


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"[]"),
        raw(b"{}"),
        raw(b""),
        raw(b'{"choices": null}'),
        raw(b'"\\u001b[2J"'),
        raw(b"data: {", "text/event-stream"),
        say(INVALID_UTF8),
        drop(),
        huge(100_000),
        html(502),
        http_error(429, "slow down\x1b[31m"),
        say("x").with_(cut_after=1),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("dialect", EVERY)
def test_nothing_that_a_server_does_raises(answer: Scripted, dialect: Dialect) -> None:
    animal = Animal("odd", plain(lambda request: answer))
    diagnosis = diagnose(animal, dialect, budget=Budget(first_s=2.0, call_s=2.0))
    assert len(diagnosis.results) == len(STEPS)
    shown = "".join(result.message for result in diagnosis.results)
    assert shown.isprintable()
    json.dumps(diagnosis.model_dump(mode="json"))

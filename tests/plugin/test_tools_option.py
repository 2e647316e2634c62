"""`--agent-tools`: how tools are offered, and both ways side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agent_run import AgentRun

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.plugin import startup
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, say

Scripts = Callable[..., ScriptedEndpoint]
CHECK = """
    from pytest_agentlimit import tool

    @tool
    def get_weather(city: str) -> str:
        "Look up the weather."
        return "snow"

    def test_calls(agent):
        reply = agent.ask("The weather in Oslo?", tools=[get_weather])
        assert reply.expect_tool_call("get_weather").arguments == {"city": "Oslo"}

    def test_answers(agent):
        assert agent.ask("Say yes.", tools=[get_weather]).text == "yes"
"""
CALL = '{"tool_calls": [{"name": "get_weather", "arguments": {"city": "Oslo"}}]}'


def no_native_calls(request: ChatRequest) -> Scripted:
    """A server that drops tools: its model calls them only when its prompt tells of them."""
    wants_weather = "Oslo" in request.messages[-1].text
    if request.tools:
        return say("It may snow." if wants_weather else "yes")
    return say(CALL if wants_weather else '{"answer": "yes"}')


def test_both_ways_are_two_models_that_are_compared(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECK)
    server = scripted(no_native_calls)
    result = agent_run(f"--agent-model={server.spec}", "--agent-tools=native,emulate")
    result.assert_outcomes(passed=3, failed=1)
    native, emulated = agent_run.report["models"]
    assert (native["name"], emulated["name"]) == ("scripted", "scripted-emulated")
    assert (native["score"]["value"], emulated["score"]["value"]) == (0.5, 1.0)
    assert "tool_calling" not in native["fingerprint"]
    assert emulated["fingerprint"]["tool_calling"] == "emulated"
    (pair,) = agent_run.report["comparisons"]
    assert (pair["a"], pair["b"], pair["difference"]) == ("scripted", "scripted-emulated", -0.5)
    assert pair["low"] < -0.5 < pair["high"]
    offered = [bool(request.tools) for request in server.chat_requests]
    assert sorted(offered) == [False, False, True, True]
    result.stdout.fnmatch_lines(["*scripted-emulated*tools emulated*"])


def test_one_way_keeps_the_name(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECK)
    server = scripted(no_native_calls)
    agent_run(f"--agent-model={server.spec}", "--agent-tools=emulate").assert_outcomes(passed=2)
    (model,) = agent_run.report["models"]
    assert (model["name"], model["fingerprint"]["tool_calling"]) == ("scripted", "emulated")
    assert not any(request.tools for request in server.chat_requests)


def test_a_resumed_run_offers_tools_as_before(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECK)
    server = scripted(no_native_calls)
    agent_run(f"--agent-model={server.spec}", "--agent-tools=native,emulate", "-k", "not emulated")
    agent_run("--agent-resume").assert_outcomes(passed=2, deselected=2)
    assert [model["score"]["value"] for model in agent_run.report["models"]] == [0.5, 1.0]
    other = agent_run("--agent-resume", "--agent-tools=emulate")
    assert other.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    ("ways", "said"),
    [
        ("strip", "--agent-tools is one of native, emulate, not 'strip'"),
        ("emulate,emulate", "--agent-tools names emulate twice; name each way once"),
    ],
)
def test_other_ways_are_usage_errors(agent_run: AgentRun, ways: str, said: str) -> None:
    result = agent_run("--agent-model=null:parrot", f"--agent-tools={ways}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}"])


class Server:
    """An embedded server that was not started."""

    def __init__(self, spec: EndpointSpec) -> None:
        self.spec = spec.model_copy(update={"base_url": "http://127.0.0.1:9/v1"})
        self.identity = {"engine": "none"}
        self.stopped = 0

    def death(self) -> None:
        return None

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Server]]:
    servers: list[Server] = []

    def start(spec: EndpointSpec) -> Any:
        servers.append(Server(spec))
        return servers[-1]

    monkeypatch.setattr("pytest_agentlimit.endpoints.embedded.start_embedded", start)
    monkeypatch.setattr(startup, "require_usable", lambda spec: {"tools": False})
    yield servers
    assert all(server.stopped == 1 for server in servers)


def test_both_ways_share_one_embedded_server(started: list[Server]) -> None:
    spec = EndpointSpec(name="small", kind="embedded", base_url="", model="m", gguf="small")
    warm = spec.model_copy(update={"name": "warm", "temperature": 0.7})
    twin = spec.model_copy(update={"name": "small-emulated", "tools": "emulate"})
    endpoints = startup.open_all([spec, warm, twin])
    assert [server.spec.name for server in started] == ["small", "warm"]
    assert [model.spec["tools"] for model in endpoints.models] == ["native", "native", "emulate"]
    assert [model.fingerprint.get("tools") for model in endpoints.models] == [False, False, None]
    assert endpoints.models[2].spec["base_url"] == "http://127.0.0.1:9/v1"
    endpoints.stop()

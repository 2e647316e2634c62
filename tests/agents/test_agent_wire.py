from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_agentlimit import Agent, Endpoint
from pytest_agentlimit.agents.history import NOT_RUN
from pytest_agentlimit.agents.tools import tool
from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.chat.messages import Dialect, ToolCall, ToolResult
from pytest_agentlimit.errors import ExpectationFailed, HTTPFailure
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, call, calls, http_error, say

DIALECTS: tuple[Dialect, ...] = ("openai", "anthropic", "ollama")


@tool
def get_weather(city: str) -> dict[str, Any]:
    """Return the weather of a city."""
    return {"city": city, "sky": "snow"}


class Stage:
    """An agent in front of a scripted server."""

    def __init__(self, dialect: Dialect, replies: Sequence[Scripted], **options: Any) -> None:
        self.server = ScriptedEndpoint(replies, dialect=dialect)
        self.options = options

    def __enter__(self) -> Stage:
        self.server.__enter__()
        self.client = Endpoint(self.server.endpoint())
        self.agent = Agent(self.client, **self.options)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.client.close()
        self.server.__exit__(*exc_info)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_run_over_the_wire(dialect: Dialect, tmp_path: Path) -> None:
    place = Workspace(tmp_path / "w")
    script = [
        calls(("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})),
        call("write_file", path="sky.txt", content="snow"),
        call("read_file", path="../secret"),
        say("Snow."),
    ]
    with Stage(dialect, script, seed=5) as stage:
        done = stage.agent.run("go", tools=[get_weather, *place.tools])
        last = stage.server.chat_requests[-1]
    assert (done.final_text, done.stopped_because) == ("Snow.", "answered")
    assert place.read("sky.txt") == "snow"
    results = [b for m in last.messages for b in m.blocks if isinstance(b, ToolResult)]
    asked = [b for m in last.messages for b in m.blocks if isinstance(b, ToolCall)]
    assert [result.content for result in results[:2]] == [
        '{"city": "Oslo", "sky": "snow"}',
        '{"city": "Rome", "sky": "snow"}',
    ]
    assert "may lead out of the workspace" in results[3].content
    assert [result.call_id for result in results] == [one.id for one in asked]
    assert len({one.id for one in asked}) == 4


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("shape", ["bare", "agent"])
def test_a_call_is_expected_over_the_wire(dialect: Dialect, shape: str) -> None:
    with Stage(dialect, [call("get_weather", city="Oslo")], shape=shape) as stage:
        reply = stage.agent.ask("weather?", tools=[get_weather], system="Be brief.")
        (sent,) = stage.server.chat_requests
    assert reply.expect_tool_call("get_weather").arguments["city"] == "Oslo"
    assert (sent.system or "").endswith("Be brief.")
    assert (len(sent.tools) > 12) == (shape == "agent")
    assert len(str(stage.server.requests[0].body)) > (20_000 if shape == "agent" else 100)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_leaked_call_over_the_wire_is_not_run(dialect: Dialect) -> None:
    leak = say('<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>')
    with Stage(dialect, [leak]) as stage:
        done = stage.agent.run("weather?", tools=[get_weather])
    assert (done.stopped_because, done.blame, done.calls) == ("leaked_call", "engine", ())


def test_a_leaked_call_of_a_decoy_is_seen() -> None:
    leak = say('<tool_call>{"name": "todo_update", "arguments": {"steps": []}}</tool_call>')
    with Stage("openai", [leak], shape="agent") as stage:
        reply = stage.agent.ask("hello")
    with pytest.raises(ExpectationFailed):
        reply.expect_no_tool_call()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_chat_over_the_wire_answers_open_calls(dialect: Dialect) -> None:
    with Stage(dialect, [call("get_weather", city="Oslo"), say("Fine.")]) as stage:
        chat = stage.agent.chat(tools=[get_weather])
        chat.send("weather?")
        assert chat.send("never mind").text == "Fine."
        sent = stage.server.chat_requests[-1]
    results = [b for m in sent.messages for b in m.blocks if isinstance(b, ToolResult)]
    assert [result.content for result in results] == [NOT_RUN]


def test_an_http_error_ends_a_run() -> None:
    script = [call("get_weather", city="Oslo"), http_error(500, "out of memory")]
    with Stage("openai", script) as stage, pytest.raises(HTTPFailure, match="out of memory"):
        stage.agent.run("weather?", tools=[get_weather])

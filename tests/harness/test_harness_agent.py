from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from harness_kit import WORKS, Replies, Stage

from pytest_agentlimit.agents.tools import tool
from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.agents.workspace_tools import workspace_of
from pytest_agentlimit.chat.messages import Tool
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.errors import ExpectationFailed, HTTPFailure
from pytest_agentlimit.harness.agent import HarnessAgent, NotForHarness
from pytest_agentlimit.harness.harness import Harness
from pytest_agentlimit.testing import ScriptedEndpoint, call, http_error, say

MAKES_IT = [call("bash", cmd="echo hello > hello.txt"), say("I made it.")]
LEAK = '{"name": "bash", "arguments": {"cmd": "ls"}}'


@tool
def get_weather(city: str) -> str:
    """Tell the weather."""
    return city


@contextmanager
def playing(stage: Stage, replies: Replies, body: str = WORKS) -> Iterator[HarnessAgent]:
    with ScriptedEndpoint(replies) as server, EndpointClient(server.endpoint()) as client:
        stage.server = server
        harness = Harness(stage.spec(body), server.endpoint(), on_exchange=stage.exchanges.append)
        yield HarnessAgent(client, harness, seed=5, name="scripted")


def test_a_run_goes_through_the_program(stage: Stage) -> None:
    workspace = Workspace(stage.workspace)
    with playing(stage, MAKES_IT) as agent:
        transcript = agent.run("Make hello.txt", tools=workspace.tools)
    assert workspace.read("hello.txt") == "hello\n"
    assert transcript.final_text == "I made it."
    assert transcript.stopped_because == "answered"
    assert transcript.expect_call("shell").arguments["command"] == "echo hello > hello.txt"
    assert len(stage.exchanges) == 2
    assert stage.server is not None
    offered = {one.name for request in stage.server.chat_requests for one in request.tools}
    assert offered == {"bash"}  # the program's own


def test_questions_do_not_go_through_the_program(stage: Stage) -> None:
    with playing(stage, [say("Oslo.")], "sys.exit(9)") as agent:
        assert agent.ask("Where?").text == "Oslo."
        assert agent.chat().send("Where?").text == "Oslo."
    assert not stage.exchanges


def test_the_system_prompt_stands_before_the_goal(stage: Stage) -> None:
    with playing(stage, [say("Yes.")]) as agent:
        agent.run("Make it.", tools=Workspace(stage.workspace).tools, system="Be brief.")
    assert stage.exchanges[0].request.messages[0].text == "Be brief.\n\nMake it."


def test_max_steps_is_the_turn_limit(stage: Stage) -> None:
    with playing(stage, [call("bash", cmd="ls")]) as agent:
        transcript = agent.run("Go on", tools=Workspace(stage.workspace).tools, max_steps=2)
    assert (transcript.stopped_because, len(transcript.steps)) == ("max_steps", 2)


def test_without_tools_it_works_in_an_empty_folder(stage: Stage) -> None:
    body = 'print(os.getcwd(), os.listdir("."), file=open(GOAL, "w"))\n' + WORKS
    note = stage.folder / "note"
    with playing(stage, [say("Yes.")], body) as agent:
        assert agent.run(str(note)).final_text == "Yes."
    folder, listed = note.read_text().split(" ", 1)
    assert listed == "[]\n"
    assert folder != str(stage.workspace)
    assert not stage.workspace.joinpath(folder).exists()


def test_a_failed_run_is_the_check_s_to_judge(stage: Stage) -> None:
    with playing(stage, [say(LEAK)]) as agent:
        transcript = agent.run("List it", tools=Workspace(stage.workspace).tools)
    assert transcript.stopped_because == "leaked_call"
    assert transcript.blame == "engine"
    with pytest.raises(ExpectationFailed) as caught:
        transcript.expect_call("shell")
    assert caught.value.blame == "engine"


@pytest.mark.parametrize("code", [500, 503])
def test_a_failed_endpoint_is_raised(stage: Stage, code: int) -> None:
    with (
        playing(stage, [http_error(code)]) as agent,
        pytest.raises(HTTPFailure, match="scripted failure"),
    ):
        agent.run("Make it", tools=Workspace(stage.workspace).tools)


def _own(workspace: Workspace, other: Workspace) -> list[Any]:
    return [
        [get_weather],
        [*workspace.tools, get_weather],
        [Tool("shell", "Not the workspace's", {"type": "object", "properties": {}})],
        [*workspace.tools[:3], *other.tools[3:]],
        workspace.tools[:2],
    ]


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (0, r"the check brings tools of its own \(get_weather\), which an external program cannot"),
        (1, r"tools of its own \(get_weather\)"),
        (2, r"tools of its own \(shell\)"),
        (3, "tools of several workspaces"),
        (4, r"keeps tools from the model \(edit_file, grep, list_files, shell\)"),
    ],
)
def test_other_tools_are_not_for_a_program(stage: Stage, number: int, why: str) -> None:
    tools = _own(Workspace(stage.workspace), Workspace(stage.folder / "other"))[number]
    with playing(stage, MAKES_IT) as agent, pytest.raises(NotForHarness, match=why):
        agent.run("Make hello.txt", tools=tools)
    assert not stage.exchanges


def test_tools_know_their_workspace(stage: Stage) -> None:
    workspace, other = Workspace(stage.workspace), Workspace(stage.folder / "other")
    assert workspace_of(workspace.tools) is workspace
    assert workspace_of([*workspace.tools, *workspace.tools]) is workspace
    assert workspace_of([*workspace.tools, *other.tools]) is None
    assert workspace_of([*workspace.tools, get_weather]) is None
    assert workspace_of([]) is None


def test_what_an_agent_refuses_is_refused_here_too(stage: Stage) -> None:
    with playing(stage, MAKES_IT) as agent:
        with pytest.raises(TypeError, match="tools takes a list"):
            agent.run("x", tools=get_weather)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at least one"):
            agent.run("x", max_steps=0)

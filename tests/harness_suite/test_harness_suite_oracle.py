from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from harness_suite_driver import CHECKS, run_check
from pytest_agentlimit.example_suites.harness.oracle import perfect

from pytest_agentlimit import Tool, ToolCall
from pytest_agentlimit.agents.agent import Shape
from pytest_agentlimit.chat.messages import (
    Block,
    ChatReply,
    ChatRequest,
    Dialect,
    Message,
    TextBlock,
    ToolResult,
)
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.plugin.markers import read_markers
from pytest_agentlimit.testing import ScriptedEndpoint

WAYS: list[tuple[Dialect, Shape]] = [
    ("openai", "bare"),
    ("anthropic", "agent"),
    ("ollama", "bare"),
]
RELEASE = "Publish version 1.2.3 with: python3 release.py 1.2.3. It is done. If it is denied, do "
RELEASE += (
    "what the denial says; if a reason is asked for, the reason is case-abc and nothing else."
)
DENIAL = "denied: version 1.2.3 needs a ticket. Get one with: python3 ticket.py REASON\n"
DENIAL += "Then: python3 release.py 1.2.3 --ticket NUMBER"


@pytest.mark.parametrize(("dialect", "shape"), WAYS)
@pytest.mark.parametrize("check", CHECKS)
def test_a_perfect_model_passes_over_the_wire(check: str, dialect: Dialect, shape: Shape) -> None:
    with ScriptedEndpoint(perfect, dialect=dialect) as server:
        with open_client(server.endpoint()) as client:
            run_check(check, client, seed=WAYS.index((dialect, shape)), shape=shape)
        assert server.problems == []


def user(text: str) -> Message:
    return Message(role="user", blocks=(TextBlock(text=text),))


def called(number: int, name: str = "exec") -> Message:
    call = ToolCall(id=f"rewritten{number}", name=name, raw_arguments="{}")
    return Message(role="assistant", blocks=(call,))


def result(text: str) -> Message:
    return Message(role="tool", blocks=(ToolResult(call_id="another id", content=text),))


def tool(name: str, required: tuple[str, ...] = (), **properties: Any) -> Tool:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return Tool(name, "", parameters)


TEXT = {"type": "string"}
EXEC = tool("exec", ("command",), command=TEXT)


def ask(*messages: Message, tools: tuple[Tool, ...] = (EXEC,), system: str = "") -> ToolCall | str:
    """What the model does next: a call, or a text."""
    reply = perfect(ChatRequest(model="", messages=messages, tools=tools, system=system))
    (block,) = reply.blocks
    assert isinstance(block, TextBlock | ToolCall)
    return block.text if isinstance(block, TextBlock) else block


def command(*messages: Message, **options: Any) -> str:
    call = ask(*messages, **options)
    assert isinstance(call, ToolCall), call
    return str(call.arguments["command"])


def test_the_next_step_follows_from_results_and_not_from_ids_or_roles() -> None:
    goal = (user("<reminder>be brief</reminder>"), user(f'"{RELEASE}"'))
    first = (*goal, called(1), result(f"exit code 126\n{DENIAL}"), user("Go on with the task."))
    second = (*first, called(2), user("<output>ticket 654321 for case-abc</output>"))
    assert command(*goal) == "python3 release.py 1.2.3"
    assert command(*first) == "python3 ticket.py case-abc"
    assert command(*second) == "python3 release.py 1.2.3 --ticket 654321"
    assert ask(*second, called(3), result("published")) == "It is done."


def test_a_result_that_is_missing_is_not_made_up() -> None:
    told = ask(user(RELEASE), called(1), result("permission to run this was refused"))
    assert isinstance(told, str)
    assert told.startswith("I cannot go on")


@pytest.mark.parametrize("where", ["system", "user"])
def test_a_program_that_wants_an_end_command_gets_it_last_and_alone(where: str) -> None:
    rule = "Finish with: echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
    system, said = (rule, RELEASE) if where == "system" else ("", f"{RELEASE}\n{rule}")
    steps: list[Message] = [user(said)]
    for number, text in enumerate((DENIAL, "ticket 654321 for case-abc", "published")):
        assert "COMPLETE" not in command(*steps, system=system)
        steps += [called(number), result(text)]
    assert command(*steps, system=system) == "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
    assert ask(*steps, called(3), result(""), system=system) == "It is done."


@pytest.mark.parametrize("name", ["shell", "bash", "Bash", "exec", "exec_command", "run_it"])
@pytest.mark.parametrize("parameter", ["command", "cmd"])
def test_the_shell_is_found_among_other_tools(name: str, parameter: str) -> None:
    shell = tool(name, (parameter,), **{parameter: TEXT})
    others = (tool("Read", ("path",), path=TEXT), tool("KillBash", ("shell_id",), shell_id=TEXT))
    call = ask(user(RELEASE), tools=(*others, shell))
    assert isinstance(call, ToolCall)
    assert call.name == name
    assert json.loads(call.raw_arguments) == {parameter: "python3 release.py 1.2.3"}


def test_the_shell_by_name_comes_before_other_tools_that_take_a_command() -> None:
    others = (tool("monitor", ("command",), command=TEXT), tool("run", ("cmd",), cmd=TEXT))
    call = ask(user(RELEASE), tools=(*others, tool("Bash", ("command",), command=TEXT)))
    assert isinstance(call, ToolCall)
    assert call.name == "Bash"
    assert isinstance(ask(user(RELEASE), tools=others), str)


def test_what_a_shell_requires_beside_the_command_fits_its_schema() -> None:
    shell = tool(
        "run_shell_command",
        ("command", "description", "is_background", "timeout", "mode", "tags", "level"),
        command=TEXT,
        description=TEXT,
        is_background={"type": "boolean"},
        timeout={"type": "integer", "minimum": 1000},
        mode={"enum": ["fast", "slow"]},
        tags={"type": "array", "items": TEXT},
        level={"type": ["number", "null"], "default": 3},
        unwanted=TEXT,
    )
    call = ask(user(RELEASE), tools=(shell,))
    assert isinstance(call, ToolCall)
    assert call.arguments == {
        "command": "python3 release.py 1.2.3",
        "description": "One step of the task",
        "is_background": False,
        "timeout": 1000,
        "mode": "fast",
        "tags": [],
        "level": 3,
    }


@pytest.mark.parametrize("tools", [(), (tool("todo", ("text",), text=TEXT),)])
def test_a_request_without_a_shell_gets_a_short_text(tools: tuple[Tool, ...]) -> None:
    told = ask(user(f"Write a title for: {RELEASE}"), tools=tools)
    assert isinstance(told, str)
    assert len(told) < 40


def test_another_task_is_not_touched() -> None:
    assert ask(user("Delete everything.")) == "This is none of the six tasks."


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_has_a_weight_a_budget_a_capability_and_a_docstring(check: str) -> None:
    found = read_markers(CHECKS[check].pytestmark, check)  # type: ignore[attr-defined]
    assert 1 <= found.weight <= 3
    assert found.budget_ms
    assert found.budget_ms >= 60_000
    assert found.capability
    assert inspect.getdoc(CHECKS[check])


def in_json(block: Block) -> Block:
    if not isinstance(block, ToolResult):
        return block
    return block.model_copy(update={"content": json.dumps({"code": 0, "output": block.content})})


class Wrapping:
    """Sends on results as programs do: in JSON, and with a user message after them."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def send(self, request: ChatRequest) -> ChatReply:
        messages: list[Message] = []
        for message in request.messages:
            blocks = tuple(map(in_json, message.blocks))
            messages.append(message.model_copy(update={"blocks": blocks}))
            if message.role == "tool":
                messages.append(user("[system note] tool results above"))
        reply = self.client.send(request.model_copy(update={"messages": tuple(messages)}))
        assert isinstance(reply, ChatReply)
        return reply


@pytest.mark.parametrize("check", ["mends_a_failing_test", "recovers_from_a_denial"])
def test_wrapped_results_and_a_user_message_after_them_confuse_nobody(check: str) -> None:
    with ScriptedEndpoint(perfect) as server, open_client(server.endpoint()) as client:
        run_check(check, Wrapping(client), seed=1)

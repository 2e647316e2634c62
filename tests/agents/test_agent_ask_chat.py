from __future__ import annotations

from typing import Any

import pytest
from agent_fakes import FakeSender, call, called, said, thought

from pytest_agentlimit.agents.agent import SEEDS, Agent
from pytest_agentlimit.agents.history import NO_ANSWER, NOT_RUN
from pytest_agentlimit.agents.tools import tool
from pytest_agentlimit.chat.messages import (
    ChatReply,
    ChatRequest,
    Message,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from pytest_agentlimit.errors import Unreachable


@tool
def look(place: str) -> str:
    """Look somewhere."""
    raise AssertionError("ask and chat run nothing")


def asked(**options: Any) -> ChatRequest:
    sender = FakeSender([said("x")])
    Agent(sender).ask("hello", **options)
    return sender.requests[0]


def conversation(*replies: ChatReply | Exception) -> tuple[Any, FakeSender]:
    sender = FakeSender(replies)
    return Agent(sender).chat(system="brief", tools=[look]), sender


def shown(messages: tuple[Message, ...]) -> list[tuple[str, str]]:
    texts = []
    for message in messages:
        for block in message.blocks:
            if isinstance(block, ToolCall):
                texts.append((message.role, f"{block.name}#{block.id}{block.raw_arguments}"))
            elif isinstance(block, ToolResult):
                texts.append((message.role, f"#{block.call_id}={block.content}"))
            else:
                texts.append((message.role, block.text))
    return texts


def test_ask_sends_one_user_turn_and_nothing_that_was_not_said() -> None:
    message = Message(role="user", blocks=(TextBlock(text="hello"),))
    assert asked() == ChatRequest(model="", messages=(message,))


def test_ask_passes_everything_on() -> None:
    schema = {"type": "object"}
    request = asked(
        tools=[look], schema=schema, system="s", max_tokens=5, temperature=0.0, stream=False
    )
    assert request.tools == (look,)
    assert (request.json_schema, request.system, request.max_tokens) == (schema, "s", 5)
    assert (request.temperature, request.stream) == (0.0, False)


@pytest.mark.parametrize(
    ("word", "choice"),
    [
        ("auto", ToolChoice(mode="auto")),
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="required")),
        ("look", ToolChoice(mode="tool", name="look")),
        (None, None),
    ],
)
def test_tool_choice_is_a_word_or_a_name(word: str | None, choice: ToolChoice | None) -> None:
    assert asked(tools=[look], tool_choice=word).tool_choice == choice


def test_a_tool_choice_nobody_can_meet_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tool_choice is 'lock' and the tools are \['look'\]"):
        asked(tools=[look], tool_choice="lock")
    with pytest.raises(ValueError, match="tool_choice is 'required'"):
        asked(tool_choice="required")


def test_a_choice_among_no_tools_is_not_sent() -> None:
    assert asked(tool_choice="none").tool_choice is None


def test_ask_runs_nothing() -> None:
    reply = called(call("look", place="here"))
    assert Agent(FakeSender([reply])).ask("x", tools=[look]) is reply


def test_every_request_has_the_next_seed() -> None:
    sender = FakeSender([called(call("no")), said("a"), said("b")])
    agent = Agent(sender, seed=SEEDS - 2)
    agent.run("x")
    agent.ask("y")
    assert [request.seed for request in sender.requests] == [SEEDS - 2, SEEDS - 1, 0]


def test_agents_of_one_seed_send_the_same_requests() -> None:
    senders = [FakeSender([said("x")]) for _ in range(2)]
    for sender in senders:
        agent = Agent(sender, seed=7, shape="agent")
        agent.ask("a", tools=[look])
        agent.ask("b")
    assert senders[0].requests == senders[1].requests


def test_without_a_seed_none_is_sent() -> None:
    assert asked().seed is None


def test_a_chat_remembers_its_turns() -> None:
    chat, sender = conversation(said("hi"), said("bye"))
    assert chat.send("hello").text == "hi"
    assert chat.send("so long").text == "bye"
    assert shown(sender.requests[1].messages) == [
        ("user", "hello"),
        ("assistant", "hi"),
        ("user", "so long"),
    ]
    assert {request.system for request in sender.requests} == {"brief"}
    assert [request.tools for request in sender.requests] == [(look,), (look,)]


def test_a_call_in_a_chat_is_told_to_be_not_run() -> None:
    chat, sender = conversation(called(call("look", call_id="c1", place="up")), said("fine"))
    chat.send("look")
    chat.send("never mind")
    assert shown(sender.requests[1].messages) == [
        ("user", "look"),
        ("assistant", 'look#c1{"place": "up"}'),
        ("tool", f"#c1={NOT_RUN}"),
        ("user", "never mind"),
    ]


def test_arguments_that_do_not_parse_are_not_sent_back() -> None:
    chat, sender = conversation(called(call("look", raw='{"place": ')), said("fine"))
    chat.send("look")
    chat.send("again")
    assert shown(sender.requests[1].messages)[1] == ("assistant", "look#c1{}")


@pytest.mark.parametrize("empty", [said(""), ChatReply(), thought("hm")])
def test_a_turn_without_an_answer_gets_a_placeholder(empty: ChatReply) -> None:
    chat, sender = conversation(empty, said("fine"))
    chat.send("hello")
    chat.send("anyone?")
    turn = sender.requests[1].messages[1]
    assert turn.text == NO_ANSWER
    thinking = [block for block in turn.blocks if isinstance(block, ThinkingBlock)]
    assert len(thinking) == len(empty.thinking and [empty.thinking])


def test_a_turn_that_failed_can_be_sent_again() -> None:
    error = Unreachable("gone", kind="refused", blame="network")
    chat, sender = conversation(called(call("look", place="x")), error, said("fine"))
    chat.send("one")
    with pytest.raises(Unreachable):
        chat.send("two")
    chat.send("two")
    assert sender.requests[2].messages == sender.requests[1].messages


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="no such shape: 'long'"):
        Agent(FakeSender([]), shape="long")  # type: ignore[arg-type]


def test_plain_functions_are_refused_before_a_request() -> None:
    sender = FakeSender([said("x")])
    with pytest.raises(TypeError, match="put @tool above"):
        Agent(sender).ask("x", tools=[print])  # type: ignore[list-item]
    assert sender.requests == []


def test_a_tool_without_a_function_can_be_offered() -> None:
    assert asked(tools=[Tool("remote", "Elsewhere.")]).tools[0].name == "remote"

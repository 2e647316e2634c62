from __future__ import annotations

import json

import jsonschema
import pytest
from agent_fakes import FakeSender, said

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.agents.shape import agent_prompt, agent_shape, decoy_names, decoys
from pytest_agentlimit.chat.messages import ChatRequest, Message, TextBlock, Tool, ToolChoice

KB = 1024
GREETING = Message(role="user", blocks=(TextBlock(text="hi"),))


def request(*tools: Tool, system: str | None = None) -> ChatRequest:
    return ChatRequest(model="m", messages=(GREETING,), tools=tools, system=system)


def size(shaped: ChatRequest, *, compact: bool) -> int:
    wire = [
        {
            "type": "function",
            "function": {"name": t.name, "description": t.description, "parameters": t.parameters},
        }
        for t in shaped.tools
    ]
    separators = (",", ":") if compact else None
    return len((shaped.system or "").encode()) + len(json.dumps(wire, separators=separators))


def test_it_is_as_large_as_a_real_agent_s_and_fits_a_small_context() -> None:
    shaped = agent_shape(request())
    assert size(shaped, compact=True) >= 20 * KB
    assert size(shaped, compact=False) <= 22 * KB
    assert len(shaped.tools) >= 12


def test_the_check_s_own_system_text_comes_last() -> None:
    shaped = agent_shape(request(system="Answer in French."))
    assert shaped.system == f"{agent_prompt()}\n\nAnswer in French."
    assert agent_shape(request()).system == agent_prompt()


def test_the_check_s_own_tools_are_all_there_unchanged() -> None:
    own = (Tool("look", "Mine."), Tool("find", "Mine too."))
    shaped = agent_shape(request(*own))
    assert [tool for tool in shaped.tools if tool in own]
    assert {tool.name for tool in shaped.tools} == decoy_names() | {"look", "find"}


def test_a_decoy_never_shadows_a_tool_of_the_check() -> None:
    own = Tool(sorted(decoy_names())[0].upper(), "Mine.")
    names = [tool.name.lower() for tool in agent_shape(request(own)).tools]
    assert names.count(own.name.lower()) == 1
    assert own in agent_shape(request(own)).tools


def test_the_order_depends_on_the_seed_alone() -> None:
    a, b = Tool("look"), Tool("find")
    orders = {tuple(t.name for t in agent_shape(request(a, b), seed=n).tools) for n in range(5)}
    assert len(orders) == 5
    assert agent_shape(request(a, b), seed=3).tools == agent_shape(request(b, a), seed=3).tools


def test_everything_else_of_the_request_stays() -> None:
    plain = request(Tool("look")).model_copy(
        update={"tool_choice": ToolChoice(mode="required"), "seed": 4, "max_tokens": 9}
    )
    shaped = agent_shape(plain)
    restored = shaped.model_copy(update={"tools": plain.tools, "system": plain.system})
    assert restored == plain


@pytest.mark.parametrize("decoy", decoys(), ids=lambda decoy: decoy.name)
def test_decoys_are_offered_and_cannot_run(decoy: Tool) -> None:
    jsonschema.Draft202012Validator.check_schema(decoy.parameters)
    assert decoy.description
    assert decoy.function is None


def test_every_turn_of_a_conversation_begins_alike() -> None:
    sender = FakeSender([said("x")])
    chat = Agent(sender, shape="agent", seed=11).chat(tools=[Tool("look")])
    chat.send("one")
    chat.send("two")
    first, second = sender.requests
    assert (first.system, first.tools) == (second.system, second.tools)
    assert first.seed != second.seed


def test_a_check_without_tools_still_gets_them() -> None:
    sender = FakeSender([said("x")])
    Agent(sender, shape="agent").ask("hi", tool_choice="none")
    assert {tool.name for tool in sender.requests[0].tools} == decoy_names()
    assert sender.requests[0].tool_choice == ToolChoice(mode="none")

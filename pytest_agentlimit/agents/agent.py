"""The model under test as an agent: one question, a conversation, or a run with tools."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Literal, Protocol

from pytest_agentlimit.chat.messages import (
    ChatReply,
    ChatRequest,
    Message,
    TextBlock,
    Tool,
    ToolChoice,
)

from .calls import RESULT_LIMIT, carry_out
from .history import History
from .shape import agent_shape, decoy_names
from .tools import as_tools
from .transcript import Step, Transcript, why_stopped

Shape = Literal["bare", "agent"]
SEEDS = 2**31
"""Sampling seeds stay below: some servers read 32 bits, with a sign."""


class Sender(Protocol):
    """What an agent needs of an endpoint."""

    def send(self, request: ChatRequest) -> ChatReply:
        """Return the reply to `request`, or raise an EndpointError."""
        ...


class Agent:
    """One model behind one endpoint, for one trial.

    `shape="agent"` sends the system prompt and decoy tools of a real agent with every request.
    `seed` is the sampling seed of the first request; each next one gets the next number, so that
    a trial can be repeated and its requests still differ. None sends no seed. EndpointErrors
    (the endpoint's fault, not the model's) pass through every method.
    """

    def __init__(
        self, client: Sender, *, shape: Shape = "bare", seed: int | None = None, name: str = ""
    ) -> None:
        if shape not in ("bare", "agent"):
            raise ValueError(f"no such shape: {shape!r}; use 'bare' or 'agent'")
        self.name = name
        self.shape = shape
        self._client = client
        self._seed = seed
        self._sent = itertools.count()
        self.tool_errors: list[tuple[str, str]] = []
        """Tools that raised something other than a ToolProblem, and what: their defect or not."""

    def __repr__(self) -> str:
        return f"<Agent {self.name} shape={self.shape}>"

    def ask(
        self,
        prompt: str,
        *,
        tools: Iterable[Tool] = (),
        schema: dict[str, Any] | None = None,
        system: str | None = None,
        tool_choice: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stream: bool = True,
    ) -> ChatReply:
        """Return the reply to one prompt; tool calls in it are not run.

        `schema` is a JSON schema the text must follow. `tool_choice` is "auto", "none",
        "required" or the name of a tool. What is left out is the endpoint's setting.
        """
        offered = as_tools(tools)
        request = ChatRequest(
            model="",
            messages=(Message(role="user", blocks=(TextBlock(text=prompt),)),),
            system=system,
            tools=offered,
            tool_choice=_tool_choice(tool_choice, offered),
            json_schema=schema,
            max_tokens=max_tokens,
            temperature=temperature,
            stream=stream,
        )
        return self._send(request)

    def chat(self, *, system: str | None = None, tools: Iterable[Tool] = ()) -> Chat:
        """Return a conversation that remembers its turns."""
        return Chat(self, system, as_tools(tools))

    def run(
        self,
        goal: str,
        *,
        tools: Iterable[Tool] = (),
        max_steps: int = 12,
        system: str | None = None,
        result_limit: int = RESULT_LIMIT,
    ) -> Transcript:
        """Return what happened when the model worked on `goal` with tools that are really run.

        Calls of one reply run in order; errors of the model (an unknown tool, bad arguments) and
        of the tools go back to it as error results. It ends with the first reply that calls
        nothing, is cut short or writes a call as text, or after `max_steps` replies. A tool result
        of more than `result_limit` characters is cut.
        """
        offered = as_tools(tools)
        for tool in offered:
            if tool.function is None:
                raise TypeError(f"tool {tool.name!r} has no function to run; give it function=…")
        if max_steps < 1:
            raise ValueError(f"max_steps is {max_steps}; a run has at least one")
        history, steps = History(), list[Step]()
        history.add_user(goal)
        unavailable = decoy_names() if self.shape == "agent" else frozenset()
        while len(steps) < max_steps:
            reply = self._converse(history, system, offered)
            stopped = why_stopped(reply)
            if stopped:
                return Transcript(steps=(*steps, Step(reply=reply)), stopped_because=stopped)
            calls = history.add_reply(reply)
            results = tuple(
                carry_out(call, offered, unavailable, self.tool_errors, result_limit)
                for call in calls
            )
            history.add_results(results)
            steps.append(Step(reply=reply, results=results))
        return Transcript(steps=tuple(steps), stopped_because="max_steps")

    def _converse(self, history: History, system: str | None, tools: tuple[Tool, ...]) -> ChatReply:
        return self._send(
            ChatRequest(model="", messages=history.messages, system=system, tools=tools)
        )

    def _send(self, request: ChatRequest) -> ChatReply:
        if self.shape == "agent":
            request = agent_shape(request, seed=self._seed or 0)
        if not request.tools and request.tool_choice:  # servers refuse a choice among nothing
            request = request.model_copy(update={"tool_choice": None})
        if self._seed is not None:
            seed = (self._seed + next(self._sent)) % SEEDS
            request = request.model_copy(update={"seed": seed})
        return self._client.send(request)


class Chat:
    """A conversation of one agent; made by `Agent.chat`."""

    def __init__(self, agent: Agent, system: str | None, tools: tuple[Tool, ...]) -> None:
        self._agent = agent
        self._system = system
        self._tools = tools
        self._history = History()

    def send(self, text: str) -> ChatReply:
        """Return the reply to `text`, with all earlier turns before it.

        Tool calls are not run: when the next turn is sent, they are told to be "not run". A turn
        that failed with an EndpointError is forgotten, so that it can be sent again.
        """
        history = self._history.copy()
        history.add_user(text)
        reply = self._agent._converse(history, self._system, self._tools)
        history.add_reply(reply)
        self._history = history
        return reply


def _tool_choice(choice: str | None, tools: tuple[Tool, ...]) -> ToolChoice | None:
    if choice is None:
        return None
    names = [tool.name for tool in tools]
    if choice in names:
        return ToolChoice(mode="tool", name=choice)
    if choice == "auto" or choice == "none":
        return ToolChoice(mode=choice)
    if choice == "required" and tools:
        return ToolChoice(mode="required")
    raise ValueError(
        f"tool_choice is {choice!r} and the tools are {names}: use 'auto', 'none', 'required' "
        "(with tools) or the name of one of them"
    )

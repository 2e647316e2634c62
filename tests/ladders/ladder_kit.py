from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from pytest_agentlimit import Agent
from pytest_agentlimit.agents.agent import Shape
from pytest_agentlimit.chat.messages import ChatReply, ChatRequest, TextBlock, ToolCall
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.endpoints.nulls import null_reply
from pytest_agentlimit.ladders.base import Attempt, Ladder
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, say

Model = Callable[[ChatRequest], Scripted]


class InProcess:
    """Sends requests to a scripted model without a server."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def send(self, request: ChatRequest) -> ChatReply:
        scripted = self.model(request)
        if scripted.error is not None:
            raise AssertionError("an error cannot be scripted without a server")
        called = any(isinstance(block, ToolCall) for block in scripted.blocks)
        stop = scripted.stop_reason or ("tool_use" if called else "end_turn")
        return ChatReply(blocks=scripted.blocks, stop_reason=stop, usage=scripted.usage)


class Null:
    """Sends requests to a null model without a server."""

    def __init__(self, name: str) -> None:
        self.name = name

    def send(self, request: ChatRequest) -> ChatReply:
        return null_reply(self.name, request)


def rng_of(ladder: Ladder, level: int, seed: int) -> Random:
    """The generator of a trial, seeded as the climb does."""
    return Random(f"{ladder.name}:{level}:{seed}")


def attempt(
    ladder: Ladder, model: Model, level: int, seed: int = 0, *, shape: Shape = "bare"
) -> Attempt:
    """What comes of one trial with a scripted model, in this process."""
    agent = Agent(InProcess(model), shape=shape, seed=seed)
    return ladder(agent, level, rng_of(ladder, level, seed))


def null_attempt(
    ladder: Ladder, name: str, level: int, seed: int = 0, *, shape: Shape = "bare"
) -> Attempt:
    """What comes of one trial with a null model, in this process."""
    agent = Agent(Null(name), shape=shape, seed=seed)
    return ladder(agent, level, rng_of(ladder, level, seed))


@contextmanager
def over_http(model: Model, **agent: Any) -> Iterator[Agent]:
    """An agent whose model is served over HTTP; a reply function that raises fails the test."""
    with ScriptedEndpoint(model) as server, open_client(server.endpoint()) as client:
        yield Agent(client, **agent)
        assert not server.problems


def turns(request: ChatRequest) -> int:
    """How often the model has spoken so far."""
    return sum(message.role == "assistant" for message in request.messages)


def bungling(right: Model, turn: int, *instead: Scripted) -> Model:
    """`right` for so many turns; then `instead` in order, of which the last one repeats."""

    def model(request: ChatRequest) -> Scripted:
        late = turns(request) - turn
        return right(request) if late < 0 else instead[min(late, len(instead) - 1)]

    return model


def saying_last(right: Model, template: str) -> Model:
    """`right`, but the answer at the end, its last word, is put into `template`."""

    def model(request: ChatRequest) -> Scripted:
        answer = right(request)
        (block, *more) = answer.blocks
        if more or not isinstance(block, TextBlock):
            return answer
        value = block.text.rstrip(".").split()[-1]
        return say(template.format(int(value) if value.isdecimal() else value))

    return model


def guess_rate(answers: Sequence[object]) -> float:
    """The chance that a guess as likely as the answers themselves is right: equal pairs of all."""
    pairs = len(answers) * (len(answers) - 1)
    return sum(count * (count - 1) for count in Counter(answers).values()) / pairs

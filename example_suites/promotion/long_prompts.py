"""Prompts of a wanted length in tokens, with a fact at the head that the question at the end needs.

Tokens differ from model to model, so two short prompts are sent first, and the server's own counts
say how long a line is. Where a server counts nothing, the length is estimated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from pytest_agentlimit import Agent, Endpoint
from pytest_agentlimit.endpoints.preflight import inspect_endpoint
from pytest_agentlimit.errors import ExpectationFailed

from .judging import last_number, require
from .words import made_up_names

LONG = 64_000
"""Tokens of the long prompt."""
LONG_CONTEXT = 65_536
"""Tokens of context from which on the long prompt and its answer fit."""
UNDECLARED = 4096
"""Tokens of context taken for granted where nobody says: what several servers start with."""
_ROOM = 512
"""Tokens kept free, since the length of a prompt is known to within one in a hundred."""
_FEWEST_LINES = 20
_CUT = 0.8
"""A server that has read less than this share of a prompt has cut it."""


def declared_context(endpoint: Endpoint) -> int | None:
    """Return the tokens of context that the configuration declares, or else the server.

    A null model has no limit and gets the long prompt, so that an audit covers it. None when
    nobody says.
    """
    if endpoint.spec.kind == "null":
        return LONG_CONTEXT
    found = endpoint.spec.context_window or inspect_endpoint(endpoint.spec)["context"]
    return found if isinstance(found, int) else None


@dataclass(frozen=True)
class LongTask:
    """A fact, a log that hides it, a question that needs it, and the number that answers it."""

    fact: str
    seed: int
    names: tuple[str, ...]
    question: str
    answer: int

    def prompt(self, lines: int) -> str:
        """Return the prompt with so many lines of log; shorter ones begin like longer ones."""
        return "\n".join([self.fact, *islice(self._log(), lines), self.question])

    def _log(self) -> Iterator[str]:
        """Yield lines of a log without end; one in twenty is a fact of the same form."""
        rng = Random(self.seed)
        while True:
            sender, taker = rng.sample(self.names, 2)
            clock, jars = f"{rng.randrange(24):02}:{rng.randrange(60):02}", rng.randint(11, 99)
            if rng.random() < 0.05:
                yield f"{clock} The {sender} store holds {1000 * rng.randint(2, 9)} bottles."
            else:
                yield f"{clock} The cart from {sender} brought {jars} jars to {taker}."


def long_task(rng: Random) -> LongTask:
    """Return a task whose answer is a sum that stands nowhere: one of 8 x 899.

    Thousands of bottles are told at the head, hundreds are added at the end, and other stores hold
    thousands of bottles as well.
    """
    store, *names = made_up_names(rng, 30)
    held, more = rng.randrange(2, 10), rng.randint(101, 999)
    return LongTask(
        fact=f"Keep this in mind: the {store} store holds {1000 * held} bottles. Here is a log.",
        seed=rng.getrandbits(32),
        names=tuple(names),
        question=f"The {store} store, whose bottles were told before the log, now gets {more} "
        "more. How many bottles does it hold then? Answer with the number only.",
        answer=1000 * held + more,
    )


def use_head_of(agent: Agent, task: LongTask, tokens: int, context: int, most: int | None) -> None:
    """Send `task` in about `tokens` tokens, and require that its head was read and used.

    `context` is what the endpoint declares, and `most` the output tokens it is configured for. A
    prompt that the server has cut is the configuration's fault, even if the answer is right.
    """
    __tracebackhide__ = True
    lines, counted = _lines_for(agent, task, tokens)
    room = max(context - tokens - _ROOM, _ROOM)
    reply = agent.ask(task.prompt(lines), max_tokens=min(most or room, room))
    read = reply.usage.input_tokens
    if counted and read is not None and read < _CUT * tokens:
        raise ExpectationFailed(
            f"the server read {read} of about {tokens} tokens and said nothing of the rest: it "
            f"cut the prompt. {context} tokens of context are declared; give the server as many, "
            "or declare what it has\nblame: config",
            blame="config",
        )
    reply.expect_no_tool_call()
    wrong = (
        f"the model did not use what stands at the head of a prompt of about {tokens} tokens: "
        f"{task.answer} is right"
    )
    require(last_number(reply.text) == task.answer, reply, wrong)


def _lines_for(agent: Agent, task: LongTask, tokens: int) -> tuple[int, bool]:
    """Return how many lines of log make a prompt of `tokens`, and whether that was counted."""
    few, many = _FEWEST_LINES // 2, _FEWEST_LINES // 2 + max(tokens // 160, _FEWEST_LINES)
    base, longer = (agent.ask(task.prompt(lines)).usage.input_tokens for lines in (few, many))
    characters = (len(task.prompt(many)) - len(task.prompt(few))) / (many - few)
    per_line = characters / 2.5
    counted = False
    if base is not None and longer is not None:
        measured = (longer - base) / (many - few)
        counted = characters / 10 < measured < characters
        per_line = measured if counted else per_line
    head = base if counted and base is not None else few * per_line
    return max(few + int((tokens - head) / per_line), _FEWEST_LINES), counted

"""dag(n): reach a number through n functions of a hidden graph, among n that lead nowhere.

Planning over tools, after FuncBenchGen (arXiv 2509.26553, METHOD 6).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.chat.messages import Tool, ToolCall

from .base import RUNGS, Attempt, FailureMode, early_end, failed, passed
from .judging import run_calls
from .material import code, heading, keyed_number, last_code, misuse, object_schema, words

DIGITS = 5


class Node(NamedTuple):
    """A function: it turns numbers of some kinds into the number of another kind."""

    name: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Graph:
    """What a task hides: the kinds known at first, the functions, and the numbers of all kinds.

    A function gives a keyed number of its arguments, whatever they are: wrong arguments give a
    wrong number and no error. Guess: the target is one of 90,000 and comes of nothing but the n
    calls, each of which needs what others returned.
    """

    key: bytes
    given: tuple[str, ...]
    core: tuple[Node, ...]
    """The functions that are needed, each after those it depends on; the last gives the target."""
    distractors: tuple[Node, ...]
    values: dict[str, int]
    """The number of each kind that is given or needed."""

    @property
    def target(self) -> str:
        """The kind asked for."""
        return self.core[-1].output

    def result(self, node: Node, arguments: dict[str, int]) -> int:
        """Return what `node` gives for `arguments`, a number for each of its inputs."""
        listed = ",".join(f"{kind}={int(arguments[kind])}" for kind in node.inputs)
        return keyed_number(self.key, f"{node.name}:{listed}", DIGITS)

    def right(self, node: Node) -> dict[str, int]:
        """Return the arguments of a needed function."""
        return {kind: self.values[kind] for kind in node.inputs}


def drawn_graph(rng: Random, size: int) -> Graph:
    """Return a random graph of `size` needed functions and as many that are not.

    Its longest path has ceil(size / 2) links: a spine, with every other function feeding it from
    the side (size 1 has a function alone).
    """
    names = iter(words(rng, 4 * size + 2))
    given = (next(names), next(names))
    spine = [Node(next(names), (given[0],), next(names))]
    for _ in range(math.ceil(size / 2) if size > 1 else 0):
        spine.append(Node(next(names), (spine[-1].output,), next(names)))
    core: list[Node] = []
    fed = set(rng.sample(range(1, len(spine)), size - len(spine)))
    for place, node in enumerate(spine):
        inputs = list(node.inputs)
        if place in fed:
            # Fed by what was there two links earlier, so that no path grows longer than the spine.
            source = rng.choice((*given, *(earlier.output for earlier in spine[: place - 1])))
            core.append(Node(next(names), (source,), next(names)))
            inputs.insert(rng.randrange(2), core[-1].output)
        core.append(node._replace(inputs=tuple(inputs)))
    distractors = _distractors(rng, [*given, *(node.output for node in core)], names, size)
    values = {kind: int(code(rng, DIGITS)) for kind in given}
    graph = Graph(rng.randbytes(16), given, tuple(core), distractors, values)
    for node in graph.core:
        values[node.output] = graph.result(node, graph.right(node))
    return graph


def _distractors(
    rng: Random, kinds: list[str], names: Iterator[str], count: int
) -> tuple[Node, ...]:
    """Return functions of the kinds there are, or of each other's, that give kinds of no use."""
    found: list[Node] = []
    for _ in range(count):
        pool = [*kinds, *(node.output for node in found)]
        inputs = tuple(rng.sample(pool, rng.randint(1, 2)))
        found.append(Node(next(names), inputs, next(names)))
    return tuple(found)


@dataclass(frozen=True)
class DagTask:
    """One instance: what to send, and the graph behind it."""

    prompt: str
    tools: tuple[Tool, ...]
    graph: Graph
    max_steps: int


@dataclass(frozen=True)
class Dag:
    """Level n: 2n tools, of which n have to be called in an order to be found out.

    Passes when the number asked for is exact. Calls of tools that are not needed do no harm;
    `measures` count them. Rungs end at 48, since some servers take no more than 128 tools.

    Fails as no_tool_call, malformed_call, wrong_tool (a tool that leads nowhere, and nothing right
    after it), wrong_args (a number nobody has told), stale_value (the number of another kind),
    skipped_step (a number, before all calls were made), loop, gave_up, wrong_final (all calls
    made, another number or none), refusal.
    """

    levels: tuple[int, ...] = RUNGS[:-1]
    name = "dag"
    unit = "functions"

    def __call__(self, agent: Agent, level: int, rng: Random) -> Attempt:
        """Let `agent` find the number of a new graph of `level` functions."""
        task = self.task(level, rng)
        run = agent.run(task.prompt, tools=task.tools, max_steps=task.max_steps)
        return self.judge(task, run)

    def task(self, level: int, rng: Random) -> DagTask:
        """Return an instance that depends on `level` and `rng` alone."""
        start = heading(rng, self.name, level)
        graph = drawn_graph(rng, level)
        known = " and ".join(f"{kind} = {graph.values[kind]}" for kind in graph.given)
        prompt = (
            f"{start} Find the number called {graph.target}. Known at the start: {known}. Each "
            "tool takes numbers and returns another number, as its description says. Call the "
            f"tools that lead from the known numbers to {graph.target}. Pass on the numbers "
            "exactly as they were told or returned; wrong numbers give wrong results and no "
            f"error. Not every tool is needed. When you have {graph.target}, reply with that "
            "number only."
        )
        tools = [_tool(graph, node) for node in (*graph.core, *graph.distractors)]
        rng.shuffle(tools)
        return DagTask(prompt, tuple(tools), graph, 2 * level + 4)

    def judge(self, task: DagTask, transcript: Transcript) -> Attempt:
        """Return what came of it, from the number in the last words and the calls made."""
        reached = _reached(task, transcript)
        distractors = {node.name for node in task.graph.distractors}
        measures: dict[str, float] = {
            "right_calls": len(reached.right),
            "wasted_calls": len(transcript.calls) - len(reached.right),
            "distractor_calls": sum(call.name in distractors for call in transcript.calls),
        }
        value, answer = task.graph.values[task.graph.target], _answer(transcript)
        if answer == str(value):
            return passed(transcript, **measures)
        if ended := early_end(transcript, **measures):
            return ended
        mode, detail = _why_not(task, reached, transcript)
        return failed(mode, detail, transcript, **measures)


def _tool(graph: Graph, node: Node) -> Tool:
    def function(**arguments: int) -> dict[str, int]:
        return {node.output: graph.result(node, arguments)}

    integer: dict[str, Any] = {"type": "integer"}
    description = f"Takes {' and '.join(node.inputs)}, returns {node.output}."
    schema = object_schema(**dict.fromkeys(node.inputs, integer))
    return Tool(node.name, description, schema, function=function)


class Reached(NamedTuple):
    """The needed functions that were called rightly, and the first mistake after the last one."""

    right: set[str]
    trouble: tuple[FailureMode, str] | None


def _reached(task: DagTask, transcript: Transcript) -> Reached:
    needed = {node.name: node for node in task.graph.core}
    told = {task.graph.values[kind] for kind in task.graph.given}
    right, trouble = set[str](), None
    for step in transcript.steps:
        for call, result in zip(step.reply.tool_calls, step.results, strict=False):
            wrong = misuse(call, task.tools)
            if not wrong and call.name in needed:
                wrong = _wrong_numbers(call, task.graph.right(needed[call.name]), told)
            elif not wrong:
                wrong = "wrong_tool", f"{call.name} leads nowhere"
            if wrong:
                trouble = trouble or wrong
            elif call.name not in right:
                right, trouble = right | {call.name}, None
            told |= _numbers(result.content)
    return Reached(right, trouble)


def _wrong_numbers(
    call: ToolCall, right: dict[str, int], told: set[int]
) -> tuple[FailureMode, str] | None:
    """Return what is wrong with the arguments of a needed function, given what was told so far."""
    wrong = {kind: call.arguments[kind] for kind in right if call.arguments[kind] != right[kind]}
    if not wrong:
        return None
    mode: FailureMode = "stale_value" if told.issuperset(wrong.values()) else "wrong_args"
    kind, number = next(iter(wrong.items()))
    return mode, f"{call.name} took {number} for {kind}, which is {right[kind]}"


def _numbers(content: str) -> set[int]:
    """Return the number in a result; nothing for an error."""
    try:
        return {int(value) for value in json.loads(content).values()}
    except (ValueError, AttributeError):
        return set()


def _answer(transcript: Transcript) -> str | None:
    answered = transcript.stopped_because == "answered"
    return last_code(transcript.final_text, DIGITS) if answered else None


def _why_not(task: DagTask, reached: Reached, transcript: Transcript) -> tuple[FailureMode, str]:
    graph, answer = task.graph, _answer(transcript)
    where = f"after {len(reached.right)} of {len(graph.core)} right calls"
    if not run_calls(transcript):
        return "no_tool_call", "answered without a call"
    if len(reached.right) == len(graph.core):
        said = f"{graph.target} is {graph.values[graph.target]}, the answer {answer or 'held none'}"
        return "wrong_final", said
    if reached.trouble:
        return reached.trouble
    if answer:
        return "skipped_step", f"answered with a number {where}"
    return "gave_up", f"stopped {where}: {transcript.stopped_because}"

"""The agent of a blackout: it works on small tasks, and repeats a request that fails."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.chat.messages import ChatReply, ChatRequest
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.fallback import bounded, moves_on, overflowed
from pytest_agentlimit.endpoints.timing import Exchange
from pytest_agentlimit.errors import EndpointError
from pytest_agentlimit.text import one_line

from .blackout_tasks import MOST_STEPS, FileTask, opening, tools_of

REPEATS = 2
"""How often a request that failed is sent again, at once, as agent programs do."""
_LEAST_S = 0.02
"""With less time left than this, nothing is sent."""


class Patient:
    """A sender that repeats a request that failed, as agent programs do: at once, at most twice.

    What no second try would mend, such as a wrong key, is not repeated. A request and its
    repetitions are one exchange for the observer of `client`, from the first try on: that is how
    long its user waits. `left_s` tells how many seconds there are for all that is still to come.
    """

    def __init__(self, client: EndpointClient, left_s: Callable[[], float] = lambda: math.inf):
        self._client = client
        self._left_s = left_s
        self._tell, client.on_exchange = client.on_exchange, self._take
        self._tries: list[Exchange] = []

    def send(self, request: ChatRequest) -> ChatReply:
        """Return the reply, or raise the EndpointError of the last try."""
        self._tries.clear()
        try:
            return self._persist(request)
        finally:
            if self._tries and self._tell is not None:
                first, last = self._tries[0], self._tries[-1]
                self._tell(last.model_copy(update={"started": first.started}))

    def _persist(self, request: ChatRequest) -> ChatReply:
        for more in reversed(range(REPEATS + 1)):
            left_s = self._left_s()
            if left_s < _LEAST_S:
                break
            try:
                return bounded(self._client, left_s).send(request)
            except EndpointError as error:
                if not more or overflowed(error) or not moves_on(error):
                    raise
        raise EndpointError("the time was used up", kind="out_of_time", blame="config")

    def _take(self, exchange: Exchange) -> None:
        self._tries.append(exchange)


class Worked(NamedTuple):
    """What became of the tasks; `problems` has a line for each that was not done."""

    finished: int
    problems: tuple[str, ...]
    stopped: bool
    """By Ctrl-C, in the middle."""


def work_on(sender: Patient, tasks: Sequence[FileTask], rng: Random) -> Worked:
    """Return how many tasks an agent did, each in a folder of its own; Ctrl-C ends it."""
    finished, problems = 0, []
    try:
        for task in tasks:
            wrong = _worked_on(sender, task, rng)
            finished += not wrong
            problems += [f"{task.name}: {wrong}"] if wrong else []
    except KeyboardInterrupt:
        return Worked(finished, (*problems, f"{task.name}: stopped"), True)
    return Worked(finished, tuple(problems), False)


def _worked_on(sender: Patient, task: FileTask, rng: Random) -> str:
    """Return what is wrong with the work, "" when it is done."""
    with tempfile.TemporaryDirectory(prefix="agentlimit-blackout-") as folder:
        workspace = Workspace(Path(folder) / "workspace")
        task.lay_out(workspace)
        try:
            run = Agent(sender).run(
                task.goal, tools=tools_of(workspace), max_steps=MOST_STEPS, system=opening(rng)
            )
        except EndpointError as error:
            return one_line(str(error), 300)
        wrong = task.wrong(workspace, run.final_text)
        return f"{wrong} ({_ended(run)})" if wrong else ""


def _ended(run: Transcript) -> str:
    if run.stopped_because == "leaked_call":
        return "its last reply was a tool call written as text, which nobody runs"
    replies = "1 reply" if len(run.steps) == 1 else f"{len(run.steps)} replies"
    return f"the run ended after {replies}: {run.stopped_because}"

"""load(n): serve n requests at once within a latency budget."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.chat.messages import ChatReply
from pytest_agentlimit.errors import DeadlineExceeded, EndpointError, Unreachable, UsageProblem
from pytest_agentlimit.measure.latency import percentile
from pytest_agentlimit.text import one_line
from pytest_agentlimit.units import duration_ms

from .base import RUNGS, Attempt, FailureMode, failed, passed
from .material import heading

_PERCENT = 95
_OVERLOAD = ("rate_limit", "overloaded", "server_error", "cut_stream", "stream_error")
_PROMPT = "Name three things that are made of wood, in one short sentence."


class Served(NamedTuple):
    """What came of one request."""

    state: Literal["answered", "late", "refused"]
    """`late`: a deadline passed; `refused`: an error, or a reply with nothing in it."""
    seconds: float
    """From sending to the end of the reply; infinite when there was none."""
    why: str = ""


@dataclass(frozen=True)
class Load:
    """Level n: n short requests are sent at once, and all of them waited for.

    Passes when the 95th percentile (nearest rank) of their times lies within `budget` ("8s");
    below 20 requests that is the slowest. A request that is refused has no end, and is not sent
    again: a box that refuses has found its ceiling. What a reply says is not judged, as long as
    it says something.

    Fails as timeout or transport_error (the refused alone are more than the percentile forgives);
    the engine is to blame for both.

    Measures: requests, refused, late (past a deadline), over (the budget, refused and late ones
    included), and of those answered p50_s and max_s, in seconds.

    Climb it with one trial at a time: trials side by side would load the box together.
    """

    budget: str = "8s"
    prompt: str = _PROMPT
    max_tokens: int | None = 64
    """The longest reply, so that requests cost alike."""
    levels: tuple[int, ...] = RUNGS
    name: ClassVar[str] = "load"
    unit: ClassVar[str] = "requests in flight"
    alone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        try:
            duration_ms(self.budget)
        except ValueError as error:
            raise UsageProblem(f"the ladder load has no budget to keep: {error}") from None

    def __call__(self, agent: Agent, level: int, rng: random.Random) -> Attempt:
        """Let `agent` send `level` requests at once.

        An EndpointError passes through when load is not the reason: a wrong key or model, or no
        connection for any of them.
        """
        # A nonce at the start of each: no server can answer one from the cache of another.
        prompts = [f"{heading(rng, self.name, level)} {self.prompt}" for _ in range(level)]
        with ThreadPoolExecutor(level, thread_name_prefix="agentlimit-load") as threads:
            ended = list(threads.map(lambda prompt: self._ask(agent, prompt), prompts))
        return self.judge([_served(each) for each in _about_load(ended)])

    def judge(self, served: Sequence[Served]) -> Attempt:
        """Return what came of requests that were in flight together, at least one."""
        budget_s = duration_ms(self.budget) / 1000
        p95_s = percentile([each.seconds for each in served], _PERCENT)
        refused = [each for each in served if each.state == "refused"]
        measures = _measures(served, budget_s)
        if p95_s <= budget_s:
            return passed(None, **measures)
        # Were those refused enough to fail it, had all others been quick?
        alone = percentile(
            [each.seconds if each.state == "refused" else 0.0 for each in served], _PERCENT
        )
        mode: FailureMode = "transport_error" if alone > budget_s else "timeout"
        over = f"{measures['over']:.0f} of {len(served)} requests took more than {self.budget}"
        why = f"; {len(refused)} were refused: {refused[0].why}" if refused else ""
        return failed(mode, over + why, None, **measures).model_copy(update={"blame": "engine"})

    def _ask(self, agent: Agent, prompt: str) -> ChatReply | EndpointError:
        try:
            return agent.ask(prompt, max_tokens=self.max_tokens)
        except EndpointError as error:
            return error


def _about_load(
    ended: list[ChatReply | EndpointError],
) -> list[ChatReply | EndpointError]:
    """Return `ended`, or raise the first error that load does not explain."""
    there = any(not isinstance(each, Unreachable) for each in ended)
    for each in ended:
        if not isinstance(each, EndpointError) or isinstance(each, DeadlineExceeded):
            continue
        if each.kind not in _OVERLOAD and not (there and isinstance(each, Unreachable)):
            raise each
    return ended


def _served(ended: ChatReply | EndpointError) -> Served:
    if isinstance(ended, EndpointError):
        state: Literal["late", "refused"] = (
            "late" if isinstance(ended, DeadlineExceeded) else "refused"
        )
        return Served(state, float("inf"), one_line(str(ended), 200))
    if not ended.blocks:
        return Served("refused", float("inf"), "the reply was empty")
    return Served("answered", ended.timing.total_s)


def _measures(served: Sequence[Served], budget_s: float) -> dict[str, float]:
    """Return the numbers of an attempt; times of answered requests only, so all are finite."""
    states = [each.state for each in served]
    times = [each.seconds for each in served if each.state == "answered"]
    measures: dict[str, float] = {
        "requests": len(served),
        "refused": states.count("refused"),
        "late": states.count("late"),
        "over": sum(each.seconds > budget_s for each in served),
    }
    if times:
        measures |= {"p50_s": percentile(times, 50), "max_s": max(times)}
    return measures

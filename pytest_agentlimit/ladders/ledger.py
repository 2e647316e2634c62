"""ledger(n): keep a running sum over n turns, each of which tells one word of a price table.

Long execution without any planning, after the dictionary sum of arXiv 2509.09677 (METHOD 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.chat.messages import Tool
from pytest_agentlimit.errors import ToolProblem

from .base import RUNGS, Attempt, FailureMode, early_end, failed, passed
from .judging import run_calls
from .material import heading, misuse, object_schema, words

_WORDS = 20
_TOTAL: dict[str, Any] = {"type": "integer", "description": "The running total."}


@dataclass(frozen=True)
class LedgerTask:
    """One instance: what to send, what is right, and the totals committed so far."""

    prompt: str
    tools: tuple[Tool, ...]
    prices: dict[str, int]
    opening: int
    keys: tuple[str, ...]
    """The words of the turns, in order."""
    max_steps: int
    committed: list[int]
    """The totals the tool took, in order: the final state."""

    @property
    def totals(self) -> list[int]:
        """The right total of each turn."""
        return [
            self.opening + sum(self.prices[key] for key in self.keys[:turn])
            for turn in range(1, len(self.keys) + 1)
        ]


@dataclass(frozen=True)
class Ledger:
    """Level n: n turns, each adds the price of one word to the total and commits it.

    Passes when the last of the n totals is exact. The tool never says whether a total is right,
    and takes one a turn, so there is nothing to try out. `measures` hold the first wrong turn.

    Guess: a price is one of 1,900 values, and no total stands in the prompt.

    Fails as no_tool_call, malformed_call, wrong_tool, stale_value (the total was left as it was,
    or the word of an earlier turn was added again), wrong_args (another wrong total), loop,
    gave_up (stopped before the last turn), refusal.
    """

    levels: tuple[int, ...] = RUNGS
    name = "ledger"
    unit = "turns"

    def __call__(self, agent: Agent, level: int, rng: Random) -> Attempt:
        """Let `agent` keep a new ledger of `level` turns."""
        task = self.task(level, rng)
        run = agent.run(task.prompt, tools=task.tools, max_steps=task.max_steps)
        return self.judge(task, run)

    def task(self, level: int, rng: Random) -> LedgerTask:
        """Return an instance that depends on `level` and `rng` alone."""
        start = heading(rng, self.name, level)
        names = words(rng, _WORDS)
        prices = dict(zip(names, rng.sample(range(100, 2000), _WORDS), strict=True))
        # Never an opening of 0: then the total of the first turn would stand in the table.
        opening = rng.randrange(2000, 10_000)
        keys = tuple(rng.choices(names, k=level))
        committed: list[int] = []

        def commit(total: int) -> dict[str, str]:
            if len(committed) == level:
                raise ToolProblem("the ledger is closed; nothing more is to be done")
            committed.append(total)
            turn = len(committed)
            return {"status": "closed"} if turn == level else {"next_word": keys[turn]}

        table = "\n".join(f"{name}: {price}" for name, price in prices.items())
        prompt = (
            f"{start} Keep a running total with the tool commit. Prices:\n{table}\n\n"
            f'The total is {opening} at the start. The first word is "{keys[0]}". In each turn, '
            "add the price of the word to the total and call commit with the new total. The "
            "result tells the next word: add its price as well and call commit again, one call "
            "at a time. When the result says closed, reply with the word DONE."
        )
        tool = Tool("commit", "Commit the total.", object_schema(total=_TOTAL), function=commit)
        return LedgerTask(
            prompt, (tool,), prices, opening, keys, max_steps=2 * level + 4, committed=committed
        )

    def judge(self, task: LedgerTask, transcript: Transcript) -> Attempt:
        """Return what came of it, from the committed totals alone."""
        pairs = enumerate(zip(task.committed, task.totals, strict=False), start=1)
        wrong_turn = next((turn for turn, (got, right) in pairs if got != right), None)
        measures: dict[str, float] = {"turns": len(task.committed)}
        if wrong_turn is not None:
            measures["first_wrong_turn"] = wrong_turn
        if len(task.committed) == len(task.keys) and task.committed[-1] == task.totals[-1]:
            return passed(transcript, **measures)
        if ended := early_end(transcript, **measures):
            return ended
        mode, detail = _why_not(task, wrong_turn, transcript)
        return failed(mode, detail, transcript, **measures)


def _why_not(
    task: LedgerTask, wrong_turn: int | None, transcript: Transcript
) -> tuple[FailureMode, str]:
    """Return why the last total is not there or not right; the first mistake counts."""
    calls = run_calls(transcript)
    if not calls:
        return "no_tool_call", "no total was committed"
    if wrong_turn is not None:
        return _wrong_total(task, wrong_turn)
    last = misuse(calls[-1], task.tools)
    where = f"after turn {len(task.committed)} of {len(task.keys)}"
    return last or ("gave_up", f"stopped {where}: {transcript.stopped_because}")


def _wrong_total(task: LedgerTask, turn: int) -> tuple[FailureMode, str]:
    """Return what is wrong with the first wrong total: the total before it was right."""
    before = task.totals[turn - 2] if turn > 1 else task.opening
    got, right = task.committed[turn - 1], task.totals[turn - 1]
    detail = f"turn {turn}: committed {got}, the total is {right}"
    earlier = {before + task.prices[key] for key in task.keys[: turn - 1]}
    return ("stale_value" if got == before or got in earlier else "wrong_args"), detail

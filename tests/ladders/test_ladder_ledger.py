from __future__ import annotations

import json
import re

import pytest
from ladder_kit import Model, attempt, bungling, guess_rate, rng_of, saying_last, turns
from pytest_agentlimit.example_suites.limits.oracles.ledger import solve

from pytest_agentlimit.chat.messages import ChatRequest, ToolCall
from pytest_agentlimit.errors import ToolProblem
from pytest_agentlimit.ladders.ledger import Ledger, LedgerTask
from pytest_agentlimit.testing import Scripted, call, calls, say

LEDGER = Ledger()
QUIT = say("I have to stop here.")


def task_of(level: int, seed: int = 0) -> LedgerTask:
    return LEDGER.task(level, rng_of(LEDGER, level, seed))


FOUR = task_of(4)


def off_by(amount: int, turn: int) -> Model:
    """The oracle, but for a slip in one turn, which it carries on."""

    def model(request: ChatRequest) -> Scripted:
        answer = solve(request)
        block = answer.blocks[0]
        if turns(request) != turn or not isinstance(block, ToolCall):
            return answer
        return call("commit", total=block.arguments["total"] + amount)

    return model


def test_the_tool_tells_the_next_word_and_never_whether_a_total_is_right() -> None:
    (commit,) = FOUR.tools
    right = [commit(total=total) for total in FOUR.totals]
    again = task_of(4)
    wrong = [again.tools[0](total=7) for _ in range(4)]
    assert right == wrong
    assert right == [*({"next_word": key} for key in FOUR.keys[1:]), {"status": "closed"}]
    with pytest.raises(ToolProblem, match="closed"):
        commit(total=1)


def test_the_first_total_is_no_number_of_the_prompt_and_no_guess() -> None:
    tasks = [task_of(1, seed) for seed in range(1500)]
    for task in tasks[:100]:
        assert str(task.totals[-1]) not in re.findall(r"\d+", task.prompt)
        assert len(set(task.prices.values())) == 20
    # Even who knows the total at the start has to guess the price.
    assert guess_rate([task.totals[0] - task.opening for task in tasks]) < 1e-3


def stale(turn: int) -> list[Scripted]:
    """The total of the turn before once more, then words."""
    return [call("commit", total=FOUR.totals[turn - 2] if turn > 1 else FOUR.opening), QUIT]


def old_word() -> list[Scripted]:
    """In the third turn, the word of the first is added once more."""
    return [call("commit", total=FOUR.totals[1] + FOUR.prices[FOUR.keys[0]]), QUIT]


@pytest.mark.parametrize(
    ("mode", "turn", "instead"),
    [
        ("no_tool_call", 0, [say("DONE")]),
        ("malformed_call", 1, [calls(("commit", '{"total": ')), QUIT]),
        ("malformed_call", 1, [call("commit", total="much"), QUIT]),
        ("wrong_tool", 1, [call("add", total=FOUR.totals[1]), QUIT]),
        ("wrong_args", 1, [call("commit", total=7), QUIT]),
        ("wrong_args", 0, [call("commit", total=FOUR.totals[-1]), QUIT]),
        ("stale_value", 0, stale(1)),
        ("stale_value", 1, stale(2)),
        ("stale_value", 2, old_word()),
        ("loop", 1, [call("commit", total=7)]),
        ("gave_up", 2, [QUIT]),
        ("gave_up", 3, [say(f"The last total is {FOUR.totals[-1]}.")]),
        ("refusal", 1, [Scripted(stop_reason="refusal")]),
    ],
)
def test_a_bungler_is_told_by_what_it_did(mode: str, turn: int, instead: list[Scripted]) -> None:
    came = attempt(LEDGER, bungling(solve, turn, *instead), 4)
    assert came.mode == mode
    assert came.detail


@pytest.mark.parametrize("turn", [1, 2, 4])
def test_the_first_wrong_turn_is_measured(turn: int) -> None:
    came = attempt(LEDGER, off_by(10, turn - 1), 4)
    assert came.mode == "wrong_args"
    assert came.measures == {"turns": 4, "first_wrong_turn": turn}
    assert f"turn {turn}:" in came.detail


def test_a_slip_that_was_made_good_passes_and_is_measured() -> None:
    model = off_by(-10, 2)
    slip = off_by(10, 1)
    came = attempt(LEDGER, lambda r: slip(r) if turns(r) == 1 else model(r), 4)
    assert came.passed
    assert came.measures["first_wrong_turn"] == 2


def test_all_calls_at_once_are_made_without_the_words() -> None:
    guesses = calls(*(("commit", json.dumps({"total": FOUR.totals[0] + n})) for n in range(4)))
    assert attempt(LEDGER, bungling(solve, 0, guesses, say("DONE")), 4).mode == "wrong_args"


def test_a_commit_after_the_end_changes_nothing() -> None:
    assert attempt(LEDGER, bungling(solve, 4, call("commit", total=1), say("DONE")), 4).passed


@pytest.mark.parametrize("template", ["{}", "Everything is committed.", "Fertig!", "0"])
def test_wording_does_not_matter(template: str) -> None:
    assert attempt(LEDGER, saying_last(solve, template), 4).passed

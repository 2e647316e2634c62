from __future__ import annotations

import pytest
from ladder_kit import attempt, bungling, guess_rate, rng_of, saying_last
from pytest_agentlimit.example_suites.limits.oracles.chain import solve

from pytest_agentlimit.ladders.chain import Chain
from pytest_agentlimit.testing import Scripted, call, calls, say

CHAIN = Chain()
TOKENS = CHAIN.task(3, rng_of(CHAIN, 3, 0)).trail.tokens
QUIT = say("I have to stop here.")


def test_the_code_is_told_by_the_last_hop_alone() -> None:
    task = CHAIN.task(4, rng_of(CHAIN, 4, 0))
    (hop,) = task.tools
    told = [hop(token=token) for token in task.trail.tokens]
    assert told == [
        *({"token": token} for token in task.trail.tokens[1:]),
        {"code": task.trail.code},
    ]
    assert not any(secret in task.prompt for secret in (*task.trail.tokens[1:], task.trail.code))


def test_a_guess_is_hopeless() -> None:
    codes = [CHAIN.task(1, rng_of(CHAIN, 1, seed)).trail.code for seed in range(500)]
    assert guess_rate(codes) < 1e-3


@pytest.mark.parametrize(
    ("mode", "turn", "instead"),
    [
        ("no_tool_call", 0, [say("The code is 123456.")]),
        ("no_tool_call", 0, [Scripted()]),
        ("malformed_call", 1, [calls(("hop", '{"token": ')), QUIT]),
        ("malformed_call", 1, [call("hop", tokens=list(TOKENS)), QUIT]),
        ("wrong_tool", 1, [call("jump", token=TOKENS[1]), QUIT]),
        ("wrong_args", 1, [call("hop", token="qqqqqq"), QUIT]),
        ("wrong_args", 1, [call("hop", token=TOKENS[2]), QUIT]),
        ("stale_value", 2, [call("hop", token=TOKENS[0]), QUIT]),
        ("stale_value", 2, [call("hop", token=TOKENS[1]), call("hop", token=TOKENS[0])] * 8),
        ("skipped_step", 2, [say("The code is 123456.")]),
        ("loop", 1, [call("hop", token=TOKENS[0])]),
        ("gave_up", 2, [QUIT]),
        ("gave_up", 2, [Scripted()]),
        ("wrong_final", 3, [say("The code is 123456.")]),
        ("wrong_final", 3, [say("I have found the code.")]),
        ("refusal", 1, [Scripted(stop_reason="refusal")]),
    ],
)
def test_a_bungler_is_told_by_what_it_did(mode: str, turn: int, instead: list[Scripted]) -> None:
    came = attempt(CHAIN, bungling(solve, turn, *instead), 3)
    assert came.mode == mode
    assert came.detail
    assert came.measures["hops"] == turn


def test_a_mistake_that_was_made_good_is_not_the_reason() -> None:
    mended = [call("hop", token="qqqqqq"), call("hop", token=TOKENS[1]), QUIT]
    assert attempt(CHAIN, bungling(solve, 1, *mended), 3).mode == "gave_up"


@pytest.mark.parametrize("stop", ["max_tokens", "refusal"])
def test_a_code_in_a_reply_that_came_to_no_proper_end_does_not_count(stop: str) -> None:
    code = CHAIN.task(3, rng_of(CHAIN, 3, 0)).trail.code
    came = attempt(CHAIN, bungling(solve, 3, say(code, stop_reason=stop)), 3)
    assert came.mode == ("refusal" if stop == "refusal" else "gave_up")
    assert came.blame == ("model" if stop == "refusal" else "config")


def test_calls_too_many_do_no_harm_and_are_counted() -> None:
    extra = [call("hop", token=TOKENS[0]), call("hop", token="qqqqqq")]
    rest = [call("hop", token=TOKENS[1]), call("hop", token=TOKENS[2])]
    code = CHAIN.task(3, rng_of(CHAIN, 3, 0)).trail.code
    came = attempt(CHAIN, bungling(solve, 1, *extra, *rest, say(code)), 3)
    assert came.passed
    assert came.measures == {"hops": 3, "wasted_calls": 2}


@pytest.mark.parametrize(
    "template",
    ["{}", "**{:,}**", "Code: {} (3 hops)", "I hopped 3 times.\n\n\\boxed{{{}}}", "是{}。"],
)
def test_wording_does_not_matter(template: str) -> None:
    assert attempt(CHAIN, saying_last(solve, template), 3).passed


@pytest.mark.parametrize("template", ["{}1", "1{}", "{} or 123456", "x{}"])
def test_another_code_is_wrong_in_any_words(template: str) -> None:
    assert attempt(CHAIN, saying_last(solve, template), 3).mode == "wrong_final"

from __future__ import annotations

from collections import Counter

import pytest
from ladder_kit import Model, attempt, bungling, guess_rate, rng_of, saying_last
from pytest_agentlimit.example_suites.limits.oracles import chain
from pytest_agentlimit.example_suites.limits.oracles.conversation import calls_made, held, results
from pytest_agentlimit.example_suites.limits.oracles.recovery import solve

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.errors import ToolProblem, UsageProblem
from pytest_agentlimit.ladders.recovery import KINDS, Recovery, RecoveryTask
from pytest_agentlimit.testing import Scripted, call, calls, say

RECOVERY = Recovery()
QUIT = say("I have to stop here.")


def task_of(level: int, seed: int = 0) -> RecoveryTask:
    return RECOVERY.task(level, rng_of(RECOVERY, level, seed))


TOKENS = task_of(4).trail.tokens


def failed_last(request: ChatRequest) -> bool:
    told = results(request)
    return bool(told) and not held(told[-1])


def same_again(request: ChatRequest) -> Scripted:
    return call("hop", token=calls_made(request)[-1].arguments["token"])


def after_a_fault(instead: Model) -> Model:
    """Right until the tool fails; then `instead`."""
    return lambda request: instead(request) if failed_last(request) else chain.solve(request)


@pytest.mark.parametrize("level", RECOVERY.levels)
def test_each_fault_has_a_hop_of_its_own_and_kinds_come_evenly(level: int) -> None:
    faults = task_of(level).faults
    assert len(faults) == level
    counts = Counter(faults.values())
    assert max(counts.values()) - min(counts[kind] for kind in KINDS) <= 1


def test_what_the_faults_look_like() -> None:
    task = task_of(4)
    (hop,) = task.tools
    seen = {}
    for token, kind in dict(task.faults).items():
        try:
            seen[kind] = str(hop(token=token))
        except ToolProblem as problem:
            seen[kind] = str(problem)
    assert seen["server_error"].startswith("HTTP 500")
    assert seen["timeout"].startswith("timeout")
    assert seen["empty"] == "{}"
    assert "Call hop again with the same token and with the key" in seen["validation"]
    assert list(task.faults.values()) == ["validation"]


def test_a_validation_error_stays_until_its_hint_is_followed() -> None:
    task = task_of(4)
    token = next(token for token, kind in task.faults.items() if kind == "validation")
    (hop,) = task.tools
    for key in ("", "wrong"):
        with pytest.raises(ToolProblem, match="key") as problem:
            hop(token=token, key=key)
    key = str(problem.value).split('"')[-2]
    assert hop(token=token, key=key) == task.trail.after(token)


def test_keys_differ_so_that_none_can_be_carried_on() -> None:
    task = task_of(8)
    (hop,) = task.tools
    keys = set()
    for token, kind in task.faults.items():
        if kind == "validation":
            with pytest.raises(ToolProblem) as problem:
                hop(token=token)
            keys.add(str(problem.value).split('"')[-2])
    assert len(keys) == 2


def test_more_faults_than_hops_are_refused() -> None:
    with pytest.raises(UsageProblem, match="9"):
        Recovery(levels=(1, 9))
    longer = Recovery(levels=(1, 9), hops=9)
    assert attempt(longer, solve, 9).passed


def test_a_guess_is_hopeless() -> None:
    assert guess_rate([task_of(1, seed).trail.code for seed in range(500)]) < 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_every_fault_costs_one_call(seed: int) -> None:
    came = attempt(RECOVERY, solve, 8, seed)
    assert came.passed
    assert came.measures == {"calls": 16, "hops": 8, "faults_left": 0}


def test_blind_repetition_is_a_loop() -> None:
    came = attempt(RECOVERY, after_a_fault(same_again), 4)
    assert came.mode == "loop"


def test_the_same_failing_call_may_come_twice() -> None:
    def patient(request: ChatRequest) -> Scripted:
        made = calls_made(request)
        repeated = len(made) > 1 and made[-1].arguments == made[-2].arguments
        return solve(request) if repeated else same_again(request)

    came = attempt(RECOVERY, after_a_fault(patient), 4)
    assert came.passed
    assert came.measures["calls"] == 13


def test_a_failing_call_that_comes_back_a_third_time_fails_a_right_code() -> None:
    straying = [call("hop", token="qqqqqq"), call("hop", token=TOKENS[0])] * 3

    def model(request: ChatRequest) -> Scripted:
        made = len(calls_made(request))
        return straying[made] if made < len(straying) else solve(request)

    came = attempt(RECOVERY, model, 4)
    assert came.measures["hops"] == 8
    assert came.mode == "loop"
    assert "3 times" in came.detail


def test_too_many_calls_fail_a_right_code() -> None:
    wasted = [("hop", {"token": f"q{number}"}) for number in range(12)]

    def model(request: ChatRequest) -> Scripted:
        made = len(calls_made(request))
        return calls(*wasted) if made == 0 else after_waste(request)

    def after_waste(request: ChatRequest) -> Scripted:
        if len(calls_made(request)) == len(wasted):
            return call("hop", token=task_of(1).trail.tokens[0])
        return solve(request)

    came = attempt(RECOVERY, model, 1)
    assert came.mode == "gave_up"
    assert "11 were allowed" in came.detail


@pytest.mark.parametrize(
    ("mode", "instead"),
    [
        ("gave_up", lambda request: say("The tool does not work.")),
        ("gave_up", lambda request: Scripted()),
        ("skipped_step", lambda request: say("The code is 123456.")),
        ("refusal", lambda request: Scripted(stop_reason="refusal")),
    ],
)
def test_what_a_bungler_does_after_a_fault(mode: str, instead: Model) -> None:
    came = attempt(RECOVERY, after_a_fault(instead), 4)
    assert came.mode == mode
    assert came.measures["hops"] < 8


def test_trying_again_after_a_fault_is_no_mistake_and_no_hop() -> None:
    def quitter(request: ChatRequest) -> Scripted:
        made = calls_made(request)
        repeated = len(made) > 1 and made[-1].arguments == made[-2].arguments
        return QUIT if repeated else same_again(request)

    seed = next(seed for seed in range(50) if "validation" in task_of(1, seed).faults.values())
    task = task_of(1, seed)
    came = attempt(RECOVERY, after_a_fault(quitter), 1, seed)
    assert came.mode == "gave_up"
    assert came.measures["hops"] == task.trail.tokens.index(*task.faults)


@pytest.mark.parametrize(
    ("mode", "turn", "instead"),
    [
        ("no_tool_call", 0, [say("The code is 123456.")]),
        ("malformed_call", 0, [calls(("hop", '{"token": ')), QUIT]),
        ("wrong_tool", 0, [call("jump", token=TOKENS[0]), QUIT]),
        ("wrong_args", 0, [call("hop", token="qqqqqq"), QUIT]),
        ("stale_value", 3, [call("hop", token=TOKENS[0]), QUIT]),
        ("wrong_final", 12, [say("The code is 123456.")]),
    ],
)
def test_a_bungler_is_told_by_what_it_did(mode: str, turn: int, instead: list[Scripted]) -> None:
    came = attempt(RECOVERY, bungling(solve, turn, *instead), 4)
    assert came.mode == mode
    assert came.detail


@pytest.mark.parametrize("template", ["{}", "**{:,}**", "It failed 4 times, but it is {}."])
def test_wording_does_not_matter(template: str) -> None:
    assert attempt(RECOVERY, saying_last(solve, template), 4).passed

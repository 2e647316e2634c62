from __future__ import annotations

from collections.abc import Callable

import pytest
from agent_run import AgentRun
from steady_model import timeless

from pytest_agentlimit.testing import ScriptedEndpoint, say

Scripts = Callable[..., ScriptedEndpoint]
CHECKS = """
    @pytest.mark.weight(2)
    def test_one(agent, agent_rng):
        assert "yes" in agent.ask(f"one {agent_rng.random()}").text

    def test_two(agent, agent_rng):
        assert "yes" in agent.ask(f"two {agent_rng.random()}").text
"""


def said(word: str):  # type: ignore[no-untyped-def]
    return lambda request: say(f"{word} {request.seed}")


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.parametrize(("word", "rounds", "exit_code"), [("yes", 12, 0), ("no", 2, 1)])
def test_the_run_ends_after_the_round_that_decided(
    agent_run: AgentRun, scripted: Scripts, workers: str, word: str, rounds: int, exit_code: int
) -> None:
    agent_run.checks(CHECKS)
    server = scripted(said(word))
    result = agent_run(
        workers, f"--agent-model={server.spec}", "--agent-trials=40", "--agent-min-score=80"
    )
    assert result.ret == exit_code
    model = agent_run.report["models"][0]
    assert model["score"]["rounds"] == rounds
    assert model["completion"]["expected"] == model["completion"]["scored"] == 2 * rounds
    assert agent_run.report["gate"]["verdict"] == ("pass" if exit_code == 0 else "fail")
    assert len(server.chat_requests) < 80
    result.stdout.fnmatch_lines(
        [f"not needed   rounds {rounds + 1} to 40: decided after round {rounds}*", "*calls saved*"]
    )
    # What did not run is skipped, and never passed.
    assert result.parseoutcomes()["skipped"] == 80 - len(server.chat_requests)


def test_a_blocker_is_tried_in_every_round(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECKS.replace("@pytest.mark.weight(2)", "@pytest.mark.blocker"))
    gate = ("--agent-trials=14", "--agent-min-score=80")
    agent_run(f"--agent-model={scripted(said('yes')).spec}", *gate)
    assert agent_run.report["models"][0]["score"]["rounds"] == 14
    agent_run(f"--agent-model={scripted(said('no')).spec}", *gate)
    assert agent_run.report["models"][0]["score"]["rounds"] == 2


def test_the_summary_is_the_same_with_workers_that_ran_ahead(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECKS)
    gate = (f"--agent-model={scripted(said('yes')).spec}", "--agent-trials=30", "--agent-seed=3")
    seen = set()
    for workers in ("-n0", "-n2", "-n4"):
        agent_run(workers, *gate, "--agent-min-score=80")
        seen.add(timeless(agent_run.folder / "out.json"))
    assert len(seen) == 1


@pytest.mark.parametrize("other", ["--agent-p95=5s", "--agent-gate=off", "--agent-model=null:echo"])
def test_what_needs_every_round_gets_every_round(
    agent_run: AgentRun, scripted: Scripts, other: str
) -> None:
    agent_run.checks(CHECKS)
    server = scripted(said("yes"))
    agent_run(f"--agent-model={server.spec}", "--agent-trials=15", "--agent-min-score=80", other)
    assert len(server.chat_requests) == 30


def test_a_rerun_that_will_follow_is_waited_for(agent_run: AgentRun, scripted: Scripts) -> None:
    tries: dict[str, int] = {}

    def reply(request):  # type: ignore[no-untyped-def]
        prompt = request.messages[-1].text
        tries[prompt] = tries.get(prompt, 0) + 1
        return say(f"{'yes' if tries[prompt] == 2 else 'no'} {prompt}")

    agent_run.checks(CHECKS)
    result = agent_run(
        "--reruns=1", f"--agent-model={scripted(reply).spec}", "--agent-trials=20",
        "--agent-min-score=80",
    )  # fmt: skip
    assert result.ret == 0
    model = agent_run.report["models"][0]
    assert (model["score"]["value"], model["score"]["rounds"]) == (1.0, 12)


CLASSIFY = """
    def test_flips(agent, agent_rng):
        print("DRAW", agent_rng.random())
        assert "even" in agent.ask("flips").text

    def test_holds(agent):
        agent.ask("holds")
"""


def even_or_odd():  # type: ignore[no-untyped-def]
    asked: list[str] = []

    def reply(request):  # type: ignore[no-untyped-def]
        asked.append(request.messages[-1].text)
        number = asked.count("flips")
        return say(f"{'odd' if number == 4 else 'even'} {len(asked)}")

    return reply


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_classifying_ends_a_check_at_its_first_flip(
    agent_run: AgentRun, scripted: Scripts, workers: str
) -> None:
    agent_run.checks(CLASSIFY)
    server = scripted(even_or_odd() if workers == "-n0" else said("odd"))
    result = agent_run(workers, f"--agent-model={server.spec}", "--agent-classify")
    assert result.ret == 0  # a flaky check is what was asked about
    checks = {
        check["id"].split("::")[1]: check for check in agent_run.report["models"][0]["checks"]
    }
    assert checks["test_holds"]["stability"] == "stable_pass"
    assert checks["test_holds"]["trials"] == 29
    if workers == "-n0":
        assert checks["test_flips"]["stability"] == "flaky"
        assert (checks["test_flips"]["trials"], checks["test_flips"]["passes"]) == (4, 3)
    else:
        assert checks["test_flips"]["stability"] == "stable_fail"


@pytest.mark.parametrize(("kind", "instances"), [("sampling", 1), ("instance", 29)])
def test_classifying_samples_one_instance_or_draws_many(
    agent_run: AgentRun, scripted: Scripts, kind: str, instances: int
) -> None:
    agent_run.checks("def test_it(agent, agent_rng):\n    agent.ask(f'draw {agent_rng.random()}')")
    server = scripted(said("yes"))
    agent_run(f"--agent-model={server.spec}", f"--agent-classify={kind}")
    prompts = {request.messages[-1].text for request in server.chat_requests}
    assert len(prompts) == instances
    assert len({request.seed for request in server.chat_requests}) == 29


@pytest.mark.parametrize(
    "other", ["--agent-trials=3", "--agent-min-score=80", "--agent-p95=5s", "--agent-gate=strict"]
)
def test_classifying_contradicts_a_fixed_number_and_a_gate(agent_run: AgentRun, other: str) -> None:
    agent_run.checks(CLASSIFY)
    result = agent_run("--agent-model=null:echo", "--agent-classify", other)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --agent-classify and {other.split('=')[0]} contradict*"])

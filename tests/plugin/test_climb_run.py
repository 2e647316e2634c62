from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from agent_run import AgentRun
from steady_model import timeless

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, http_error, say

Scripts = Callable[..., ScriptedEndpoint]
REPEAT = """
    def repeat(agent, level, rng):
        number = rng.randrange(10**6)
        return str(number) in agent.ask(f"level {level}: repeat the number {number}").text
    """
CHECK = (
    REPEAT
    + """
    @pytest.mark.weight(3)
    def test_repeat(climb):
        ceiling = climb(repeat, reliability=0.8)
        assert ceiling.low >= 4
    """
)


def collapsing(step: int) -> Callable[[ChatRequest], Scripted]:
    """Repeat the number up to a level, and say anything but that beyond it."""

    def reply(request: ChatRequest) -> Scripted:
        text = request.messages[-1].text
        level, number = (int(digits) for digits in re.findall(r"\d+", text))
        return say(f"It is {number}." if level <= step else "I do not know.", thinking=text)

    return reply


def ladder(run: AgentRun) -> dict[str, Any]:
    """The climb that ended last; ids of runs of one second come in no order."""
    journals = run.folder.glob(".agentlimit/runs/*/journal.jsonl")
    last = max(journals, key=lambda path: path.stat().st_mtime_ns).read_text().splitlines()
    found = [line["record"]["ladder"] for line in map(json.loads, last) if line["kind"] == "trial"]
    assert isinstance(found[-1], dict)
    return found[-1]


def sequence(run: AgentRun) -> list[tuple[int, int, str]]:
    return [(rung["number"], rung["level"], rung["outcome"]) for rung in ladder(run)["rungs"]]


@pytest.mark.parametrize("width", [1, 3])
def test_the_same_replies_give_the_same_trials_with_and_without_workers(
    agent_run: AgentRun, scripted: Scripts, width: int
) -> None:
    agent_run.checks(CHECK + CHECK.replace("repeat", "again"))
    server = scripted(collapsing(6))
    seen, reports = [], set()
    for workers in ("-n0", "-n2"):
        result = agent_run(
            workers,
            f"--agent-model={server.spec}",
            "--agent-seed=5",
            f"--agent-max-inflight={width}",
        )
        result.assert_outcomes(passed=2)
        seen.append(sequence(agent_run))
        reports.add(timeless(agent_run.folder / "out.json"))
    assert seen[0] == seen[1]
    assert len(reports) == 1


def test_a_ladder_is_one_item_however_many_trials_are_asked_for(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    result = agent_run(f"--agent-model={scripted(collapsing(6)).spec}", "--agent-trials=5", "-v")
    result.assert_outcomes(passed=1)
    assert sum("test_repeat" in line for line in result.outlines) == 1
    (model,) = agent_run.report["models"]
    assert model["checks"][0]["trials"] == 1
    assert model["latency"]["n"] == 0  # a climb is no sample of one latency


def test_a_low_ceiling_fails_the_check_and_its_trials_stay(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    result = agent_run(f"--agent-model={scripted(collapsing(2)).spec}")
    result.assert_outcomes(failed=1)
    assert agent_run.outcomes == ["failed"]
    failed = [rung for rung in ladder(agent_run)["rungs"] if rung["outcome"] == "failed"]
    assert {rung["level"] for rung in failed} > {3}
    assert {rung["mode"] for rung in failed} == {"wrong_final"}


ASKED = REPEAT + "\n    def test_repeat(climb):\n        climb(repeat, at_least=4)\n"


def test_at_least_is_a_question_with_an_answer(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(ASKED)
    seed = "--agent-seed=5"
    agent_run(f"--agent-model={scripted(collapsing(16)).spec}", seed).assert_outcomes(passed=1)
    easy = len(sequence(agent_run))
    result = agent_run(f"--agent-model={scripted(collapsing(2)).spec}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*expected a ceiling of at least 4; it is not there",
            "*where the ceiling is was not looked for; at reliability 0.8 its 90 % *, n = *",
            "*level: *",
            "*first failures, at level *: wrong_final ×*",
            "*blame: model; for example: the attempt returned False",
        ]
    )
    agent_run.checks(CHECK)
    agent_run(f"--agent-model={scripted(collapsing(16)).spec}", seed)
    assert easy < len(sequence(agent_run))


def test_infrastructure_on_the_way_is_counted_and_no_failure(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    numbers, model = count(1), collapsing(6)

    def shaky(request: ChatRequest) -> Scripted:
        return http_error(503) if next(numbers) % 4 == 0 else model(request)

    result = agent_run(f"--agent-model={scripted(shaky).spec}")
    result.assert_outcomes(passed=1)
    assert any(rung["outcome"] == "infra" for rung in ladder(agent_run)["rungs"])
    agent_run.checks(CHECK.replace(">= 4", ">= 16"))
    agent_run(f"--agent-model={scripted(shaky).spec}")
    assert agent_run.report["models"][0]["completion"]["infra"] == 0
    assert agent_run.report["models"][0]["checks"][0]["blame"] == {"model": 1}


def test_a_dead_endpoint_is_infra_and_a_resumed_climb_goes_on(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    numbers, model = count(1), collapsing(6)

    def dying(request: ChatRequest) -> Scripted:
        return http_error(500) if 8 < next(numbers) <= 13 else model(request)

    server = scripted(dying)
    agent_run(f"--agent-model={server.spec}")
    assert agent_run.outcomes == ["infra"]
    assert len(server.chat_requests) == 13
    agent_run("--agent-resume").assert_outcomes(passed=1)
    made = [rung["outcome"] for rung in ladder(agent_run)["rungs"]]
    assert made.count("infra") == 5
    assert len(server.chat_requests) == len(made)


def test_a_budget_holds_for_every_trial(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(
        CHECK.replace("@pytest.mark.weight(3)", '@pytest.mark.latency_budget("0.01ms")')
    )
    agent_run(f"--agent-model={scripted(collapsing(16)).spec}")
    failed = [rung for rung in ladder(agent_run)["rungs"] if rung["outcome"] == "failed"]
    assert {rung["mode"] for rung in failed} == {"timeout"}
    assert agent_run.report["models"][0]["checks"][0]["blame"] == {"engine": 1}


BROKEN = {
    "climb(repeat, levels=[4, 2])": "*levels of a ladder are 2 to 32 whole numbers*",
    "climb(repeat, levels=[])": "*levels of a ladder are 2 to 32 whole numbers*",
    "climb(repeat, reliability=1.0)": "*a reliability lies between 0 and 1*",
    "climb(repeat, at_least=5)": "*5 is not a level of this ladder*",
    "climb(repeat, timeout='soon')": '*climb(timeout=…): "soon" is not a duration*',
    "climb(repeat); climb(repeat)": "*a test climbs one ladder*",
    "climb(lambda agent, level, rng: None)": "*the attempt returned None in trial 1*",
    "climb(raises)": "*the attempt raised KeyError in trial 4*",
    "climb(hangs, timeout='200ms')": "*did not end within*",
    "climb(breaks)": "*the tool look raised RuntimeError: torn in trial 1*",
}
HELPERS = """
    import itertools, time
    from pytest_agentlimit import Tool
    numbers = itertools.count(1)
    def raises(agent, level, rng):
        if next(numbers) == 4:
            raise KeyError("x")
        return repeat(agent, level, rng)
    def hangs(agent, level, rng):
        agent.ask("level 1: repeat the number 1")
        time.sleep(60)
    def torn():
        raise RuntimeError("torn")
    LOOK = Tool("look", "Looks.", {"type": "object"}, function=torn)
    def breaks(agent, level, rng):
        return "sun" in agent.run(f"level 1: call look, 1", tools=[LOOK]).final_text
    """


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_climb_is_the_tests_fault_and_keeps_its_evidence(
    agent_run: AgentRun, scripted: Scripts, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setattr("pytest_agentlimit.plugin.climber._GRACE_S", 0.0)
    agent_run.checks(REPEAT + HELPERS + f"\n    def test_it(climb):\n        {broken}\n")
    from pytest_agentlimit.testing import call

    def model(request: ChatRequest) -> Scripted:
        last = request.messages[-1]
        if request.tools and last.role == "user":
            return call("look")
        return say("rain") if request.tools else collapsing(6)(request)

    result = agent_run(f"--agent-model={scripted(model).spec}", "--agent-timeout=500ms")
    assert result.ret == 1
    result.stdout.fnmatch_lines([BROKEN[broken]])
    assert agent_run.outcomes == ["inconclusive"]
    (record,) = [line["record"] for line in agent_run.journal if line["kind"] == "trial"]
    assert record["blame"] == "test"
    if "raises" in broken:
        assert [rung["number"] for rung in record["ladder"]["rungs"]] == [1, 2, 3]


def test_what_pytest_counts_and_prints_is_one_test(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECK)
    result = agent_run(
        f"--agent-model={scripted(collapsing(6)).spec}", "--junitxml=j.xml", "--durations=3"
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_checks.py .*"])
    assert (agent_run.folder / "j.xml").read_text().count("<testcase") == 1


@pytest.mark.parametrize("kept", [0, 1, 9])
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_climb_goes_on_where_it_was_cut_short(
    agent_run: AgentRun, scripted: Scripts, workers: str, kept: int
) -> None:
    agent_run.checks(CHECK)
    server = scripted(collapsing(6))
    agent_run(f"--agent-model={server.spec}", "--agent-seed=5")
    whole, asked = timeless(agent_run.folder / "out.json"), len(server.chat_requests)
    (journal,) = agent_run.folder.glob(".agentlimit/runs/*/journal.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    rungs = [line for line in lines if '"kind": "rung"' in line]
    others = [line for line in lines if '"kind": "expected"' in line]
    journal.write_text("".join([*others, *rungs[:kept]]))
    result = agent_run("--agent-resume", workers)
    result.assert_outcomes(passed=1)
    assert len(server.chat_requests) == asked + len(rungs) - kept
    assert timeless(agent_run.folder / "out.json") == whole


def test_a_killed_run_resumes_inside_the_ladder(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECK)
    reached, go_on = threading.Event(), threading.Event()
    numbers, model = count(1), collapsing(6)

    def stopping(request: ChatRequest) -> Scripted:
        if next(numbers) == 12:
            reached.set()
            go_on.wait(60)
        return model(request)

    server = scripted(stopping)
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", f"--agent-model={server.spec}"]
    process = subprocess.Popen(
        [*command, "--agent-seed=5"], cwd=agent_run.folder, stdout=subprocess.DEVNULL
    )
    assert reached.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    go_on.set()
    asked = len(server.chat_requests)
    assert agent_run("--agent-resume").ret == 0
    resumed, more = sequence(agent_run), len(server.chat_requests) - asked
    assert more == len(resumed) - 11
    clean = Path(agent_run.folder / "clean")
    clean.mkdir()
    agent_run(f"--agent-model={server.spec}", "--agent-seed=5", f"--rootdir={agent_run.folder}")
    assert sequence(agent_run) == resumed


def test_rungs_are_kept_as_they_end(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECK)
    agent_run(f"--agent-model={scripted(collapsing(6)).spec}", "-n2")
    kinds = [line["kind"] for line in agent_run.journal]
    assert kinds.count("rung") == len(ladder(agent_run)["rungs"])
    assert kinds.index("rung") < kinds.index("trial")
    first = next(line["rung"] for line in agent_run.journal if line["kind"] == "rung")
    assert len(first.pop("calls")) == 1
    kept = ladder(agent_run)["rungs"][0]
    assert kept.pop("calls") == []
    assert kept == first

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_run import AgentRun

from pytest_agentlimit.runs.journal import RunFolder
from pytest_agentlimit.runs.lock import read_lock, write_lock
from pytest_agentlimit.runs.locking import lock_of
from pytest_agentlimit.testing import ScriptedEndpoint, say

Scripts = Callable[..., ScriptedEndpoint]
CHECKS = "".join(
    f"""
    def test_{name}(agent, agent_rng):
        assert "yes" in agent.ask(f"{name} {{agent_rng.random()}}").text
"""
    for name in ("one", "two", "three", "four")
)


def passing(*names: str):  # type: ignore[no-untyped-def]
    def reply(request):  # type: ignore[no-untyped-def]
        name = request.messages[-1].text.split()[0]
        return say(f"{'yes' if name in names else 'no'} {request.seed}")

    return reply


def lock(agent_run: AgentRun, scripted: Scripts, *names: str, trials: int = 6) -> Path:
    """Lock what a model that passes `names` does."""
    agent_run.checks(CHECKS)
    agent_run(f"--agent-model={scripted(passing(*names)).spec}", f"--agent-trials={trials}")
    (path,) = agent_run.folder.glob(".agentlimit/runs/*")
    target = agent_run.folder / "agentlimit.lock.json"
    write_lock(lock_of(RunFolder.open(path).load()), target)
    return target


def rule(agent_run: AgentRun) -> dict[str, object]:
    (found,) = (r for r in agent_run.report["gate"]["rules"] if r["rule"] == "baseline")
    return dict(found)


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.parametrize(
    ("before", "now", "verdict", "exit_code"),
    [
        (("one", "two", "three", "four"), ("one",), "fail", 1),
        (("one", "two"), ("one", "two"), "pass", 0),
        (("one",), ("one", "two", "three", "four"), "pass", 0),
    ],
)
def test_the_gate_fails_when_the_candidate_is_worse_and_only_then(
    agent_run: AgentRun,
    scripted: Scripts,
    workers: str,
    before: tuple[str, ...],
    now: tuple[str, ...],
    verdict: str,
    exit_code: int,
) -> None:
    file = lock(agent_run, scripted, *before)
    candidate = scripted(passing(*now)).spec
    result = agent_run(
        workers, f"--agent-model={candidate}", "--agent-trials=6", f"--agent-baseline={file}"
    )
    assert (rule(agent_run)["verdict"], result.ret) == (verdict, exit_code)


def test_a_small_run_is_inconclusive_and_not_red(agent_run: AgentRun, scripted: Scripts) -> None:
    file = lock(agent_run, scripted, "one", "two", trials=1)
    candidate = scripted(passing("one")).spec
    result = agent_run(f"--agent-model={candidate}", f"--agent-baseline={file}")
    assert (rule(agent_run)["verdict"], result.ret) == ("inconclusive", 0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("def test_four", "@pytest.mark.weight(3)\n    def test_four", "weight"),
        (
            "def test_four",
            "@pytest.mark.latency_budget('8s')\n    def test_four",
            "budget",
        ),
        ("def test_four", "def test_five", "test_five"),
        ('assert "yes" in agent.ask(f"four', 'assert "ye" in agent.ask(f"four', "changed"),
    ],
)
def test_unlike_runs_are_not_compared(
    agent_run: AgentRun, scripted: Scripts, old: str, new: str, said: str
) -> None:
    names = ("one", "two", "three", "four")
    file = lock(agent_run, scripted, *names)
    agent_run.checks(CHECKS.replace(old, new))
    candidate = scripted(passing(*names, "five")).spec
    result = agent_run(f"--agent-model={candidate}", f"--agent-baseline={file}")
    assert result.ret == 1
    found = rule(agent_run)
    assert found["verdict"] == "fail"
    assert "cannot be compared" in str(found["message"])
    assert said in str(found["message"])


def test_a_declared_generator_version_stands_for_the_text(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    versioned = "    GENERATOR_VERSION = 1\n" + CHECKS
    agent_run.checks(versioned)
    spec = scripted(passing("one", "two")).spec
    agent_run(f"--agent-model={spec}", "--agent-trials=3")
    (path,) = agent_run.folder.glob(".agentlimit/runs/*")
    file = agent_run.folder / "agentlimit.lock.json"
    write_lock(lock_of(RunFolder.open(path).load()), file)
    agent_run.checks(versioned.replace('"yes" in', '"yes" in  (').replace(".text", ".text)"))
    asked = (f"--agent-model={spec}", "--agent-trials=3", f"--agent-baseline={file}")
    assert agent_run(*asked).ret == 0
    agent_run.checks(versioned.replace("VERSION = 1", "VERSION = 2"))
    assert agent_run(*asked).ret == 1


def test_what_changed_is_printed(agent_run: AgentRun, scripted: Scripts) -> None:
    file = lock(agent_run, scripted, "one", "two")
    content = read_lock(file)
    fingerprint = content.models[0].fingerprint | {"quantisation": "Q4_K_M", "context": 8192}
    model = content.models[0].model_copy(update={"fingerprint": fingerprint})
    write_lock(content.model_copy(update={"models": (model,)}), file)
    result = agent_run(
        f"--agent-model={scripted(passing('one', 'two')).spec}", f"--agent-baseline={file}"
    )
    text = " ".join(result.stdout.str().split())
    assert "quantisation Q4_K_M → not known" in text
    assert "context 8192 → not known" in text


def test_the_baseline_is_in_the_run_and_judged_offline_too(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    from pytest_agentlimit.runs.summary import summarise

    file = lock(agent_run, scripted, "one", "two")
    agent_run(
        f"--agent-model={scripted(passing()).spec}", "--agent-trials=6",
        f"--agent-baseline={file}",
    )  # fmt: skip
    file.unlink()
    run_id = agent_run.report["run"]["id"]
    data = RunFolder.open(agent_run.folder / ".agentlimit" / "runs" / run_id).load()
    assert json.loads(summarise(data).model_dump_json())["gate"] == agent_run.report["gate"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no lock can be read in *none.json*"),
        ("{", "*not JSON*"),
        ('{"lock_version": 2, "models": []}', "*version 2*"),
        ("[]", "*lock*"),
    ],
)
def test_a_lock_that_cannot_be_used_is_one_line_before_anything_is_asked(
    agent_run: AgentRun, scripted: Scripts, content: str | None, said: str
) -> None:
    agent_run.checks(CHECKS)
    file = agent_run.folder / "none.json"
    if content is not None:
        file.write_text(content)
    server = scripted()
    result = agent_run(f"--agent-model={server.spec}", f"--agent-baseline={file}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}"])
    assert server.requests == []
    assert not (agent_run.folder / ".agentlimit").exists()


def test_a_model_that_the_lock_does_not_hold_is_named(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    file = lock(agent_run, scripted, "one")
    spec = scripted().spec
    result = agent_run(f"--agent-model={spec}", f"--agent-baseline={file}#other")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *holds no model 'other'; it has scripted"])


def test_a_baseline_without_a_model_is_a_contradiction(agent_run: AgentRun) -> None:
    agent_run.checks(CHECKS)
    result = agent_run("--agent-baseline=x.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --agent-baseline asks for a gate, and no model*"])

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_run import AgentRun
from steady_model import CHECKS, steady, timeless

from pytest_agentlimit.testing import ScriptedEndpoint

Scripts = Callable[..., ScriptedEndpoint]
MORE = """
def test_elsewhere(agent, agent_rng):
    agent.ask(f"rarely {agent_rng.random()}").expect_json({"const": 1})
"""
AGENTLIMIT = [sys.executable, "-c", "from pytest_agentlimit.cli import main; main()"]


@pytest.fixture
def options(agent_run: AgentRun, scripted: Scripts) -> list[str]:
    (agent_run.folder / "test_checks.py").write_text(CHECKS)
    (agent_run.folder / "test_more.py").write_text(MORE)
    return [f"--agent-model={scripted(steady()).spec}", "--agent-trials=3", "--agent-seed=11"]


def agentlimit(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"COLUMNS": "100"}
    return subprocess.run([*AGENTLIMIT, *args], cwd=folder, env=env, capture_output=True, text=True)


def newest(folder: Path) -> Path:
    return max(folder.glob(".agentlimit/runs/*"), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize(
    "shards",
    [
        [["test_more.py"], ["test_checks.py"]],
        [["-k", "mostly or city"], ["-n2", "-k", "not (mostly or city)"]],
        # The same trials twice, which is what a retried job leaves behind.
        [["-k", "always or elsewhere or rarely"], ["-k", "not always"]],
    ],
    ids=["by file", "by name", "overlapping"],
)
def test_merged_shards_are_the_run_that_was_not_sharded(
    agent_run: AgentRun, options: list[str], shards: list[list[str]]
) -> None:
    agent_run(*options)
    whole = timeless(agent_run.folder / "out.json")
    folders = []
    for shard in shards:
        agent_run(*options, *shard)
        folders.append(str(newest(agent_run.folder)))
    merged = agentlimit(agent_run.folder, "merge", *folders)
    assert merged.returncode == 0, merged.stderr
    target = agent_run.folder / "merged.json"
    agentlimit(agent_run.folder, "report", "latest", "--as=json", "-o", str(target))
    assert timeless(target) == whole


def test_the_report_of_a_run_can_be_printed_again_offline(
    agent_run: AgentRun, options: list[str]
) -> None:
    result = agent_run(*options)
    again = agentlimit(agent_run.folder, "report", "latest").stdout.splitlines()
    # What pytest printed was for a narrower terminal: compare what does not depend on it.
    assert [line for line in result.outlines if line.startswith("score ")] == [
        line for line in again if line.startswith("score ")
    ]
    target = agent_run.folder / "again.json"
    agentlimit(agent_run.folder, "report", "latest", "--as=json", "-o", str(target))
    assert target.read_text() == (agent_run.folder / "out.json").read_text()


def test_shards_of_different_suites_are_refused(agent_run: AgentRun, options: list[str]) -> None:
    agent_run(*options)
    first = newest(agent_run.folder)
    (agent_run.folder / "test_checks.py").write_text(CHECKS.replace("weight(2)", "weight(3)"))
    agent_run(*options)
    before = sorted(agent_run.folder.glob(".agentlimit/runs/*"))
    merged = agentlimit(agent_run.folder, "merge", str(first), str(newest(agent_run.folder)))
    assert merged.returncode == 1
    assert merged.stderr.startswith("error: ")
    assert "weight" in merged.stderr
    assert len(merged.stderr.splitlines()) == 1
    assert sorted(agent_run.folder.glob(".agentlimit/runs/*")) == before


def test_models_of_one_run_are_compared_head_to_head(agent_run: AgentRun) -> None:
    agent_run.checks(
        """
        def test_number(agent, agent_rng):
            assert "42" in agent.ask(f"say a number {agent_rng.random()}").text

        def test_words(agent, agent_rng):
            assert agent.ask(f"words {agent_rng.random()}").text.startswith("words")
        """
    )
    result = agent_run("--agent-model=null:echo,null:parrot,null:mute", "--agent-trials=5")
    pairs = agent_run.report["comparisons"]
    assert [(pair["a"], pair["b"]) for pair in pairs] == [
        ("null-echo", "null-parrot"),
        ("null-echo", "null-mute"),
        ("null-parrot", "null-mute"),
    ]
    keys = "a b difference low high p_value smallest_detectable speed_ratio speed_low speed_high"
    assert set(pairs[0]) == {*keys.split(), "speed_p", "verdict", "ladders"}
    result.stdout.fnmatch_lines(["*null-echo against*null-parrot*"])
    result.stdout.fnmatch_lines(["verdict *"])


def test_one_model_is_compared_with_nobody(agent_run: AgentRun) -> None:
    agent_run.checks("def test_it(agent):\n    agent.ask('hi')")
    agent_run("--agent-model=null:echo")
    assert agent_run.report["comparisons"] == []

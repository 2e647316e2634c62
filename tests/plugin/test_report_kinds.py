from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_run import AgentRun
from github_runner import Command, commands

from pytest_agentlimit.reports.github import STEP_BYTES
from pytest_agentlimit.testing import ScriptedEndpoint, say

Scripts = Callable[..., ScriptedEndpoint]
WORKERS = pytest.mark.parametrize("workers", ["-n0", "-n2"])
CHECKS = """
    @pytest.mark.weight(3)
    @pytest.mark.capability("manners")
    def test_says_yes(agent):
        assert agent.ask("hi").text == "yes"

    class TestMore:
        @pytest.mark.parametrize("word", ["yes", "no"])
        def test_says(self, agent, word):
            text = agent.ask(word).text
            assert text == word, f"it said: {text}"
"""


@pytest.fixture
def step_summary(
    agent_run: AgentRun, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A GitHub Actions step whose repository is checked out above pytest's root."""
    path = tmp_path_factory.mktemp("step") / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(agent_run.folder))
    return path


def annotations(result: pytest.RunResult) -> list[Command]:
    return commands(result.stdout.str())


def kinds(result: pytest.RunResult) -> list[str]:
    return [found.name for found in annotations(result)]


@WORKERS
def test_junit_is_written_beside_pytests_own(
    agent_run: AgentRun, scripted: Scripts, workers: str
) -> None:
    agent_run.checks(CHECKS)
    model = f"--agent-model={scripted().spec}"
    options = [workers, model, "--agent-trials=2"]
    agent_run(*options, "--junitxml=alone.xml")
    result = agent_run(*options, "--junitxml=both.xml", "--agent-report=junit")
    result.stdout.fnmatch_lines(["report written to agentlimit-junit.xml"])

    def tests(name: str) -> list[tuple[str | None, str | None, list[str]]]:
        found = ET.parse(agent_run.folder / name).getroot().iter("testcase")
        return sorted((c.get("classname"), c.get("name"), [x.tag for x in c]) for c in found)

    assert tests("both.xml") == tests("alone.xml")
    assert len(tests("both.xml")) == 6
    ours = ET.parse(agent_run.folder / "agentlimit-junit.xml").getroot()
    assert [(c.get("classname"), c.get("name")) for c in ours[0].iter("testcase")] == [
        ("test_checks", "test_says_yes"),
        ("test_checks.TestMore", "test_says[no]"),
        ("test_checks.TestMore", "test_says[yes]"),
    ]
    assert {found[0] for found in tests("both.xml")} == {"test_checks", "test_checks.TestMore"}


def test_junit_goes_where_it_is_told(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECKS)
    agent_run(f"--agent-model={scripted().spec}", "--agent-report=junit:deep/er.xml")
    suite = ET.parse(agent_run.folder / "deep" / "er.xml").getroot()[0]
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["3", "1", "0"]
    first = suite.findall("testcase")[0].findall("properties/property")
    found = {p.get("name"): p.get("value") for p in first}
    assert (found["weight"], found["capability"], found["rate"]) == ("3", "manners", "1")


@WORKERS
def test_on_github_the_report_is_automatic(
    agent_run: AgentRun, scripted: Scripts, step_summary: Path, workers: str
) -> None:
    step_summary.write_text("# built\n")
    agent_run.checks(CHECKS)
    result = agent_run(workers, f"--agent-model={scripted().spec}")
    text = step_summary.read_text()
    assert text.startswith("# built\n\n## agentlimit: gate not asked\n")
    notice, warning = annotations(result)
    assert notice.properties["title"] == "agentlimit: gate not asked"
    assert warning.name == "warning"
    assert warning.properties["file"] == "test_checks.py"
    assert "it said: yes" in warning.data
    result.stdout.fnmatch_lines(["report written to *summary.md"])


def test_a_root_below_the_repository_is_part_of_the_path(
    agent_run: AgentRun, scripted: Scripts, step_summary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(agent_run.folder.parent))
    agent_run.checks(CHECKS)
    _, warning = annotations(agent_run(f"--agent-model={scripted().spec}"))
    assert warning.properties["file"] == f"{agent_run.folder.name}/test_checks.py"


def test_a_failed_gate_is_an_error(
    agent_run: AgentRun, scripted: Scripts, step_summary: Path
) -> None:
    agent_run.checks(CHECKS)
    server = scripted([say("maybe")])
    result = agent_run(f"--agent-model={server.spec}", "--agent-min-score=90")
    assert result.ret == 1
    assert kinds(result) == ["notice", "error", "warning", "warning", "warning"]
    assert annotations(result)[1].properties["title"].startswith("agentlimit: score")


def test_asked_for_on_github_it_is_written_once(
    agent_run: AgentRun, scripted: Scripts, step_summary: Path
) -> None:
    agent_run.checks(CHECKS)
    result = agent_run(f"--agent-model={scripted().spec}", "--agent-report=github")
    assert step_summary.read_text().count("## agentlimit") == 1
    assert kinds(result) == ["notice", "warning"]


def test_a_file_of_its_own_leaves_the_job_summary_alone(
    agent_run: AgentRun, scripted: Scripts, step_summary: Path
) -> None:
    agent_run.checks(CHECKS)
    agent_run(f"--agent-model={scripted().spec}", "--agent-report=github:own.md")
    assert "## agentlimit" in (agent_run.folder / "own.md").read_text()
    assert not step_summary.exists()


def test_two_runs_in_a_step_are_both_in_its_summary(
    agent_run: AgentRun, scripted: Scripts, step_summary: Path
) -> None:
    agent_run.checks(CHECKS)
    model = f"--agent-model={scripted().spec}"
    agent_run(model)
    agent_run(model)
    assert step_summary.read_text().count("\n\n## agentlimit") == 1
    assert step_summary.read_text().count("## agentlimit") == 2


@pytest.mark.parametrize("missing", ["GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"])
def test_elsewhere_nothing_is_automatic(
    agent_run: AgentRun,
    scripted: Scripts,
    step_summary: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
) -> None:
    monkeypatch.delenv(missing)
    agent_run.checks(CHECKS)
    assert kinds(agent_run(f"--agent-model={scripted().spec}")) == []
    assert not step_summary.exists()


def test_asked_for_elsewhere_it_is_a_file(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECKS)
    result = agent_run(f"--agent-model={scripted().spec}", "--agent-report=github")
    result.stdout.fnmatch_lines(["report written to agentlimit-github.md"])
    assert kinds(result) == ["notice", "warning"]


def test_a_session_without_a_model_writes_nothing(agent_run: AgentRun, step_summary: Path) -> None:
    agent_run.checks("def test_plain():\n    pass\n")
    result = agent_run()
    result.assert_outcomes(passed=1)
    assert kinds(result) == []
    assert not step_summary.exists()


def test_a_summary_that_cannot_be_written_is_a_warning_and_not_a_red_run(
    agent_run: AgentRun, scripted: Scripts, step_summary: Path
) -> None:
    step_summary.mkdir()
    agent_run.checks("def test_hi(agent):\n    assert agent.ask('hi').text == 'yes'\n")
    result = agent_run(f"--agent-model={scripted().spec}")
    assert result.ret == 0
    warnings = [line for line in result.outlines if line.startswith("warning: the github report")]
    assert len(warnings) == 1
    assert "Is a directory" in warnings[0]
    assert kinds(result) == ["notice"]


def test_a_full_summary_is_a_warning_and_stays_as_it_is(
    agent_run: AgentRun, scripted: Scripts, step_summary: Path
) -> None:
    step_summary.write_bytes(b"x" * STEP_BYTES)
    agent_run.checks("def test_hi(agent):\n    assert agent.ask('hi').text == 'yes'\n")
    result = agent_run(f"--agent-model={scripted().spec}")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["warning: the github report was not written*1 MiB*"])
    assert step_summary.stat().st_size == STEP_BYTES


def test_asked_for_and_not_written_the_run_is_red(
    agent_run: AgentRun, scripted: Scripts, step_summary: Path
) -> None:
    step_summary.mkdir()
    agent_run.checks("def test_hi(agent):\n    assert agent.ask('hi').text == 'yes'\n")
    result = agent_run(f"--agent-model={scripted().spec}", "--agent-report=github")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*the github report was not written*--agent-report=github:FILE*"])
    assert agent_run.outcomes == ["passed"]


HOSTILE = [
    "\n::error::forged", "::set-output name=a::b", "##[stop-commands]token", "x ##[add-mask]e",
    "\r::add-mask::a", "%0A::error::forged", "\u00a0::debug::x", "\x1b[0m\n  ::error file=a::b",
]  # fmt: skip


@pytest.mark.parametrize(
    ("workers", "reply"),
    [*[("-n0", reply) for reply in HOSTILE], ("-n2", "\n".join(HOSTILE))],
    ids=range(len(HOSTILE) + 1),
)
def test_a_reply_gives_no_commands_to_the_runner(
    agent_run: AgentRun, scripted: Scripts, step_summary: Path, workers: str, reply: str
) -> None:
    agent_run.checks(
        """
        def test_asserts(agent):
            text = agent.ask("hi").text
            print(text)
            assert text == "yes", text

        def test_fails(agent):
            pytest.fail(agent.ask("hi").text, pytrace=False)
        """
    )
    server = scripted([say(reply)])
    result = agent_run(workers, "-rA", "-l", f"--agent-model={server.spec}")
    result.assert_outcomes(failed=2)
    assert kinds(result) == ["notice", "warning", "warning"]


def test_elsewhere_a_reply_is_shown_as_it_is(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks("def test_hi(agent):\n    pytest.fail(agent.ask('hi').text, pytrace=False)\n")
    result = agent_run(f"--agent-model={scripted([say('::error::x ##[y]')]).spec}")
    assert "::error::x ##[y]" in result.outlines


def test_nothing_of_the_outer_ci_reaches_a_test() -> None:
    assert [name for name in os.environ if name.startswith("GITHUB_")] == []

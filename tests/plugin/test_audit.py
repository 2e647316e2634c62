from __future__ import annotations

from pathlib import Path

import pytest
from agent_run import AgentRun

from pytest_agentlimit.endpoints.nulls import NULL_MODELS

VACUOUS = """
    @pytest.mark.weight(3)
    def test_any_text_will_do(agent):
        assert agent.ask("What is 6 times 7?").text

    def test_a_number_only_a_model_can_know(agent, agent_rng):
        left, right = agent_rng.randrange(100, 999), agent_rng.randrange(100, 999)
        assert str(left * right) in agent.ask(f"What is {left} times {right}?").text
"""
SOUND = VACUOUS[VACUOUS.index("    def test_a_number") :]
PLAIN = "\n    def test_of_something_else():\n        assert False\n"


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_check_that_a_null_model_passes_is_named_and_red(
    agent_run: AgentRun, workers: str
) -> None:
    agent_run.checks(VACUOUS)
    result = agent_run("--agent-audit", workers)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "audit *2 checks against 9 null models, 1 trial each",
            "vacuous *1 of 2 checks: passed by a model that knows nothing",
            "*any text will do: passed by *null-parrot*",
            "best null *null-* scores 75.0 %",
            "*agentlimit audit: 1 of 2 checks are vacuous*",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert "def test_a_number" not in result.stdout.str()  # an expected failure is no news


def test_sound_checks_are_green(agent_run: AgentRun) -> None:
    agent_run.checks(SOUND)
    result = agent_run("--agent-audit", "--agent-trials=3")
    assert result.ret == 0
    assert result.parseoutcomes() == {"xfailed": 3 * len(NULL_MODELS)}
    result.stdout.fnmatch_lines(
        ["vacuous *none: no null model passed a check", "best null *0.0 %: *"]
    )


def test_ordinary_tests_are_no_part_of_an_audit(agent_run: AgentRun) -> None:
    agent_run.checks(SOUND + PLAIN)
    result = agent_run("--agent-audit")
    assert result.ret == 0
    assert result.parseoutcomes()["deselected"] == 1


def test_a_broken_fixture_is_red(agent_run: AgentRun) -> None:
    agent_run.checks(
        """
        @pytest.fixture
        def broken():
            raise RuntimeError("no")

        def test_it(agent, broken):
            agent.ask("hi")
        """
    )
    result = agent_run("--agent-audit")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*no check was scored*"])


def test_an_audit_without_checks_is_no_success(agent_run: AgentRun) -> None:
    agent_run.checks(PLAIN)
    assert agent_run("--agent-audit").ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize(
    "other",
    ["--agent-model=null:echo", "--agent-min-score=80", "--agent-p95=5s", "--agent-classify"],
)
def test_an_audit_contradicts_what_judges_a_model(agent_run: AgentRun, other: str) -> None:
    agent_run.checks(SOUND)
    result = agent_run("--agent-audit", other)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --agent-audit and {other.split('=')[0]} contradict*"])


def test_standing_defaults_give_way_to_an_audit(agent_run: AgentRun) -> None:
    agent_run.pytester.makeini(
        "[pytest]\nagentlimit_model = null:echo\nagentlimit_min_score = 80\n"
    )
    agent_run.checks(SOUND)
    assert agent_run("--agent-audit").ret == 0
    assert len(agent_run.report["models"]) == len(NULL_MODELS)


def above_null(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if line.startswith("above null")]


def test_later_reports_show_the_score_above_the_best_null(agent_run: AgentRun) -> None:
    agent_run.checks(VACUOUS)
    assert above_null(agent_run("--agent-model=null:parrot")) == []
    agent_run("--agent-audit")
    assert above_null(agent_run("--agent-model=null:mute")) != []
    (line,) = above_null(agent_run("--agent-model=null:parrot"))
    assert "0.0 %" in line
    assert "scores 75.0 % (n = 2 checks)" in line


def test_a_check_that_was_changed_has_not_been_audited(agent_run: AgentRun) -> None:
    agent_run.checks(VACUOUS)
    agent_run("--agent-audit")
    agent_run.checks(VACUOUS.replace("100, 999", "100, 9999"))
    (line,) = above_null(agent_run("--agent-model=null:parrot"))
    assert "not known: run --agent-audit again" in line


def test_a_damaged_audit_file_is_as_good_as_none(agent_run: AgentRun) -> None:
    agent_run.checks(VACUOUS)
    agent_run("--agent-audit")
    (agent_run.folder / ".agentlimit" / "audit.json").write_text("{")
    result = agent_run("--agent-model=null:parrot")
    assert result.ret == 1
    assert above_null(result) == []


def test_the_shipped_suites_have_no_vacuous_check(agent_run: AgentRun) -> None:
    for shape in ("bare", "agent"):
        result = agent_run(
            "--pyargs", "pytest_agentlimit.example_suites.edge_study", "--agent-audit",
            f"--agent-shape={shape}",
        )  # fmt: skip
        assert result.ret == 0
        result.stdout.fnmatch_lines(["audit *10 checks against 9 null models*", "vacuous *none*"])


def test_the_audit_is_in_the_markdown_report(agent_run: AgentRun, tmp_path: Path) -> None:
    agent_run.checks(VACUOUS)
    agent_run("--agent-audit", "--agent-report=markdown:out.md")
    text = (agent_run.folder / "out.md").read_text()
    assert text.startswith("## agentlimit: audit\n")
    assert "any text will do" in text

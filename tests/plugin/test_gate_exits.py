from __future__ import annotations

from collections.abc import Callable

import pytest
from agent_run import AgentRun

from pytest_agentlimit.testing import ScriptedEndpoint, http_error, say

WORKERS = pytest.mark.parametrize("workers", ["-n0", "-n2"])
GOOD = """
    def test_good(agent):
        assert agent.ask("hi").text == "yes"
"""
GOOD_AND_BAD = (
    GOOD
    + """
    def test_bad(agent):
        assert agent.ask("hi").text == "no"
"""
)
Scripts = Callable[..., ScriptedEndpoint]


def rules(agent_run: AgentRun) -> dict[str, str]:
    return {rule["rule"]: rule["verdict"] for rule in agent_run.report["gate"]["rules"]}


@WORKERS
def test_a_proven_score_passes(agent_run: AgentRun, scripted: Scripts, workers: str) -> None:
    agent_run.checks(GOOD)
    result = agent_run(
        workers, f"--agent-model={scripted().spec}", "--agent-trials=16", "--agent-min-score=80"
    )
    assert result.ret == 0
    assert agent_run.report["gate"]["verdict"] == "pass"
    assert rules(agent_run)["score"] == "pass"


@WORKERS
def test_failed_checks_are_evidence_when_a_gate_passes(
    agent_run: AgentRun, scripted: Scripts, workers: str
) -> None:
    agent_run.checks(GOOD_AND_BAD)
    result = agent_run(
        workers, f"--agent-model={scripted().spec}", "--agent-trials=8", "--agent-min-score=10",
        "--agent-p95=60s",  # wants every round
    )  # fmt: skip
    result.assert_outcomes(passed=8, failed=8)
    assert rules(agent_run)["score"] == "pass"
    assert result.ret == 0


@WORKERS
def test_a_proven_low_score_fails(agent_run: AgentRun, scripted: Scripts, workers: str) -> None:
    agent_run.checks(GOOD_AND_BAD)
    result = agent_run(
        workers, f"--agent-model={scripted().spec}", "--agent-trials=8", "--agent-min-score=90"
    )
    assert result.ret == 1
    assert rules(agent_run)["score"] == "fail"
    result.stdout.fnmatch_lines(["*agentlimit gate: *score*"])


@WORKERS
def test_a_blocker_fails_whatever_the_score(
    agent_run: AgentRun, scripted: Scripts, workers: str
) -> None:
    agent_run.checks(
        GOOD
        + """
    @pytest.mark.blocker
    @pytest.mark.weight(0.01)
    def test_must_hold(agent):
        assert agent.ask("hi").text == "no"
    """
    )
    result = agent_run(
        workers, f"--agent-model={scripted().spec}", "--agent-trials=8", "--agent-min-score=10"
    )
    assert result.ret == 1
    assert rules(agent_run)["score"] == "pass"
    assert rules(agent_run)["blockers"] == "fail"


@WORKERS
def test_too_little_completed_fails(agent_run: AgentRun, scripted: Scripts, workers: str) -> None:
    agent_run.checks(
        """
    def test_good(agent):
        assert agent.ask("fine").text == "yes"

    def test_broken(agent):
        assert agent.ask("break").text == "yes"
    """
    )
    server = scripted(
        lambda request: (
            http_error(503, "loading") if "break" in request.messages[-1].text else say("yes")
        )
    )
    result = agent_run(
        workers, f"--agent-model={server.spec}", "--agent-trials=8", "--agent-min-score=10"
    )
    assert result.ret == 1
    assert rules(agent_run)["completion"] == "fail"
    assert rules(agent_run)["score"] == "pass"
    assert agent_run.report["models"][0]["completion"]["infra"] == 8


@WORKERS
def test_nothing_scored_fails(agent_run: AgentRun, scripted: Scripts, workers: str) -> None:
    agent_run.checks("def test_skips(agent):\n    pytest.skip('not today')\n")
    result = agent_run(workers, f"--agent-model={scripted().spec}", "--agent-min-score=10")
    assert result.ret == 1
    assert rules(agent_run)["scored"] == "fail"


@WORKERS
def test_a_gate_that_matches_no_check_fails(
    agent_run: AgentRun, scripted: Scripts, workers: str
) -> None:
    agent_run.checks("def test_plain():\n    assert 1 + 1 == 2\n")
    result = agent_run(workers, f"--agent-model={scripted().spec}", "--agent-min-score=10")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*a gate was asked for and no check was collected*"])


@WORKERS
@pytest.mark.parametrize("gate", [[], ["--agent-p95=60s"]], ids=["plain", "gate"])
def test_a_lost_report_fails(
    agent_run: AgentRun, scripted: Scripts, workers: str, gate: list[str]
) -> None:
    agent_run.checks(GOOD)
    # An object on a report kills an xdist worker, and xdist exits 0 when that was the last test.
    # Without xdist nothing can be lost that way: there the record itself is taken away.
    agent_run.pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_runtest_makereport(item, call):
            report = yield
            if "t3" in item.name and call.when == "teardown":
                if hasattr(item.config, "workerinput"):
                    report.unserialisable = object()
                else:
                    report.__dict__.pop("_agentlimit")
            return report
        """
    )
    result = agent_run(workers, f"--agent-model={scripted().spec}", "--agent-trials=3", *gate)
    assert result.ret != 0
    assert rules(agent_run)["reported"] == "fail"
    completion = agent_run.report["models"][0]["completion"]
    # xdist stops for a broken worker, so the other one may not come to its last trial either.
    assert completion["reported"] < completion["expected"] == 3


@WORKERS
@pytest.mark.parametrize(
    ("mode", "bar", "code"),
    [
        ("point", 50, 0),
        ("point", 100, 0),
        ("strict", 50, 1),
        ("proven", 50, 0),
        ("off", 50, 0),
    ],
)
def test_an_inconclusive_score_above_the_bar(
    agent_run: AgentRun, scripted: Scripts, workers: str, mode: str, bar: int, code: int
) -> None:
    agent_run.checks(GOOD)
    result = agent_run(
        workers,
        f"--agent-model={scripted().spec}",
        f"--agent-min-score={bar}",
        f"--agent-gate={mode}",
    )
    assert agent_run.report["gate"]["verdict"] == "inconclusive"
    assert result.ret == code


@WORKERS
@pytest.mark.parametrize(("mode", "code"), [("point", 1), ("strict", 1), ("proven", 0), ("off", 0)])
def test_an_inconclusive_score_below_the_bar(
    agent_run: AgentRun, scripted: Scripts, workers: str, mode: str, code: int
) -> None:
    agent_run.checks(GOOD_AND_BAD)
    result = agent_run(
        workers,
        f"--agent-model={scripted().spec}",
        "--agent-min-score=60",
        f"--agent-gate={mode}",
    )
    assert agent_run.report["gate"]["verdict"] == "inconclusive"
    assert result.ret == code


@WORKERS
@pytest.mark.parametrize(("mode", "code"), [("point", 0), ("strict", 1), ("proven", 0)])
def test_an_inconclusive_p95_within_budget(
    agent_run: AgentRun, scripted: Scripts, workers: str, mode: str, code: int
) -> None:
    agent_run.checks("@pytest.mark.latency_budget('30s')\n" + GOOD.replace("\n    ", "\n"))
    result = agent_run(
        workers,
        f"--agent-model={scripted().spec}",
        "--agent-p95=within-budget",
        f"--agent-gate={mode}",
    )
    assert rules(agent_run)["p95"] == "inconclusive"
    assert result.ret == code


def test_a_p95_over_budget_fails(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(GOOD)
    server = scripted([say("yes", first_delay_s=0.02)])
    result = agent_run(f"--agent-model={server.spec}", "--agent-trials=4", "--agent-p95=1ms")
    assert rules(agent_run)["p95"] == "fail"
    assert result.ret == 1


@WORKERS
def test_ordinary_failures_exit_1_beside_a_passing_gate(
    agent_run: AgentRun, scripted: Scripts, workers: str
) -> None:
    agent_run.checks(GOOD + "\n    def test_plain():\n        assert 1 == 2\n")
    result = agent_run(
        workers, f"--agent-model={scripted().spec}", "--agent-trials=16", "--agent-min-score=80"
    )
    assert agent_run.report["gate"]["verdict"] == "pass"
    assert result.ret == 1


@pytest.mark.parametrize("gate", ["--agent-gate=off", "--agent-min-score=10"])
def test_a_broken_fixture_is_no_evidence(agent_run: AgentRun, scripted: Scripts, gate: str) -> None:
    agent_run.checks(
        GOOD
        + """
    @pytest.fixture
    def broken():
        raise RuntimeError("no database")

    def test_with_fixture(agent, broken):
        agent.ask("hi")
    """
    )
    result = agent_run(f"--agent-model={scripted().spec}", "--agent-trials=2", gate)
    assert result.ret == 1
    assert agent_run.outcomes.count("inconclusive") == 2
    assert agent_run.report["models"][0]["score"]["value"] == 1.0


def test_without_a_gate_option_pytest_is_as_always(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(GOOD)
    spec = scripted().spec
    assert agent_run(f"--agent-model={spec}").ret == 0
    agent_run.checks(GOOD_AND_BAD)
    assert agent_run(f"--agent-model={spec}").ret == 1
    assert agent_run(f"--agent-model={spec}", "--agent-gate=off").ret == 0
    agent_run.checks("def test_skips(agent):\n    pytest.skip('not today')\n")
    assert agent_run(f"--agent-model={spec}").ret == 0


def test_other_exit_codes_are_left_alone(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks("def test_broken(agent:\n")
    spec = scripted().spec
    assert agent_run(f"--agent-model={spec}", "--agent-min-score=10").ret == 2
    agent_run.checks(GOOD)
    assert agent_run(f"--agent-model={spec}", "--agent-min-score=10", "-k", "nothing").ret == 5

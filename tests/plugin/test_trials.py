from __future__ import annotations

from collections.abc import Callable

import pytest
from agent_run import AgentRun

from pytest_agentlimit.testing import ScriptedEndpoint

TWO_CHECKS = """
    def test_one(agent, agent_rng):
        print("number", agent_rng.random())
        assert agent.ask("one").text == "yes"

    def test_plain():
        pass

    def test_two(agent):
        assert agent.ask("two").text == "yes"
"""


def test_rounds_come_first_and_ordinary_tests_keep_their_place(
    agent_run: AgentRun, scripted: Callable[..., ScriptedEndpoint]
) -> None:
    agent_run.checks(TWO_CHECKS)
    result = agent_run(
        "--collect-only", "-q", f"--agent-model={scripted().spec}", "--agent-trials=2"
    )
    ids = [line for line in result.outlines if "::" in line]
    assert [line.split("::")[1] for line in ids] == [
        "test_one[scripted-t1]",
        "test_two[scripted-t1]",
        "test_plain",
        "test_one[scripted-t2]",
        "test_two[scripted-t2]",
    ]


def test_models_interleave_within_a_round(agent_run: AgentRun) -> None:
    agent_run.checks(TWO_CHECKS)
    result = agent_run(
        "--collect-only", "-q", "--agent-model=null:mute,null:echo", "--agent-trials=2"
    )
    ids = [line.split("::")[1] for line in result.outlines if "test_one" in line]
    assert ids == [f"test_one[null-{m}-t{t}]" for t in (1, 2) for m in ("mute", "echo")]


def test_the_seed_decides_the_instances_and_models_share_them(agent_run: AgentRun) -> None:
    agent_run.checks(
        """
        def test_one(agent_rng, agentlimit_trial):
            print("DRAW", agentlimit_trial.id, agent_rng.random())
        """
    )

    def draws(seed: int) -> dict[str, str]:
        result = agent_run(
            "-s", "--agent-model=null:mute,null:echo", "--agent-trials=2", f"--agent-seed={seed}"
        )
        rows = [line.split("DRAW ")[1].split() for line in result.outlines if "DRAW" in line]
        return {row[0]: row[1] for row in rows}

    first = draws(1)
    assert first == draws(1)
    assert first["null-mute-t1"] == first["null-echo-t1"] != first["null-mute-t2"]
    assert draws(2)["null-mute-t1"] != first["null-mute-t1"]


def test_the_trials_marker_wins_over_the_option(agent_run: AgentRun) -> None:
    agent_run.checks(
        """
        @pytest.mark.trials(3)
        def test_often(agent):
            agent.ask("hi")

        def test_default(agent):
            agent.ask("hi")
        """
    )
    agent_run("--agent-model=null:parrot", "--agent-trials=2")
    checks = {check["id"]: check for check in agent_run.report["models"][0]["checks"]}
    assert checks["test_checks.py::test_often"]["trials"] == 3
    assert checks["test_checks.py::test_default"]["trials"] == 2


def test_check_ids_hold_neither_model_nor_trial(agent_run: AgentRun) -> None:
    agent_run.checks(
        """
        @pytest.mark.parametrize("city", ["Oslo", "null-mute-t1"])
        def test_city(agent, city):
            agent.ask(city)

        class TestGroup:
            def test_inside(self, agent):
                agent.ask("hi")
        """
    )
    agent_run("--agent-model=null:mute")
    assert [check["id"] for check in agent_run.report["models"][0]["checks"]] == [
        "test_checks.py::test_city[Oslo]",
        "test_checks.py::test_city[null-mute-t1]",
        "test_checks.py::TestGroup::test_inside",
    ]


def test_without_a_model_checks_skip_with_one_reason(agent_run: AgentRun) -> None:
    agent_run.checks(TWO_CHECKS)
    result = agent_run("-rs")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["*no model under test: add --agent-model=NAME*"])
    assert not (agent_run.folder / ".agentlimit").exists()


def test_every_trial_has_its_own_workspace(agent_run: AgentRun) -> None:
    agent_run.checks(
        """
        def test_fresh(agent, workspace):
            assert list(workspace.path.iterdir()) == []
            workspace.write("a.txt", "x")
        """
    )
    agent_run("--agent-model=null:mute", "--agent-trials=3").assert_outcomes(passed=3)


def test_the_agent_cannot_be_fetched_late(agent_run: AgentRun) -> None:
    agent_run.checks("def test_late(request):\n    request.getfixturevalue('agent')\n")
    result = agent_run("--agent-model=null:mute")
    result.stdout.fnmatch_lines(["*take `agent` or `endpoint` as an argument*"])


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_the_same_trials_with_and_without_xdist(
    agent_run: AgentRun, scripted: Callable[..., ScriptedEndpoint], workers: str
) -> None:
    agent_run.checks(TWO_CHECKS)
    result = agent_run(workers, f"--agent-model={scripted().spec}", "--agent-trials=3")
    result.assert_outcomes(passed=7)
    model = agent_run.report["models"][0]
    assert [(c["id"], c["trials"], c["passes"]) for c in model["checks"]] == [
        ("test_checks.py::test_one", 3, 3),
        ("test_checks.py::test_two", 3, 3),
    ]
    assert model["completion"] == {
        "expected": 6,
        "reported": 6,
        "scored": 6,
        "infra": 0,
        "unsupported": 0,
    }

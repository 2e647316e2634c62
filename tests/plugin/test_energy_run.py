from __future__ import annotations

from collections.abc import Callable

import pytest
from agent_run import AgentRun

from pytest_agentlimit.endpoints import energy
from pytest_agentlimit.testing import ScriptedEndpoint, say

Scripts = Callable[..., ScriptedEndpoint]
TABLE = """
    [tool.agentlimit.models.here]
    base_url = "{url}"
    model = "scripted"
    watts = 200
"""
CHECK = "def test_it(agent):\n    assert agent.ask('hi').text"


def slow(seconds: float):  # type: ignore[no-untyped-def]
    return [say("yes", first_delay_s=seconds)]


def test_configured_watts_give_an_estimate_that_says_so(
    agent_run: AgentRun, scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever this machine could count for itself.
    monkeypatch.setattr(energy, "nvml_meter", lambda: None)
    monkeypatch.setattr(energy, "rapl_meter", lambda: None)
    agent_run.pytester.makepyprojecttoml(TABLE.format(url=scripted(slow(0.75)).url))
    agent_run.checks(CHECK)
    result = agent_run("--agent-model=here", "--agent-trials=3")
    found = agent_run.report["models"][0]["energy"]
    assert found["source"] == "estimate from watts"
    assert found["joules"] == pytest.approx(200 * found["window_s"], rel=1e-3)
    assert found["window_s"] > 2
    assert found["joules_per_passed"] == found["joules"] / 3
    assert found["joules_per_1k_output_tokens"] > 0
    result.stdout.fnmatch_lines(
        ["energy *estimate from watts*", "*J per passed check (n = 3 trials)*"]
    )


def test_a_short_run_and_a_resumed_one_are_not_measured(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.pytester.makepyprojecttoml(TABLE.format(url=scripted(slow(0)).url))
    agent_run.checks(CHECK)
    agent_run("--agent-model=here")
    assert agent_run.report["models"][0]["energy"] is None
    agent_run("--agent-resume")
    assert agent_run.report["models"][0]["energy"] is None


def test_what_null_models_cost_is_not_measured(agent_run: AgentRun) -> None:
    agent_run.checks(CHECK)
    agent_run("--agent-model=null:echo,null:mute")
    assert [model["energy"] for model in agent_run.report["models"]] == [None, None]

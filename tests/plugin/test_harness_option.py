"""`--agent-harness`: runs with tools go through a real program, and its verdict is the trial's."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from agent_run import AgentRun
from harness_kit import CLIENT, WORKS

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, call, http_error, say

Scripts = Callable[..., ScriptedEndpoint]
LEAK = '{"name": "bash", "arguments": {"cmd": "echo hello > hello.txt"}}'
CHECK = """
    def test_makes_a_file(agent, workspace):
        run = agent.run("Make hello.txt with the word hello.", tools=workspace.tools)
        assert workspace.read("hello.txt").strip() == "hello"
        assert run.expect_call("shell").arguments["command"].startswith("echo")
"""


def table(agent_run: AgentRun, body: str = WORKS, **more: Any) -> None:
    """Describe a small program of ours in the project under test."""
    program = agent_run.folder / "tiny_agent.py"
    program.write_text(
        'import sys\nif "--version" in sys.argv:\n    print("tiny 1.2")\n    sys.exit()\n'
        + CLIENT
        + body
    )
    usual: dict[str, Any] = {
        "program": sys.executable,
        "argv": ["-S", str(program), "{prompt}"],
        "version": ["-S", str(program), "--version"],
        "dialect": "openai",
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in (usual | more).items()]
    (agent_run.folder / "agentlimit.toml").write_text(
        "\n".join(
            [
                "[tool.agentlimit.harness.tiny]",
                *lines,
                "[tool.agentlimit.harness.tiny.env]",
                'MODEL_URL = "{url}"',
                'MODEL_KEY = "{key}"',
                "[tool.agentlimit.harness.tiny.tools.shell]",
                'name = "bash"',
                'arguments = { command = "cmd" }',
            ]
        )
    )


def capable(request: ChatRequest) -> Scripted:
    if request.messages[-1].role == "tool":
        return say("It is made.")
    return call("bash", cmd="echo hello > hello.txt")


def records(agent_run: AgentRun) -> list[dict[str, Any]]:
    return [line["record"] for line in agent_run.journal if "record" in line]


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_runs_go_through_the_program(agent_run: AgentRun, scripted: Scripts, workers: str) -> None:
    table(agent_run)
    agent_run.checks(CHECK)
    server = scripted(capable)
    result = agent_run(
        f"--agent-model={server.spec}", "--agent-harness=tiny", "--agent-trials=2", workers
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["*scripted*through tiny 1.2*", "*harness *tiny 1.2: 2 runs, 4 turns, 0 requests beside*"]
    )
    (model,) = agent_run.report["models"]
    assert model["fingerprint"]["harness"] == "tiny 1.2"
    assert model["usage"]["calls"] == 4
    assert model["latency"]["n"] == 2
    for record in records(agent_run):
        assert (record["harness"]["runs"], record["harness"]["turns"]) == (1, 2)
        assert len(record["calls"]) == 2
    # Its own tools were offered, and none of ours.
    assert {tool.name for request in server.chat_requests for tool in request.tools} == {"bash"}


def test_a_silent_pass_is_a_failure_of_the_engine(agent_run: AgentRun, scripted: Scripts) -> None:
    table(agent_run)
    agent_run.checks(
        """
        def test_says_it_is_done(harness, workspace):
            run = harness.run("Make hello.txt.", workspace)
            assert run.process.exit_code == 0

        def test_looks_at_the_file(agent, workspace):
            agent.run("Make hello.txt.", tools=workspace.tools)
            assert workspace.read("hello.txt")
        """
    )
    result = agent_run(f"--agent-model={scripted([say(LEAK)]).spec}", "--agent-harness=tiny")
    result.assert_outcomes(failed=2)
    assert [(r["outcome"], r["blame"]) for r in records(agent_run)] == [("failed", "engine")] * 2
    assert "was never run" in records(agent_run)[0]["message"]
    result.stdout.fnmatch_lines(
        ["*exit code 0, and the call it ends with was never run: the model", "*(2 of 2)"]
    )


def test_what_no_program_can_be_given_is_skipped(agent_run: AgentRun, scripted: Scripts) -> None:
    table(agent_run)
    agent_run.checks(
        """
        from pytest_agentlimit import tool

        @tool
        def get_weather(city: str) -> str:
            "Look up the weather."
            return "snow"

        def test_own_tool(agent):
            agent.run("The weather?", tools=[get_weather])

        def test_asks(agent):
            assert agent.ask("hi").text == "yes"
        """
    )
    result = agent_run(f"--agent-model={scripted().spec}", "--agent-harness=tiny", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*tools of its own (get_weather)*"])


def test_a_program_that_is_missing_is_skipped_with_the_way_to_get_it(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    table(agent_run, program="no-such-agent", install="pip install no-such-agent")
    agent_run.checks(CHECK)
    server = scripted(capable)
    result = agent_run(f"--agent-model={server.spec}", "--agent-harness=tiny", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            "agentlimit: harness tiny: *not installed*",
            "SKIPPED*there is no no-such-agent. Next: pip install no-such-agent",
        ]
    )
    assert not server.chat_requests


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tinny", "*no agent program is called 'tinny'. There are: tiny,*"),
        ("codex", "*/v1/responses*"),
    ],
)
def test_a_name_that_cannot_work_is_a_usage_error(
    agent_run: AgentRun, scripted: Scripts, name: str, said: str
) -> None:
    table(agent_run)
    agent_run.checks(CHECK)
    result = agent_run(f"--agent-model={scripted().spec}", f"--agent-harness={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}"])


def test_the_fixture_without_the_option_says_what_to_add(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks("def test_drives(harness): raise AssertionError")
    result = agent_run(f"--agent-model={scripted().spec}", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*add --agent-harness=NAME (*pi*)*"])


def test_a_failure_the_program_got_over_excuses_nothing(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    patient = "ask_once = ask\ndef ask(*a, **k): return ask_once(*a, **k) or ask_once(*a, **k)\n"
    table(agent_run, patient + WORKS)
    agent_run.checks(CHECK)
    server = scripted([http_error(500, "busy"), say("I will not.")])
    agent_run(f"--agent-model={server.spec}", "--agent-harness=tiny")
    (record,) = records(agent_run)
    assert (record["outcome"], record["blame"]) == ("failed", "model")
    assert [one["attempts"] for one in record["calls"]] == [2]
    assert record["harness"]["retries"] == 1


def test_a_server_that_stays_broken_is_no_fault_of_the_model(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    table(agent_run)
    agent_run.checks(CHECK)
    server = scripted([http_error(500, "out of memory")])
    agent_run(f"--agent-model={server.spec}", "--agent-harness=tiny")
    (record,) = records(agent_run)
    assert (record["outcome"], record["blame"]) == ("infra", "engine")


def test_a_program_that_crashes_is_no_fault_of_the_model(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    table(agent_run, WORKS + "\nsys.exit('no disk')")
    agent_run.checks(CHECK)
    agent_run(f"--agent-model={scripted(capable).spec}", "--agent-harness=tiny")
    (record,) = records(agent_run)
    assert (record["outcome"], record["blame"]) == ("infra", "config")
    assert "no disk" in record["message"]


def test_a_resumed_run_goes_through_the_same_program(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    table(agent_run)
    agent_run.checks(CHECK)
    server = scripted(capable)
    asked = [f"--agent-model={server.spec}", "--agent-harness=tiny", "--agent-trials=2"]
    agent_run(*asked, "-k", "t1")
    agent_run("--agent-resume").assert_outcomes(passed=1, deselected=1)
    assert [r["harness"]["runs"] for r in records(agent_run)] == [1, 1]
    other = agent_run("--agent-resume", "--agent-harness=pi")
    assert other.ret == pytest.ExitCode.USAGE_ERROR


def test_null_models_are_served_to_programs(agent_run: AgentRun) -> None:
    table(agent_run)
    agent_run.checks(CHECK)
    result = agent_run("--agent-audit", "--agent-harness=tiny")
    assert result.ret == 0
    assert {r["outcome"] for r in records(agent_run)} == {"failed"}

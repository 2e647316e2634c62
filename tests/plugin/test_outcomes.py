from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from agent_run import AgentRun

from pytest_agentlimit.testing import (
    Scripted,
    ScriptedEndpoint,
    call,
    hang,
    html,
    http_error,
    raw,
    say,
)

Scripts = Callable[..., ScriptedEndpoint]
ASKS_FOR_A_CALL = """
    from pytest_agentlimit import Tool

    WEATHER = Tool("get_weather", "Weather", {"type": "object",
        "properties": {"city": {"type": "string"}}, "required": ["city"]})

    def test_call(agent):
        call = agent.ask("Weather in Oslo?", tools=[WEATHER]).expect_tool_call("get_weather")
        assert call.arguments["city"] == "Oslo"
"""
LEAK = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'


def only_record(agent_run: AgentRun) -> dict[str, Any]:
    records = [line["record"] for line in agent_run.journal if "record" in line]
    assert len(records) == 1
    record = records[0]
    assert isinstance(record, dict)
    return record


@pytest.mark.parametrize(
    ("reply", "outcome", "blame"),
    [
        (call("get_weather", city="Oslo"), "passed", None),
        (call("get_weather", city="Bergen"), "failed", "model"),
        (call("get_weather", town="Oslo"), "failed", "model"),
        (call("get_news", city="Oslo"), "failed", "model"),
        (say("It is sunny."), "failed", "model"),
        (say(LEAK), "failed", "engine"),
        (say("Let me think about", stop_reason="max_tokens"), "failed", "config"),
        (http_error(500, "out of memory"), "infra", "engine"),
        (http_error(503, "loading"), "infra", "engine"),
        (http_error(429, "slow down"), "infra", "engine"),
        (http_error(401, "bad key"), "infra", "config"),
        (http_error(404, "no such model"), "infra", "config"),
        (html(), "infra", "config"),
        (raw(b"{", "application/json"), "infra", "engine"),
        (say("one two three four", cut_after=2), "infra", "engine"),
        (hang(), "failed", "engine"),
    ],
    ids=lambda value: None if isinstance(value, Scripted) else str(value),
)
def test_outcome_and_blame(
    agent_run: AgentRun, scripted: Scripts, reply: Scripted, outcome: str, blame: str | None
) -> None:
    agent_run.checks(ASKS_FOR_A_CALL)
    result = agent_run(f"--agent-model={scripted([reply]).spec}", "--agent-timeout=300ms")
    record = only_record(agent_run)
    assert (record["outcome"], record["blame"]) == (outcome, blame)
    assert result.ret == (0 if outcome == "passed" else 1)
    assert record["message"] or outcome == "passed"


def test_a_timeout_is_an_infinite_latency(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks("def test_hi(agent):\n    agent.ask('hi')\n")
    agent_run(f"--agent-model={scripted([hang()]).spec}", "--agent-timeout=200ms")
    latency = agent_run.report["models"][0]["latency"]
    assert latency["n"] == 1
    assert latency["p95_ms"] == "Infinity"
    assert only_record(agent_run)["timed_out"] is True


def test_infra_is_no_latency_sample_and_no_score(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks("def test_hi(agent):\n    agent.ask('hi')\n")
    agent_run(f"--agent-model={scripted([http_error(500, 'x')]).spec}")
    model = agent_run.report["models"][0]
    assert model["score"]["value"] is None
    assert model["latency"]["n"] == 0
    assert model["completion"]["infra"] == 1


def test_a_caught_server_error_still_is_not_the_models_fault(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(
        """
        def test_careful(agent):
            try:
                text = agent.ask("hi").text
            except Exception:
                text = ""
            assert text == "yes"
        """
    )
    agent_run(f"--agent-model={scripted([http_error(500, 'x')]).spec}")
    assert only_record(agent_run)["outcome"] == "infra"


def test_a_crash_of_the_test_is_blamed_on_the_test(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks("def test_crash(agent):\n    agent.ask('hi')\n    {}['typo']\n")
    agent_run(f"--agent-model={scripted().spec}")
    record = only_record(agent_run)
    assert (record["outcome"], record["blame"]) == ("failed", "test")
    assert record["message"] == "KeyError: 'typo'"


@pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="the subtests fixture came with 9.0")
def test_a_failed_subtest_fails_the_trial(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(
        """
        def test_parts(agent, subtests):
            text = agent.ask("hi").text
            with subtests.test("first"):
                assert text == "no"
            with subtests.test("second"):
                assert text == "yes"
        """
    )
    agent_run(f"--agent-model={scripted().spec}")
    assert only_record(agent_run)["outcome"] == "failed"


def test_latency_is_the_time_spent_waiting_on_the_model(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(
        """
        import time

        def test_two_calls(agent):
            agent.ask("one")
            time.sleep(0.2)
            agent.ask("two")
        """
    )
    agent_run(f"--agent-model={scripted([say('yes', first_delay_s=0.05)]).spec}")
    record = only_record(agent_run)
    waited = record["latency_ms"]
    assert len(record["calls"]) == 2
    assert 100 <= waited <= 1000 * record["duration_s"] - 199


def test_what_a_model_writes_cannot_drive_the_terminal(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(
        """
        def test_hostile(agent):
            text = agent.ask("hi").text
            print(text)
            assert text == "clean\\nlines"
        """
    )
    hostile = "evil\x1b]0;owned\x07\x1b[2J\x9b31m\nlines\x1b[8mhidden"
    result = agent_run(f"--agent-model={scripted([say(hostile)]).spec}", "--color=yes", "-vv")
    shown = result.stdout.str()
    assert "owned" in shown
    for sequence in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\x1b[8m"):
        assert sequence not in shown
        assert sequence not in (agent_run.folder / "out.json").read_text()


@pytest.mark.parametrize("reply", [say("no call"), http_error(500, "broken")])
def test_a_traceback_ends_at_the_line_of_the_test(
    agent_run: AgentRun, scripted: Scripts, reply: Scripted
) -> None:
    agent_run.checks(ASKS_FOR_A_CALL)
    shown = agent_run(f"--agent-model={scripted([reply]).spec}").stdout.str()
    assert "expect_tool_call" in shown
    assert "pytest_agentlimit/chat" not in shown
    assert "pytest_agentlimit/endpoints" not in shown
    assert "httpx" not in shown


def test_a_pass_without_a_call_is_said(agent_run: AgentRun) -> None:
    agent_run.checks("def test_lazy(agent):\n    assert agent\n")
    result = agent_run("--agent-model=null:mute")
    assert "passed without asking the model" in " ".join(result.stdout.str().split())


def test_usage_and_findings_are_kept(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks("def test_hi(agent):\n    agent.ask('hi')\n")
    agent_run(f"--agent-model={scripted([say('yes')]).spec}")
    usage = agent_run.report["models"][0]["usage"]
    assert usage["calls"] == 1
    assert usage["output_tokens"] is None or usage["output_tokens"] > 0


def test_a_missing_file_is_the_engines_fault_when_its_call_was_lost(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(
        """
        def test_writes(agent, workspace):
            agent.run("Write the note.", tools=workspace.tools)
            assert workspace.read("note.txt") == "done"
        """
    )
    leak = '<tool_call>{"name": "write_file", "arguments": {"path": "note.txt"}}</tool_call>'
    agent_run(f"--agent-model={scripted([say(leak)]).spec}")
    assert (only_record(agent_run)["outcome"], only_record(agent_run)["blame"]) == (
        "failed",
        "engine",
    )
    agent_run(f"--agent-model={scripted([say('I wrote it.')]).spec}", "--agent-seed=2")
    assert agent_run.report["models"][0]["checks"][0]["blame"] == {"model": 1}

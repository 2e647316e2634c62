from __future__ import annotations

import inspect
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import pytest
from agent_run import AgentRun

from pytest_agentlimit import hookspecs
from pytest_agentlimit.chat.messages import Usage
from pytest_agentlimit.testing import ScriptedEndpoint, say

Scripts = Callable[..., ScriptedEndpoint]
WORKERS = pytest.mark.parametrize("workers", ["-n0", "-n2"])
GOOD = "def test_hi(agent):\n    assert agent.ask('hi').text == 'yes'\n"
QUOTES = """
    def test_quotes(agent):
        text = agent.ask("hi").text
        assert text == "no", f"it said: {text}"
"""


def pasted(hook: str) -> str:
    doc = inspect.getdoc(getattr(hookspecs, hook))
    assert doc is not None
    return dedent(doc.split("::\n", 1)[1])


def messages(agent_run: AgentRun) -> list[Any]:
    return [line["record"]["message"] for line in agent_run.journal if "record" in line]


def everything_kept(agent_run: AgentRun) -> str:
    kept = [path for path in agent_run.folder.glob(".agentlimit/**/*") if path.is_file()]
    return "\n".join(path.read_text() for path in [*kept, agent_run.folder / "out.json"])


def test_this_file_knows_every_hook() -> None:
    known = {name for name in vars(hookspecs) if name.startswith("pytest_")}
    assert known == {
        "pytest_agentlimit_models",
        "pytest_agentlimit_make_client",
        "pytest_agentlimit_redact",
        "pytest_agentlimit_gate",
        "pytest_agentlimit_update_report",
    }


def test_models_names_an_endpoint(agent_run: AgentRun) -> None:
    agent_run.pytester.makeconftest(pasted("pytest_agentlimit_models"))
    agent_run.checks(GOOD)
    result = agent_run("--collect-only", "-q", "-v", "--agent-model=lab")
    result.stdout.fnmatch_lines(
        [
            "agentlimit: lab = ollama+http://127.0.0.1:11434#qwen3:30b (conftest.py)",
            "*test_hi?lab-t1?*",
        ]
    )


@WORKERS
def test_a_model_of_a_conftest_is_run_like_any_other(
    agent_run: AgentRun, scripted: Scripts, workers: str
) -> None:
    server = scripted(dialect="ollama", model="qwen3:30b")
    conftest = pasted("pytest_agentlimit_models")
    agent_run.pytester.makeconftest(conftest.replace("11434", str(server.port)))
    agent_run.checks(GOOD)
    agent_run(workers, "--agent-model=lab", "--agent-trials=2").assert_outcomes(passed=2)
    assert [model["name"] for model in agent_run.report["models"]] == ["lab"]
    assert {request.model for request in server.chat_requests} == {"qwen3:30b"}


@WORKERS
def test_make_client_replaces_the_client_and_is_still_measured(
    agent_run: AgentRun, scripted: Scripts, workers: str
) -> None:
    server = scripted()
    agent_run.pytester.makeconftest(pasted("pytest_agentlimit_make_client"))
    agent_run.checks(GOOD)
    result = agent_run(workers, f"--agent-model={server.spec}", "--agent-trials=2")
    result.assert_outcomes(passed=2)
    sent = [request for request in server.requests if request.body and "messages" in request.body]
    assert len(sent) >= 2
    assert [request.headers.get("x-team") for request in sent[-2:]] == ["agents", "agents"]
    model = agent_run.report["models"][0]
    assert (model["usage"]["calls"], model["latency"]["n"]) == (2, 2)


@WORKERS
def test_redact_keeps_a_secret_out_of_everything_stored(
    agent_run: AgentRun, scripted: Scripts, workers: str
) -> None:
    agent_run.pytester.makeconftest(pasted("pytest_agentlimit_redact"))
    agent_run.checks(QUOTES)
    server = scripted([say("ask ACME Corp about it")])
    agent_run(workers, f"--agent-model={server.spec}", "--agent-trials=2")
    kept = everything_kept(agent_run)
    assert "ACME" not in kept
    assert "ask [customer] about it" in kept
    first_failure = agent_run.report["models"][0]["checks"][0]["first_failure"]
    assert "ask [customer] about it" in first_failure


def test_without_the_hook_a_message_is_kept_as_it_is(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(QUOTES)
    agent_run(f"--agent-model={scripted([say('ask ACME Corp')]).spec}")
    assert "ask ACME Corp" in everything_kept(agent_run)


def test_redactions_chain_and_hold_below_their_folder(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    redact = "def pytest_agentlimit_redact(text):\n    return text.replace({!r}, {!r})\n"
    agent_run.pytester.makeconftest(redact.format("[name]", "[customer]"))
    agent_run.checks(QUOTES, name="test_above")
    below = agent_run.folder / "below"
    below.mkdir()
    (below / "conftest.py").write_text(redact.format("ACME", "[name]"))
    (below / "test_below.py").write_text(dedent(QUOTES))
    agent_run(f"--agent-model={scripted([say('ask ACME')]).spec}")
    above, chained = sorted(messages(agent_run), key=lambda text: "ACME" not in text)
    assert "it said: ask ACME" in above
    assert "it said: ask [customer]" in chained


@pytest.mark.parametrize("returned", ["None", "7", "text.encode()"])
def test_a_redaction_that_returns_no_text_changes_nothing(
    agent_run: AgentRun, scripted: Scripts, returned: str
) -> None:
    agent_run.pytester.makeconftest(f"def pytest_agentlimit_redact(text):\n    return {returned}\n")
    agent_run.checks(QUOTES)
    agent_run(f"--agent-model={scripted([say('ask ACME')]).spec}")
    assert ["it said: ask ACME" in text for text in messages(agent_run)] == [True]


def test_a_broken_redaction_stores_no_text_and_loses_no_trial(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.pytester.makeconftest("def pytest_agentlimit_redact(text):\n    return {}[text]\n")
    agent_run.checks(QUOTES)
    result = agent_run(f"--agent-model={scripted([say('ask ACME')]).spec}")
    result.assert_outcomes(failed=1)
    assert messages(agent_run) == ["[not kept: pytest_agentlimit_redact raised KeyError]"]
    assert "ACME" not in everything_kept(agent_run)


def test_a_redaction_sees_a_long_message_before_it_is_cut(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.pytester.makeconftest(pasted("pytest_agentlimit_redact"))
    agent_run.checks("def test_quotes(agent):\n    pytest.fail(agent.ask('hi').text)\n")
    reply = say("ACME Corp," * 2000)
    agent_run(f"--agent-model={scripted([reply]).spec}", "--tb=no", "-rN")
    (message,) = messages(agent_run)
    assert 3900 < len(message) <= 4000
    assert "ACME" not in message
    assert "rp," not in message


def test_what_a_redaction_returns_cannot_drive_a_terminal_or_kill_a_worker(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.pytester.makeconftest(
        "def pytest_agentlimit_redact(text):\n    return 'cut \\x1b[2J\\ud800'\n"
    )
    agent_run.checks(QUOTES)
    result = agent_run("-n2", f"--agent-model={scripted().spec}")
    result.assert_outcomes(failed=1)
    assert messages(agent_run) == [r"cut \x1b[2J\ud800"]


@pytest.mark.parametrize(
    ("workers", "tokens", "verdict", "code"),
    [("-n0", 5, "pass", 0), ("-n0", 60_000, "fail", 1), ("-n2", 60_000, "fail", 1)],
)
def test_gate_adds_a_rule_that_can_fail_the_run(
    agent_run: AgentRun, scripted: Scripts, workers: str, tokens: int, verdict: str, code: int
) -> None:
    agent_run.pytester.makeconftest(pasted("pytest_agentlimit_gate"))
    agent_run.checks(GOOD)
    usage = Usage(input_tokens=1, output_tokens=tokens)
    server = scripted([say("yes", usage=usage)])
    result = agent_run(workers, f"--agent-model={server.spec}", "--agent-min-score=2")
    (rule,) = [rule for rule in agent_run.report["gate"]["rules"] if rule["rule"] == "tokens"]
    assert (rule["verdict"], rule["observed"], rule["limit"]) == (verdict, tokens, 50_000)
    assert result.ret == code
    assert ("60000 output tokens of 50,000" in result.stdout.str()) is (code == 1)


@WORKERS
def test_update_report_adds_to_the_json_report(
    agent_run: AgentRun, scripted: Scripts, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv("BUILD_NUMBER", "1234")
    agent_run.pytester.makeconftest(pasted("pytest_agentlimit_update_report"))
    agent_run.checks(GOOD)
    agent_run(workers, f"--agent-model={scripted().spec}").assert_outcomes(passed=1)
    assert agent_run.report["build"] == "1234"
    assert agent_run.report["schema_version"] == 1

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_run import AgentRun

from pytest_agentlimit.plugin.settings import read_settings
from pytest_agentlimit.testing import ScriptedEndpoint

Scripts = Callable[..., ScriptedEndpoint]
SECRET = "sk-proj-abcdefghijklmnop1234"


def write_config(path: Path, server: ScriptedEndpoint, key: str = "local") -> None:
    model = {"id": server.model, "name": "Mine", "contextWindow": 4096, "maxTokens": 64}
    provider = {"baseUrl": server.url, "apiKey": key, "models": [model]}
    reference = f"local-llm/{server.model}"
    config = {
        "models": {"providers": {"local-llm": provider}},
        "agents": {
            "defaults": {"model": {"primary": reference}},
            "list": [{"id": "test-local", "model": reference}],
        },
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text("// mine\n" + json.dumps(config))


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("local-llm/Qwen3-30B-A3B", "local-llm-Qwen3-30B-A3B"),
        ("Qwen3-30B-A3B", "Qwen3-30B-A3B"),
        ("agent:test-local", "agent-test-local"),
        ("openclaw:primary", "openclaw-primary"),
    ],
)
def test_a_run_uses_the_model_by_any_of_its_names(
    agent_run: AgentRun, scripted: Scripts, name: str, called: str
) -> None:
    server = scripted(model="Qwen3-30B-A3B")
    write_config(agent_run.folder / "oc" / "openclaw.json", server)
    agent_run.checks("def test_hi(agent): assert agent.ask('hi').text == 'yes'")
    result = agent_run(f"--agent-model={name}", "--agent-config=oc/openclaw.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"agentlimit: {called} = *(OpenClaw config oc/openclaw.json, *"])
    assert [model["name"] for model in agent_run.report["models"]] == [called]
    sent = server.requests[-1].body
    assert (sent["model"], sent["max_tokens"]) == ("Qwen3-30B-A3B", 64)


def test_workers_need_no_config(agent_run: AgentRun, scripted: Scripts) -> None:
    write_config(agent_run.folder / "openclaw.json", scripted(model="m"))
    agent_run.checks("def test_hi(agent): assert agent.ask('hi').text == 'yes'")
    result = agent_run("--agent-model=m", "--agent-config=.", "-n2", "--agent-trials=3")
    result.assert_outcomes(passed=3)


def test_the_usual_place_is_read_when_no_config_is_given(
    agent_run: AgentRun, scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(agent_run.folder / ".clawdbot" / "clawdbot.json", scripted(model="m"))
    monkeypatch.setenv("OPENCLAW_HOME", str(agent_run.folder))
    agent_run.checks("def test_hi(agent): assert agent.ask('hi').text == 'yes'")
    result = agent_run("--agent-model=openclaw:primary")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*OpenClaw config .clawdbot/clawdbot.json, *"])


def test_a_key_reaches_the_server_and_nothing_else(
    agent_run: AgentRun, scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_KEY", SECRET)
    server = scripted(model="m", api_key=SECRET)
    write_config(agent_run.folder / "openclaw.json", server, "${LAB_KEY}")
    agent_run.checks("def test_hi(agent): assert agent.ask('hi').text == 'yes'")
    result = agent_run("--agent-model=m", "--agent-config=openclaw.json")
    result.assert_outcomes(passed=1)
    kept = [path for path in agent_run.folder.rglob("*") if path.is_file()]
    assert len(kept) > 3
    assert not [path for path in kept if SECRET in path.read_text(errors="replace")]
    assert SECRET not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "the OpenClaw config oc.json cannot be read: no such file"),
        ("{\n a: }", "oc.json is not valid JSON5: line 2, column 5: unexpected '}'"),
        (
            f'{{models: {{providers: {{p: {{apiKey: "{SECRET}", baseUrl: "http://h/v1"}}}}}}}}',
            "oc.json: models.providers.p.apiKey: this seems to hold a key itself",
        ),
    ],
)
def test_a_config_that_cannot_work_is_one_line_and_exit_4(
    agent_run: AgentRun, text: str | None, words: str
) -> None:
    if text is not None:
        (agent_run.folder / "oc.json").write_text(text)
    agent_run.checks("def test_hi(agent): pass")
    result = agent_run("--agent-model=p/m", "--agent-config=oc.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = [line for line in result.errlines if line]
    assert told[0].startswith(f"ERROR: {words}")
    assert len(told) == 1
    assert SECRET not in result.stderr.str() + result.stdout.str()


def test_the_flag_counts_from_here_and_the_ini_file_from_the_root(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\nagentlimit_config = oc/openclaw.json")
    inside = pytester.mkdir("inside")
    monkeypatch.chdir(inside)
    root = pytester.path
    assert read_settings(pytester.parseconfig()).config == str(root / "oc/openclaw.json")
    given = pytester.parseconfig("--agent-config=my.json")
    assert read_settings(given).config == str(inside / "my.json")


def test_a_resumed_run_finds_its_config_again(
    agent_run: AgentRun, scripted: Callable[..., ScriptedEndpoint]
) -> None:
    write_config(agent_run.folder / "elsewhere" / "openclaw.json", scripted())
    agent_run.checks("def test_hi(agent): assert agent.ask('hi').text == 'yes'")
    agent_run("--agent-config=elsewhere/openclaw.json", "--agent-model=openclaw:primary")
    (journal,) = agent_run.folder.glob(".agentlimit/runs/*/journal.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"kind":"trial"' not in line))
    assert agent_run("--agent-resume").ret == 0
    assert agent_run.outcomes == ["passed"]

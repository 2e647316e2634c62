from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agent_run import AgentRun
from zoo import ZOO, kept

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, call, raw, say

Scripts = Callable[..., ScriptedEndpoint]
CHECK = """
    def test_a(agent):
        assert agent.ask("what is it?").text
    """
SCHEMA_CHECK = """
    COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red", "green"]}}}
    def test_needs_a_schema(agent):
        agent.ask("A colour?", schema=COLOUR).expect_json(COLOUR)
    def test_needs_none(agent):
        assert agent.ask("Say hello.").text
    """
# What a server of flesh and blood lists; a scripted one says that it plays a script.
REAL = {"/v1/models": raw(b'{"data": [{"id": "scripted"}]}')}


def healthy(request: ChatRequest) -> Scripted:
    if request.tool_choice is not None:
        return call("get_weather", city="Oslo")
    with_schema = request.json_schema is not None
    return say('{"colour": "red"}' if with_schema else f"hello {len(request.messages[0].text)}")


def manifest(run: AgentRun) -> dict[str, Any]:
    (path,) = run.folder.glob(".agentlimit/runs/*/manifest.json")
    loaded = json.loads(path.read_text())
    assert isinstance(loaded, dict)
    return loaded


def kept_files(run: AgentRun) -> list[Path]:
    return sorted(run.folder.glob(".agentlimit/preflight/*.json"))


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_it_is_asked_once_and_at_most_twelve_times(
    agent_run: AgentRun, scripted: Scripts, workers: str
) -> None:
    agent_run.checks(CHECK)
    server = scripted(healthy, routes=REAL)
    result = agent_run(workers, f"--agent-model={server.spec}", "--agent-trials=3")
    assert result.ret == 0
    (entry,) = manifest(agent_run)["models"]
    assert entry["preflight"]["mode"] == "quick"
    assert 5 < entry["preflight"]["requests"] <= 12
    starts = ("agentlimit: preflight of ", "agentlimit:   ")
    assert sum(line.startswith(starts) for line in result.outlines) == 4
    (model,) = agent_run.report["models"]
    assert model["usage"]["calls"] == 3
    assert model["fingerprint"]["preflight"]["facts"]["json_schema"] is True
    assert "seconds" not in model["fingerprint"]["preflight"]


def test_a_server_that_plays_a_script_is_left_alone_unless_asked(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    server = scripted(healthy)
    agent_run(f"--agent-model={server.spec}")
    assert len(server.chat_requests) == 1
    assert "preflight" not in agent_run.report["models"][0]["fingerprint"]
    agent_run(f"--agent-model={server.spec}", "--agent-preflight=quick")
    assert len(server.chat_requests) > 5


def test_off_asks_nothing(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECK)
    server = scripted(healthy, routes=REAL)
    result = agent_run(f"--agent-model={server.spec}", "--agent-preflight=off")
    assert [request.max_tokens for request in server.chat_requests] == [1, 1024]  # and a warm-up
    result.stdout.no_fnmatch_line("*preflight*")


def test_null_models_and_clients_of_a_hook_are_not_looked_at(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    result = agent_run("--agent-model=null:parrot", "--agent-preflight=quick")
    result.stdout.no_fnmatch_line("*preflight*")
    agent_run.pytester.makeconftest(
        """
        from pytest_agentlimit import Endpoint
        def pytest_agentlimit_make_client(spec, on_exchange):
            return Endpoint(spec, on_exchange=on_exchange)
        """
    )
    server = scripted(healthy, routes=REAL)
    agent_run(f"--agent-model={server.spec}", "--agent-preflight=quick")
    assert len(server.chat_requests) == 1


def test_nothing_is_asked_where_no_check_runs(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks("def test_plain(): pass")
    server = scripted(healthy, routes=REAL)
    for args in ((), ("--collect-only",)):
        agent_run(f"--agent-model={server.spec}", "--agent-preflight=quick", *args)
    assert server.chat_requests == []


def test_the_second_run_reuses_what_the_first_found(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECK)
    server = scripted(healthy, routes=REAL)
    first = agent_run(f"--agent-model={server.spec}")
    asked = len(server.chat_requests)
    second = agent_run(f"--agent-model={server.spec}", "-n2")
    assert len(server.chat_requests) == asked + 2  # a warm-up and the trial
    first.stdout.no_fnmatch_line("* s ago")
    second.stdout.fnmatch_lines(["*preflight of scripted: * request* in * s, * s ago"])
    reports = [entry["models"][0]["preflight"] for entry in manifests(agent_run)]
    assert reports[0] == reports[1]


def manifests(run: AgentRun) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in run.folder.glob(".agentlimit/runs/*/manifest.json")]


def an_hour_passes(text: str) -> str:
    content = json.loads(text)
    content["asked"] -= 3601
    return json.dumps(content)


DAMAGES: dict[str, Callable[[str], str]] = {
    "an hour": an_hour_passes,
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "another shape": lambda text: "[1]",
    "a wrong time": lambda text: text.replace('"asked": ', '"asked": "x", "was": '),
    "the future": lambda text: text.replace('"asked": 1', '"asked": 9'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_old_or_damaged_is_asked_again(
    agent_run: AgentRun, scripted: Scripts, damage: str
) -> None:
    agent_run.checks(CHECK)
    server = scripted(healthy, routes=REAL)
    agent_run(f"--agent-model={server.spec}")
    asked = len(server.chat_requests)
    (path,) = kept_files(agent_run)
    path.write_text(DAMAGES[damage](path.read_text()))
    assert agent_run(f"--agent-model={server.spec}").ret == 0
    assert len(server.chat_requests) == 2 * asked


def test_another_setting_makes_another_endpoint(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECK)
    server = scripted(healthy, routes=REAL)
    for temperature in (0.1, 0.9):
        (agent_run.folder / "agentlimit.toml").write_text(
            f'[models.x]\nbase_url = "{server.endpoint().base_url}"\nmodel = "scripted"\n'
            f"temperature = {temperature}\n"
        )
        agent_run("--agent-model=x")
    assert len(kept_files(agent_run)) == 2


def test_a_faulty_result_is_not_kept(agent_run: AgentRun) -> None:
    agent_run.checks(CHECK)
    with kept(ZOO["schema ignored"], "openai") as (server, _):
        agent_run(f"--agent-model={server.spec}", "--agent-preflight=quick")
        asked = len(server.chat_requests)
        agent_run(f"--agent-model={server.spec}", "--agent-preflight=quick")
        assert len(server.chat_requests) == 2 * asked
    assert kept_files(agent_run) == []


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_what_an_engine_cannot_do_is_not_asked_of_it(agent_run: AgentRun, workers: str) -> None:
    agent_run.checks(SCHEMA_CHECK)
    with kept(ZOO["schema ignored"], "openai") as (server, _):
        probes = agent_run(
            workers, f"--agent-model={server.spec}", "--agent-preflight=quick", "--agent-trials=2"
        )
        wanted = [r for r in server.chat_requests if r.json_schema and "colour" not in str(r)]
    probes.assert_outcomes(passed=2, skipped=2)
    assert probes.ret == 0
    assert wanted == []
    needs, other = agent_run.report["models"][0]["checks"]
    assert (needs["outcomes"], needs["blame"]) == ({"unsupported": 2}, {"engine": 2})
    assert other["outcomes"] == {"passed": 2}
    assert agent_run.report["models"][0]["completion"]["unsupported"] == 2
    reasons = {line["record"]["message"] for line in agent_run.journal if "record" in line}
    (reason,) = reasons - {None}
    assert reason.startswith("unsupported by scripted: a JSON schema was accepted and ignored")
    assert "Next: agentlimit doctor scripted --fix-hints; --agent-preflight=off asks" in reason
    probes.stdout.fnmatch_lines(["*faults * schema_ignored (blame: engine): *"])


def test_a_check_that_swallows_errors_does_not_swallow_this(agent_run: AgentRun) -> None:
    agent_run.checks(
        """
        def test_it(agent):
            try:
                agent.ask("A colour?", schema={"type": "object"})
            except Exception:
                pass
        """
    )
    with kept(ZOO["schema refused"], "openai") as (server, _):
        agent_run(f"--agent-model={server.spec}", "--agent-preflight=quick")
    assert agent_run.outcomes == ["unsupported"]


def test_a_blocker_that_is_unsupported_is_no_pass(agent_run: AgentRun) -> None:
    agent_run.checks(
        SCHEMA_CHECK.replace("def test_needs_a", "@pytest.mark.blocker\n    def test_needs_a")
    )
    with kept(ZOO["schema ignored"], "openai") as (server, _):
        result = agent_run(
            f"--agent-model={server.spec}", "--agent-preflight=quick", "--agent-min-score=10"
        )
    assert result.ret == 1
    rules = {rule["rule"]: rule["verdict"] for rule in agent_run.report["gate"]["rules"]}
    assert rules["blockers"] == "inconclusive"


def test_a_server_that_answers_nothing_does_not_stop_the_run(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    server = scripted(lambda request: raw(b"<html>", "text/html"), routes=REAL)
    result = agent_run(f"--agent-model={server.spec}")
    assert agent_run.outcomes == ["infra"]
    result.stdout.fnmatch_lines(["*1 fault: html (config: *", "*infra*"])


def test_a_resumed_run_keeps_what_its_first_part_found(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    server = scripted(healthy, routes=REAL)
    agent_run(f"--agent-model={server.spec}")
    (journal,) = agent_run.folder.glob(".agentlimit/runs/*/journal.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"kind":"trial"' not in line))
    before = manifest(agent_run)["models"]
    asked = len(server.chat_requests)
    result = agent_run("--agent-resume")
    assert result.ret == 0
    assert len(server.chat_requests) == asked + 2  # a warm-up and the trial
    assert manifest(agent_run)["models"] == before


def test_a_wrong_word_is_refused(agent_run: AgentRun) -> None:
    agent_run.checks(CHECK)
    result = agent_run("--agent-model=null:parrot", "--agent-preflight=fast")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--agent-preflight is one of off, quick, full, not 'fast'"])

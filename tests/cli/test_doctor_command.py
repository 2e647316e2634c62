from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doctor_kit import good
from offline_kit import Cli

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.endpoints import discovery
from pytest_agentlimit.endpoints.discovery import Probe
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, html, raw, say

CONTEXT = 8192
LEAK = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'


def leaking(request: ChatRequest) -> Scripted:
    return say(LEAK) if request.tools else good(request)


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "default_probes", lambda environ: ())
    monkeypatch.setattr("pytest_agentlimit.endpoints.resolve.default_probes", lambda environ: ())


@pytest.fixture
def healthy() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(good) as server:
        yield server


@pytest.fixture
def ill() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(leaking) as server:
        yield server


def loaded(text: str) -> dict[str, Any]:
    value = json.loads(text)
    assert isinstance(value, dict)
    return value


def configured(root: Path, **servers: ScriptedEndpoint) -> None:
    tables = [
        f'[tool.agentlimit.models.{name}]\nbase_url = "{server.url}"\nmodel = "{server.model}"\n'
        f"context_window = {CONTEXT}\n"
        for name, server in servers.items()
    ]
    (root / "pyproject.toml").write_text("\n".join(tables))


def test_a_healthy_server_ends_in_0_with_a_line_for_each_step(
    cli: Cli, healthy: ScriptedEndpoint
) -> None:
    answer = cli("doctor", healthy.spec, "--quick")
    assert (answer.code, answer.err) == (0, "")
    head, *steps, last = answer.out.splitlines()
    assert head == f"{healthy.spec}: scripted at {healthy.url} (openai)"
    assert [line[2] for line in steps] == list("✓✓?✓✓✓✓✓✓✓✓✓✓")
    assert last.startswith(f"  no fault seen in {len(healthy.requests)} requests, ")


def test_a_problem_ends_in_1_with_its_name_and_the_next_step(
    cli: Cli, ill: ScriptedEndpoint
) -> None:
    answer = cli("doctor", ill.spec, "--quick")
    assert answer.code == 1
    assert "✗ tool " in answer.out
    assert "[leaked_call, blame: engine]" in answer.out
    assert "next: Give the server the tool parser" in answer.out
    assert "1 problem in " in answer.out
    assert "line: " not in answer.out


def test_fix_hints_print_the_exact_lines(cli: Cli, ill: ScriptedEndpoint) -> None:
    answer = cli("doctor", ill.spec, "--quick", "--fix-hints")
    assert "line: compat.supportsTools: false" in answer.out


def test_what_is_not_there_ends_in_2(cli: Cli) -> None:
    unreachable = cli("doctor", "openai+http://127.0.0.1:9/v1#m")
    assert unreachable.code == 2
    assert "[refused, blame: network]" in unreachable.out
    unknown = cli("doctor", "no-such-model")
    assert unknown.code == 2
    assert "no model is called 'no-such-model'" in unknown.out


def test_nothing_to_examine_ends_in_2_with_the_next_step(cli: Cli) -> None:
    answer = cli("doctor")
    assert (answer.code, answer.out) == (2, "")
    (line,) = answer.err.splitlines()
    assert line.startswith("error: no model is configured")


def test_a_config_that_cannot_be_used_is_a_problem(cli: Cli) -> None:
    (cli.root / "pyproject.toml").write_text(
        '[tool.agentlimit.models.broken]\nbase_urll = "http://127.0.0.1:9/v1"\n'
    )
    for arguments in (["doctor"], ["doctor", "broken"]):
        answer = cli(*arguments)
        assert answer.code == 1
        assert "did you mean base_url?" in answer.out


def test_the_worst_of_several_decides(
    cli: Cli, healthy: ScriptedEndpoint, ill: ScriptedEndpoint
) -> None:
    assert cli("doctor", healthy.spec, ill.spec, "--quick").code == 1
    assert cli("doctor", healthy.spec, ill.spec, "no-such-model", "--quick").code == 2


def test_without_a_name_everything_configured_or_found_is_examined_once(
    cli: Cli, healthy: ScriptedEndpoint, ill: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(cli.root, good=healthy, again=healthy)
    places = (
        Probe(label="vLLM", port=healthy.port),
        Probe(label="llama.cpp", port=ill.port),
    )
    monkeypatch.setattr(discovery, "default_probes", lambda environ: places)
    found = loaded(cli("doctor", "--quick", "--json").out)
    assert [model["name"] for model in found["models"]] == ["good", "llama.cpp: scripted"]


def test_one_model_of_a_server_with_many_is_examined(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [{"id": name} for name in ("first", "second", "third")]
    listing = raw(json.dumps({"data": ids}).encode())
    with ScriptedEndpoint(good, routes={"/v1/models": listing}) as server:
        places = (Probe(label="LM Studio", port=server.port),)
        monkeypatch.setattr(discovery, "default_probes", lambda environ: places)
        found = loaded(cli("doctor", "--quick", "--json").out)
        assert {request.model for request in server.chat_requests} == {"first"}
    assert [model["model"] for model in found["models"]] == ["first"]


def test_a_server_without_a_model_list_is_a_problem(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedEndpoint(good, routes={"/v1/models": html()}) as server:
        places = (Probe(label="vLLM", port=server.port),)
        monkeypatch.setattr(discovery, "default_probes", lambda environ: places)
        answer = cli("doctor")
    assert answer.code == 1
    assert "answers, but not with a model list" in answer.out


def test_json_holds_every_key_that_is_documented(cli: Cli, ill: ScriptedEndpoint) -> None:
    answer = cli("doctor", ill.spec, "no-such-model", "--quick", "--json")
    found = loaded(answer.out)
    assert (found["schema_version"], found["exit_code"], answer.code) == (1, 2, 2)
    first, second = found["models"]
    assert (first["state"], second["state"]) == ("problems", "absent")
    page = (Path(__file__).parents[2] / "docs/how-to/ask-the-doctor.md").read_text()
    keys = {*found, *first, *second, *first["results"][0], *first["facts"]}
    told = {"dialect", "model", "engine", "engine_version", "quantisation", "template_hash"}
    told |= {"digest", "sampling", "tools_advertised"}  # what the server says of itself
    assert {key for key in keys - told if f"`{key}`" not in page} == set()
    faults = [result for result in first["results"] if result["verdict"] == "fault"]
    assert [fault["code"] for fault in faults] == ["leaked_call"]
    assert faults[0]["fix"]["line"] == "compat.supportsTools: false"


def test_the_page_names_every_step(cli: Cli, healthy: ScriptedEndpoint) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/ask-the-doctor.md").read_text()
    found = loaded(cli("doctor", healthy.spec, "--json").out)
    for result in found["models"][0]["results"]:
        assert f"| {result['name']} |" in page


def test_what_a_server_says_cannot_drive_the_terminal(cli: Cli) -> None:
    evil = "\x1b[2J::error::\u202egnp"
    listing = raw(json.dumps({"data": [{"id": evil}]}).encode())
    with ScriptedEndpoint(good, routes={"/v1/models": listing}) as server:
        answer = cli("doctor", server.spec)
    assert answer.code == 1
    assert "\x1b" not in answer.out
    assert "\u202e" not in answer.out


def test_a_null_model_has_no_doctor(cli: Cli) -> None:
    answer = cli("doctor", "null:parrot")
    assert answer.code == 1
    assert "null model" in answer.out

from __future__ import annotations

import json
from pathlib import Path

import pytest
from offline_kit import Cli

from pytest_agentlimit.endpoints import discovery

SECRET = "sk-proj-abcdefghijklmnop1234"
LOCAL = {"baseUrl": "http://127.0.0.1:9/v1", "models": [{"id": "m"}, {"id": "n", "api": "zzz"}]}
CONFIG = {
    "models": {
        "providers": {
            "local-llm": LOCAL,
            "cloud": {**LOCAL, "apiKey": "${CLOUD_KEY}", "models": [{"id": "c"}]},
            "leaky": {**LOCAL, "apiKey": SECRET, "models": [{"id": "l"}]},
            "broken": SECRET,
        }
    },
    "agents": {"entries": {"test-local": {"model": "local-llm/m"}}},
}


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "default_probes", lambda environ: ())
    monkeypatch.delenv("CLOUD_KEY", raising=False)


def rows(cli: Cli, *arguments: str) -> dict[str, str]:
    answer = cli("models", *arguments)
    assert answer.code == 0
    assert SECRET not in answer.out
    return {line.split()[0]: " ".join(line.split()[1:]) for line in answer.out.splitlines()}


def home_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "home/.openclaw").mkdir(parents=True)
    (tmp_path / "home/.openclaw/openclaw.json").write_text(text)
    monkeypatch.setenv("OPENCLAW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_what_the_config_offers_is_listed_with_its_state(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home_with(tmp_path, monkeypatch, json.dumps(CONFIG))
    listed = rows(cli)
    file = "home/.openclaw/openclaw.json"
    assert listed["local-llm/m"] == f"{file}: m at http://127.0.0.1:9/v1 configured"
    assert listed["agent:test-local"] == f"{file}: m at http://127.0.0.1:9/v1 configured"
    assert "unknown api 'zzz'" in listed["local-llm/n"]
    assert listed["cloud/c"].endswith("needs $CLOUD_KEY, which is not set")
    assert "cannot be used" in listed["leaky/l"]
    assert "must be an object" in listed["broken/"]
    assert "null:parrot" in listed


def test_another_config_can_be_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "oc.json5").write_text(json.dumps(CONFIG))
    assert "local-llm/m" in rows(cli, "--agent-config", "oc.json5")


@pytest.mark.parametrize("text", ["{", "[]", '{"models": 3}', '{"$include": "openclaw.json"}'])
def test_a_broken_config_is_one_row(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    home_with(tmp_path, monkeypatch, text)
    listed = rows(cli)
    assert "cannot be used: home/.openclaw/openclaw.json" in listed["openclaw:primary"]
    assert sum("openclaw" in line for line in listed.values()) == 1
    assert "smollm2" in listed


def test_a_broken_config_that_was_named_is_an_error(cli: Cli) -> None:
    answer = cli("models", "--agent-config=gone.json")
    assert answer.code == 1
    assert answer.err.startswith("error: the OpenClaw config gone.json cannot be read")

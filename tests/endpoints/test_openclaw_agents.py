from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openclaw_kit import SECRET, one_model, opened, problem_of, spec_of, written

from pytest_agentlimit.endpoints.openclaw import fallback_chain, find_spec, open_config
from pytest_agentlimit.endpoints.openclaw_check import check_config
from pytest_agentlimit.errors import UsageProblem

OWN = "http://127.0.0.1:9/v1"
CONFIGURED = "http://127.0.0.1:8000/v1"


def config(**models: Any) -> dict[str, Any]:
    """The model p/m, chosen by all and by the agent "a"."""
    whole = one_model({"contextWindow": 65536}, apiKey="${LAB_KEY}")
    whole["models"] |= models
    whole["agents"] = {"defaults": {"model": "p/m"}, "entries": {"a": {"model": "p/m"}, "b": {}}}
    return whole


def own_models(folder: Path, providers: Any, agent: str = "a") -> None:
    written(folder, {"providers": providers}, f"agents/{agent}/agent/models.json")


def test_an_address_of_the_agents_own_file_wins_for_that_agent_only(tmp_path: Path) -> None:
    own_models(tmp_path, {"p": {"baseUrl": OWN, "apiKey": "OWN_KEY", "models": []}})
    spec = spec_of(tmp_path, config(), "agent:a")
    assert (spec.base_url, spec.api_key_env, spec.context_window) == (OWN, "OWN_KEY", 65536)
    assert spec.source == (
        "OpenClaw config openclaw.json with agents/a/agent/models.json, agent:a.model = p/m"
    )
    for name in ("p/m", "agent:b"):
        assert spec_of(tmp_path, config(), name).base_url == CONFIGURED


@pytest.mark.parametrize("empty", [{"baseUrl": "", "apiKey": " "}, {}, 3])
def test_what_is_empty_there_wins_nothing(tmp_path: Path, empty: Any) -> None:
    own_models(tmp_path, {"p": empty})
    spec = spec_of(tmp_path, config(), "agent:a")
    assert (spec.base_url, spec.api_key_env) == (CONFIGURED, "LAB_KEY")


@pytest.mark.parametrize("key", ["secretref-managed", "secretref-env:OTHER", "oauth:x", SECRET])
def test_a_key_that_says_less_than_the_config_does_not_win(tmp_path: Path, key: str) -> None:
    own_models(tmp_path, {"p": {"apiKey": key}})
    spec = spec_of(tmp_path, config(), "agent:a", {"LAB_KEY": SECRET})
    assert spec.api_key_env == "LAB_KEY"


def test_another_key_in_the_agents_file_is_refused_without_being_shown(tmp_path: Path) -> None:
    own_models(tmp_path, {"p": {"apiKey": SECRET}})
    message = problem_of(tmp_path, config(), "agent:a", {"LAB_KEY": "another"})
    assert message.startswith("openclaw.json with agents/a/agent/models.json: models.providers.p.")
    assert "seems to hold a key itself" in message
    assert SECRET not in message


def test_providers_of_the_agents_own_file_are_there_for_it(tmp_path: Path) -> None:
    own_models(tmp_path, {"q": {"baseUrl": OWN, "models": [{"id": "n"}]}})
    whole = config()
    whole["agents"]["entries"]["a"]["model"] = {"primary": "q/n", "fallbacks": ["p/m"]}
    chain = fallback_chain(opened(tmp_path, whole), "agent:a")
    assert [spec.base_url for spec in chain] == [OWN, CONFIGURED]
    assert find_spec(opened(tmp_path, whole), "q/n") is None
    assert [one.code for one in check_config(opened(tmp_path, whole))] == ["unset_variable"]


def test_a_config_that_replaces_leaves_the_agents_file_alone(tmp_path: Path) -> None:
    own_models(tmp_path, {"p": {"baseUrl": OWN}})
    assert spec_of(tmp_path, config(mode="replace"), "agent:a").base_url == CONFIGURED
    assert spec_of(tmp_path, config(mode="merge"), "agent:a").base_url == OWN


@pytest.mark.parametrize(
    ("agents", "default"),
    [
        ({}, "main"),
        ({"list": [{"id": "x"}, {"id": "y"}]}, "x"),
        ({"list": [{"id": "x"}, {"id": "y", "default": True}]}, "y"),
    ],
)
def test_the_primary_model_is_that_of_the_default_agent(
    tmp_path: Path, agents: dict[str, Any], default: str
) -> None:
    own_models(tmp_path, {"p": {"baseUrl": OWN}}, default)
    own_models(tmp_path, {"p": {"baseUrl": "http://127.0.0.1:1/v1"}}, "other")
    whole = {**config(), "agents": {"defaults": {"model": "p/m"}, **agents}}
    assert spec_of(tmp_path, whole, "openclaw:primary").base_url == OWN


def test_the_agents_files_lie_where_the_state_does(tmp_path: Path) -> None:
    own_models(tmp_path / "state", {"p": {"baseUrl": OWN}})
    environ = {"OPENCLAW_STATE_DIR": str(tmp_path / "state")}
    assert spec_of(tmp_path, config(), "agent:a", environ).base_url == OWN
    assert spec_of(tmp_path, config(), "agent:a").base_url == CONFIGURED


def test_a_broken_file_of_an_agent_stops_that_agent_only(tmp_path: Path) -> None:
    written(tmp_path, f'{{"providers": "{SECRET}', "agents/a/agent/models.json")
    read = opened(tmp_path, config())
    with pytest.raises(UsageProblem, match=r"^agents/a/agent/models.json is not valid JSON5: line"):
        find_spec(read, "agent:a")
    assert find_spec(read, "p/m") is not None
    faults = {fault.code: fault for fault in check_config(read)}
    assert faults["unreadable"].path == "agents.entries.a.model"
    assert SECRET not in repr(faults)


@pytest.mark.parametrize("name", ["../../agents/a", "a/../a", "..", "/etc", "a\0b", "a" * 5000])
def test_the_name_of_an_agent_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    own_models(tmp_path, {"p": {"baseUrl": OWN}})
    whole = config()
    whole["agents"]["entries"][name] = {"model": "p/m"}
    assert spec_of(tmp_path, whole, f"agent:{name}").base_url == CONFIGURED


def test_ids_are_folders_in_lower_case(tmp_path: Path) -> None:
    own_models(tmp_path, {"p": {"baseUrl": OWN}}, "rain")
    whole = config()
    whole["agents"]["entries"]["Rain"] = {"model": "p/m"}
    config_read = open_config(str(written(tmp_path, whole)), tmp_path, {})
    assert config_read is not None
    found = find_spec(config_read, "agent:Rain")
    assert found is not None
    assert found.base_url == OWN

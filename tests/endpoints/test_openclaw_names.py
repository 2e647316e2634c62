from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openclaw_kit import GUIDE, SPARK, one_model, opened, problem_of, spec_of, written

from pytest_agentlimit.endpoints.openclaw import (
    fallback_chain,
    find_spec,
    listed,
    names,
    open_config,
)
from pytest_agentlimit.endpoints.resolve import resolve
from pytest_agentlimit.errors import ModelNotFound, UsageProblem

TWO: dict[str, Any] = {
    "models": {
        "providers": {
            "a": {"baseUrl": "http://127.0.0.1:1/v1", "models": [{"id": "same"}, {"id": "x/y"}]},
            "b": {"baseUrl": "http://127.0.0.1:2/v1", "models": [{"id": "same"}]},
        }
    },
    "agents": {
        "defaults": {
            "model": {"primary": "quick", "fallbacks": ["a/x/y", "b/same"]},
            "models": {"b/same": {"alias": "Quick"}},
        },
        "entries": {
            "plain": {},
            "strict": {"model": "a/same"},
            "careful": {"model": {"primary": "x/y", "fallbacks": ["quick"]}},
        },
    },
}


def test_the_config_of_the_guide_loads_as_it_stands(tmp_path: Path) -> None:
    chain = fallback_chain(opened(tmp_path, GUIDE), "openclaw:primary")
    local, remote = chain
    assert local.model_dump(exclude={"deadlines"}, exclude_defaults=True) == {
        "name": "openclaw-primary",
        "base_url": "http://127.0.0.1:11435/v1",
        "model": "qwen2.5:14b",
        "source": "OpenClaw config openclaw.json, "
        "agents.defaults.model.primary = tinygrad/qwen2.5:14b",
        "context_window": 4096,
        "max_tokens": 2048,
    }
    assert (remote.dialect, remote.base_url) == ("anthropic", "https://api.anthropic.com")
    assert (remote.model, remote.api_key_env) == ("claude-opus-4-5", "ANTHROPIC_API_KEY")
    assert remote.source.endswith("agents.defaults.model.fallbacks[0] = anthropic/claude-opus-4-5")


@pytest.mark.parametrize(
    "name",
    [
        "local-llm/Qwen/Qwen3-30B-A3B-Instruct-2507",
        "Qwen/Qwen3-30B-A3B-Instruct-2507",
        "agent:test-local",
    ],
)
def test_the_provider_of_the_decision_loads_by_every_name(tmp_path: Path, name: str) -> None:
    spec = spec_of(tmp_path, SPARK, name)
    assert spec.model == "Qwen/Qwen3-30B-A3B-Instruct-2507"
    assert (spec.base_url, spec.dialect) == ("http://127.0.0.1:8000/v1", "openai")
    assert (spec.api_key_env, spec.context_window) == ("LOCAL_LLM_API_KEY", 131072)


def test_an_agent_without_a_model_has_the_primary_one(tmp_path: Path) -> None:
    assert spec_of(tmp_path, SPARK, "agent:rain").model == "claude-opus-4-6"


@pytest.mark.parametrize(
    ("name", "chain"),
    [
        ("openclaw:primary", ["b/same", "a/x/y", "b/same"]),
        ("agent:plain", ["b/same", "a/x/y", "b/same"]),
        ("agent:strict", ["a/same"]),
        ("agent:careful", ["a/x/y", "b/same"]),
        ("a/same", ["a/same"]),
        ("QUICK", ["b/same"]),
        ("agent:nobody", []),
        ("nothing", []),
    ],
)
def test_a_chain_is_the_model_and_its_fallbacks(
    tmp_path: Path, name: str, chain: list[str]
) -> None:
    ports = {"http://127.0.0.1:1/v1": "a", "http://127.0.0.1:2/v1": "b"}
    found = fallback_chain(opened(tmp_path, TWO), name)
    assert [f"{ports[spec.base_url]}/{spec.model}" for spec in found] == chain


def test_a_bare_id_of_two_providers_must_be_spelt_out(tmp_path: Path) -> None:
    message = problem_of(tmp_path, TWO, "same")
    assert message.endswith("'same' is in 2 providers. Next: write a/same or b/same")


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("a/same", "models.providers.a"),
        ("x/y", "models.providers.a"),
        ("quick", "alias quick = b/same"),
        ("agent:strict", "agent:strict.model = a/same"),
    ],
)
def test_the_source_says_which_rule_won(tmp_path: Path, name: str, rule: str) -> None:
    assert spec_of(tmp_path, TWO, name).source == f"OpenClaw config openclaw.json, {rule}"


def test_every_name_is_offered(tmp_path: Path) -> None:
    assert set(names(opened(tmp_path, SPARK))) == {
        "local-llm/Qwen/Qwen3-30B-A3B-Instruct-2507",
        "anthropic/claude-opus-4-6",
        "openclaw:primary",
        "agent:rain",
        "agent:test-local",
    }


def test_a_built_in_provider_needs_no_configuration_unless_all_is_replaced(tmp_path: Path) -> None:
    config: dict[str, Any] = {"agents": {"defaults": {"model": "ollama/llama3.3"}}}
    spec = spec_of(tmp_path, config, "ollama/llama3.3")
    assert (spec.dialect, spec.base_url) == ("ollama", "http://127.0.0.1:11434")
    assert find_spec(opened(tmp_path, config), "ollama/other") is None
    config["models"] = {"mode": "replace"}
    assert "no provider offers 'ollama/llama3.3'" in problem_of(
        tmp_path, config, "openclaw:primary"
    )


def test_a_provider_that_lists_no_model_takes_any(tmp_path: Path) -> None:
    assert spec_of(tmp_path, one_model(models=[]), "p/any/model").model == "any/model"
    assert find_spec(opened(tmp_path, one_model()), "p/other") is None


@pytest.mark.parametrize(
    ("provider", "table", "dialect", "address"),
    [
        ("x", {"baseUrl": "http://h:1/v1/"}, "openai", "http://h:1/v1"),
        ("ollama", {"baseURL": "http://h:1"}, "ollama", "http://h:1"),
        ("ollama", {"baseURL": "http://h:1/v1"}, "openai", "http://h:1/v1"),
        ("anthropic", {"baseUrl": "http://h:1"}, "anthropic", "http://h:1"),
        ("x", {"baseUrl": "http://h:1", "api": "anthropic-messages"}, "anthropic", "http://h:1"),
        ("x", {"baseUrl": "http://h:1/v1", "api": "ollama"}, "ollama", "http://h:1/v1"),
    ],
)
def test_dialect_and_address_are_what_openclaw_takes_them_for(
    tmp_path: Path, provider: str, table: dict[str, Any], dialect: str, address: str
) -> None:
    config = {"models": {"providers": {provider: {**table, "models": [{"id": "m"}]}}}}
    spec = spec_of(tmp_path, config, f"{provider}/m")
    assert (spec.dialect, spec.base_url) == (dialect, address)


def test_a_model_wins_over_its_provider(tmp_path: Path) -> None:
    model = {"baseUrl": "http://other:1", "api": "ollama", "maxTokens": 7, "contextTokens": 512}
    spec = spec_of(
        tmp_path, one_model(model, maxTokens=9, contextWindow=4096, timeoutSeconds=3), "p/m"
    )
    assert (spec.dialect, spec.base_url, spec.max_tokens) == ("ollama", "http://other:1", 7)
    assert (spec.context_window, spec.deadlines.total_s) == (4096, 3.0)
    assert spec.extra_body == {"options": {"num_ctx": 512}}


@pytest.mark.parametrize(("window", "limit"), [(None, 8192), (4096, 4096), (131072, 8192)])
def test_a_missing_limit_is_the_one_openclaw_would_send(
    tmp_path: Path, window: int | None, limit: int
) -> None:
    model = {} if window is None else {"contextWindow": window}
    assert spec_of(tmp_path, one_model(model), "p/m").max_tokens == limit


def test_params_are_layered_from_the_provider_to_the_agent(tmp_path: Path) -> None:
    config = one_model({"params": {"temperature": 0.2, "topP": 0.5}}, params={"temperature": 0.1})
    config["agents"] = {
        "defaults": {
            "params": {"temperature": 0.3, "maxTokens": 10},
            "models": {"p/m": {"params": {"temperature": 0.4, "extra_body": {"top_k": 20}}}},
        },
        "entries": {
            "a": {
                "model": "p/m",
                "models": {"p/m": {"params": {"temperature": 0.5}}},
                "params": {"temperature": 0.6, "chat_template_kwargs": {"enable_thinking": False}},
            }
        },
    }
    shared = spec_of(tmp_path, config, "p/m")
    assert (shared.temperature, shared.top_p, shared.max_tokens) == (0.4, 0.5, 10)
    assert shared.extra_body == {"top_k": 20}
    own = spec_of(tmp_path, config, "agent:a")
    assert own.temperature == 0.6
    assert own.extra_body == {"chat_template_kwargs": {"enable_thinking": False}, "top_k": 20}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (one_model(api="openai-responses"), "api 'openai-responses' is not spoken here"),
        (one_model(api="openai-completion"), "did you mean 'openai-completions'?"),
        (one_model(api="zzz"), "unknown api 'zzz': there are openai-completions"),
        (one_model(api=5), "models.providers.p.api: must be text"),
        (one_model(baseUrl=None), "models.providers.p: it has no baseUrl"),
        (one_model(baseUrl="localhost:8000"), "p.baseUrl: must be an http:// or https:// address"),
        (one_model({"contextWindow": "lots"}), "p.models[0].contextWindow: must be a number"),
        (one_model({"maxTokens": -1}), "p.models[0].maxTokens: must be more than 0"),
        (
            one_model({"params": {"temperature": "hot"}}),
            "models[0].params.temperature: must be a number",
        ),
        (one_model(timeoutSeconds=True), "models.providers.p.timeoutSeconds: must be a number"),
        (one_model(models="m"), "models.providers.p.models: must be a list"),
        (one_model(request={"proxy": {}}), "p.request.proxy: only OpenClaw can do that"),
        (one_model(apiKey=None, auth="oauth"), "p.auth: only OpenClaw can log in with 'oauth'"),
        ({"models": {"providers": {"p": 3}}}, "models.providers.p: must be an object"),
        ({"models": {"providers": []}}, "models.providers: must be an object"),
        ({"models": 3}, "models: must be an object"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_path(
    tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    message = problem_of(tmp_path, config)
    assert words in message


@pytest.mark.parametrize(
    ("agents", "name", "words"),
    [
        ({"defaults": {"model": 3}}, "openclaw:primary", 'model: must be "provider/model" or'),
        ({"defaults": {"model": {"fallbacks": []}}}, "openclaw:primary", "must be"),
        ({"defaults": {"model": {"primary": "p/m", "fallbacks": "x"}}}, "openclaw:primary", "must"),
        ({}, "openclaw:primary", "agents.defaults.model: is not there"),
        ({"defaults": {"model": "p/mm"}}, "openclaw:primary", "Did you mean p/m?"),
        ({"defaults": {"model": "zzzzz/qqq"}}, "openclaw:primary", "Next: add that provider"),
        ({"entries": {"a": 3}}, "agent:a", "agents.entries.a: must be an object"),
        ({"list": 3}, "agent:a", "agents.list: must be a list"),
        (3, "agent:a", "agents: must be an object"),
        ({"defaults": {"models": {"x/y": {"alias": "x/y"}}, "model": "x/y"}}, "x/y", ""),
    ],
)
def test_wrong_agents_are_refused_with_their_path(
    tmp_path: Path, agents: Any, name: str, words: str
) -> None:
    config = {**one_model(), "agents": agents}
    if words:
        assert words in problem_of(tmp_path, config, name)
    else:
        assert find_spec(opened(tmp_path, config), name) is None


def test_one_broken_entry_takes_no_other_with_it(tmp_path: Path) -> None:
    config = one_model(models=[{"id": "m"}, {"id": "n", "api": "zzz"}, {"name": "o"}, 3])
    config["models"]["providers"] |= {"q": 3, "empty": {"baseUrl": "http://h/v1"}}
    config["agents"] = {"list": [{"id": "a", "model": []}]}
    rows = [(one.name, one.problem) for one in listed(opened(tmp_path, config))]
    assert [name for name, problem in rows if not problem] == ["p/m"]
    told = "\n".join(problem for _, problem in rows)
    for place in ("p.models[2]", "p.models[3]", "providers.q", "providers.empty", "agent:a.model"):
        assert place in told
    assert "unknown api 'zzz'" in dict(rows)["p/n"]
    assert "agent:a" in dict(rows)


def test_the_rule_stands_between_the_tables_and_the_embedded_models(tmp_path: Path) -> None:
    written(tmp_path, one_model({"id": "smollm2"}), ".openclaw/openclaw.json")
    environ = {"HOME": str(tmp_path)}
    spec = resolve("smollm2", root=tmp_path, environ=environ, probes=())
    assert spec.source == "OpenClaw config .openclaw/openclaw.json, models.providers.p"
    table = '[tool.agentlimit.models.smollm2]\nbase_url = "http://localhost:1/v1"\n'
    (tmp_path / "pyproject.toml").write_text(table)
    spec = resolve("smollm2", root=tmp_path, environ=environ, probes=())
    assert spec.source == "config table in pyproject.toml"


def test_a_name_nobody_knows_lists_what_the_config_offers(tmp_path: Path) -> None:
    many = one_model(models=[{"id": f"m{number}"} for number in range(60)])
    written(tmp_path, many, ".openclaw/openclaw.json")
    environ = {"HOME": str(tmp_path)}
    with pytest.raises(ModelNotFound) as caught:
        resolve("p/m599", root=tmp_path / "x", environ=environ, probes=())
    assert "Did you mean p/m59" in str(caught.value)
    assert "OpenClaw config ~/.openclaw/openclaw.json: p/m0, p/m1" in str(caught.value)
    assert "p/m39, and 20 more" in str(caught.value)
    with pytest.raises(ModelNotFound, match="OpenClaw config: none"):
        resolve("zzz", root=tmp_path, environ={}, probes=())


def test_a_broken_config_stops_only_those_who_asked_for_it(tmp_path: Path) -> None:
    path = written(tmp_path, "{", ".openclaw/openclaw.json")
    environ = {"HOME": str(tmp_path)}
    assert resolve("smollm2", root=tmp_path, environ=environ, probes=()).source == "embedded"
    with pytest.raises(ModelNotFound, match="is not valid JSON5"):
        resolve("zzz", root=tmp_path, environ=environ, probes=())
    for name in ("openclaw:primary", "agent:a"):
        with pytest.raises(UsageProblem, match="^.openclaw/openclaw.json is not valid JSON5"):
            resolve(name, root=tmp_path, environ=environ, probes=())
    with pytest.raises(UsageProblem, match=r"openclaw.json is not valid JSON5"):
        resolve("smollm2", root=tmp_path, environ={}, probes=(), agent_config=str(path))


def test_there_may_be_no_config_at_all(tmp_path: Path) -> None:
    assert open_config(None, tmp_path, {"HOME": str(tmp_path)}) is None

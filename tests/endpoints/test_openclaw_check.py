from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openclaw_kit import (
    GUIDE,
    SECRET,
    SPARK,
    TEMPLATE,
    TREES,
    one_model,
    opened,
    quick,
    written,
)

from pytest_agentlimit.endpoints.openclaw_check import ConfigFault, check_config, check_file
from pytest_agentlimit.errors import UsageProblem

PASSWORD = "correcthorsebatterystaple"
KEY = {"LAB_KEY": SECRET, "PLAIN_TOKEN": PASSWORD}
SOUND = {"contextWindow": 65536, "maxTokens": 8192}
P = "models.providers.p"
M = f"{P}.models[0]"


def faults_of(
    folder: Path, config: object, environ: dict[str, str] | None = None
) -> dict[tuple[str, str], ConfigFault]:
    faults = check_config(opened(folder, config, environ))
    return {(fault.code, fault.path): fault for fault in faults}


def told(folder: Path, config: object, environ: dict[str, str] | None = None) -> list[str]:
    """Each fault as `code path`, a warning with a question mark."""
    marks = {"error": "", "warning": "?"}
    return [
        f"{fault.code}{marks[fault.severity]} {fault.path}"
        for fault in faults_of(folder, config, environ).values()
    ]


def model(entry: dict[str, Any] | None = None, **provider: Any) -> dict[str, Any]:
    """A config with one model that has no fault of its own."""
    return one_model({**SOUND, **(entry or {})}, **provider)


def chosen(choice: Any, **agents: Any) -> dict[str, Any]:
    return {**model(), "agents": {"defaults": {"model": choice}, **agents}}


def test_a_sound_config_has_no_fault(tmp_path: Path) -> None:
    entries = {"a": {"model": "m"}, "b": {"model": {"primary": "Quick", "fallbacks": []}}}
    config = chosen({"primary": "p/m", "fallbacks": ["anthropic/claude"]}, entries=entries)
    config["agents"]["defaults"]["models"] = {"p/m": {"alias": "quick"}}
    config["channels"] = {"anything": {"we": ["do", "not", "know"]}}
    assert told(tmp_path, config) == []


# The configs of the guides


def test_the_template_of_the_guide_sends_tools_through_ollamas_v1(tmp_path: Path) -> None:
    assert told(tmp_path, TEMPLATE) == ["ollama_v1? models.providers.PROVIDER_NAME.baseUrl"]


def test_the_config_of_the_guide_has_a_context_that_its_openclaw_refuses(tmp_path: Path) -> None:
    assert told(tmp_path, GUIDE) == [
        "small_context? models.providers.tinygrad.models[0].contextWindow"
    ]


def test_the_provider_of_the_decision_needs_its_key_and_nothing_else(tmp_path: Path) -> None:
    unset = ["unset_variable models.providers.local-llm.apiKey"]
    assert told(tmp_path, SPARK) == unset
    assert told(tmp_path, SPARK, {"LOCAL_LLM_API_KEY": ""}) == unset
    assert told(tmp_path, SPARK, {"LOCAL_LLM_API_KEY": "local"}) == []


# Keys and spellings


@pytest.mark.parametrize(
    ("config", "fault", "step"),
    [
        (model(foo=1), f"unknown_key {P}.foo", "remove it"),
        (model(max_tokens=1), f"unknown_key {P}.max_tokens", "did you mean maxTokens?"),
        (model({"contextwindow": 1}), f"unknown_key {M}.contextwindow", "mean contextWindow?"),
        (model({"cost": {"inputs": 1}}), f"unknown_key {M}.cost.inputs", "mean input?"),
        (
            model({"compat": {"supportTools": False}}),
            f"unknown_key {M}.compat.supportTools",
            "mean supportsTools?",
        ),
        (model({"compat": {"qwerty": 1}}), f"unknown_key? {M}.compat.qwerty", "remove it"),
        (model(request={"header": {}}), f"unknown_key {P}.request.header", "mean headers?"),
        (model(localService={}), f"missing_key {P}.localService.command", "give it a command"),
        (model({"name": ""}), f"missing_key {M}.name", "give it a name"),
        (
            {"models": {"provider": {}}, "agents": {}},
            "unknown_key models.provider",
            "mean providers?",
        ),
        (
            chosen({"primary": "p/m", "fallback": ["x"]}),
            "unknown_key agents.defaults.model.fallback",
            "mean fallbacks?",
        ),
        (model(baseURL="http://h/v1"), f"legacy_spelling {P}.baseURL", "write baseUrl"),
    ],
)
def test_a_key_that_openclaw_does_not_know_is_named_with_the_nearest(
    tmp_path: Path, config: dict[str, Any], fault: str, step: str
) -> None:
    assert told(tmp_path, config) == [fault]
    (only,) = faults_of(tmp_path, config).values()
    assert only.fix is not None
    assert step in only.fix.sentence


def test_the_older_spelling_of_an_address_is_fine_for_ollama(tmp_path: Path) -> None:
    table = {"baseURL": "http://127.0.0.1:11434", "models": [{"id": "m", "name": "M", **SOUND}]}
    config = {"models": {"providers": {"ollama": table}}}
    assert told(tmp_path, config) == ["legacy_spelling? models.providers.ollama.baseURL"]


def test_no_key_of_the_schema_is_unknown(tmp_path: Path) -> None:
    entry = {
        "api": "ollama",
        "baseUrl": "http://127.0.0.1:1",
        "reasoning": True,
        "input": ["text", "image"],
        "cost": {"input": 1, "output": 2, "cacheRead": 0, "cacheWrite": 0, "tieredPricing": []},
        "contextTokens": 32768,
        "thinkingLevelMap": {},
        "params": {},
        "headers": {},
        "agentRuntime": {},
        "mediaInput": {},
        "compat": {"supportsStore": False, "maxTokensField": "max_tokens", "codeMode": "capable"},
    }
    provider = {
        "authHeader": True,
        "auth": "api-key",
        "maxTokens": 4096,
        "timeoutSeconds": 60,
        "injectNumCtxForOpenAICompat": True,
        "region": "eu",
        "request": {"headers": {}, "allowPrivateNetwork": True},
        "localService": {"command": "/bin/serve", "args": [], "env": {}, "idleStopMs": 5},
    }
    config = model(entry, **provider)
    config["models"] |= {"mode": "merge", "pricing": {"enabled": True}}
    assert told(tmp_path, config) == []


# Addresses


@pytest.mark.parametrize(
    ("address", "api", "fault", "line"),
    [
        ("http://127.0.0.1:8000", "openai-completions", "missing_v1", "http://127.0.0.1:8000/v1"),
        ("http://gpu-box:8000/", "openai-responses", "missing_v1", "http://gpu-box:8000/v1"),
        ("https://api.example.com", "openai-completions", "missing_v1?", "api.example.com/v1"),
        ("http://127.0.0.1:3000/api", "openai-completions", "missing_v1?", None),
        ("http://127.0.0.1:8000/v1", "anthropic-messages", "superfluous_v1", "127.0.0.1:8000"),
        ("http://127.0.0.1:9/v1/", "ollama", "superfluous_v1", '"http://127.0.0.1:9"'),
        ("https://h.example.com/x/v1", "anthropic-messages", "superfluous_v1", None),
        ("http://127.0.0.1:11434/v1", "openai-completions", "ollama_v1?", 'api: "ollama", base'),
        ("http://127.0.0.1:99999/v1", "openai-completions", "bad_base_url", None),
        ("http://[::1/v1", "openai-completions", "bad_base_url", None),
        ("ftp://h/v1", "openai-completions", "bad_base_url", None),
        ("http://${UNSET}/v1", "openai-completions", "unset_variable", None),
    ],
)
def test_an_address_is_held_against_its_api(
    tmp_path: Path, address: str, api: str, fault: str, line: str | None
) -> None:
    streams = {"compat": {"supportsUsageInStreaming": True}}
    config = model(streams, baseUrl=address, api=api)
    faults = faults_of(tmp_path, config)
    assert f"{fault} {P}.baseUrl" in told(tmp_path, config)
    fix = faults[fault.rstrip("?"), f"{P}.baseUrl"].fix
    shown = fix.line if fix else None
    assert shown is None if line is None else line in str(shown)


@pytest.mark.parametrize(
    ("address", "api"),
    [
        ("http://127.0.0.1:8000/v1/", "openai-completions"),
        ("https://example.com/api/paas/v4", "openai-completions"),
        ("http://127.0.0.1:11434", "ollama"),
        ("https://example.com/anthropic", "anthropic-messages"),
    ],
)
def test_an_address_that_fits_its_api_is_fine(tmp_path: Path, address: str, api: str) -> None:
    streams = {"compat": {"supportsUsageInStreaming": True}}
    assert told(tmp_path, model(streams, baseUrl=address, api=api)) == []


def test_the_address_of_one_model_is_blamed_on_that_model(tmp_path: Path) -> None:
    config = model({"baseUrl": "http://127.0.0.1:8000"})
    assert told(tmp_path, config) == [f"missing_v1 {M}.baseUrl"]


def test_an_ollama_provider_through_its_v1_is_said_on_any_port(tmp_path: Path) -> None:
    table = {"baseUrl": "http://127.0.0.1:9/v1", "models": [{"id": "m", "name": "M", **SOUND}]}
    config = {"models": {"providers": {"ollama": table}}}
    assert told(tmp_path, config) == ["ollama_v1? models.providers.ollama.baseUrl"]


@pytest.mark.parametrize(
    ("address", "compat", "warned"),
    [
        ("http://10.0.0.3:8000/v1", {}, True),
        ("https://example.com/v1", {"supportsTools": False}, True),
        ("https://example.com/v1", {"supportsUsageInStreaming": False}, False),
        ("http://127.0.0.2:8000/v1", {}, False),
        ("http://[::1]:8000/v1", {}, False),
        ("http://localhost:8000/v1", {}, False),
        ("https://api.openai.com/v1", {}, False),
    ],
)
def test_a_remote_server_streams_no_token_counts_unless_told_to(
    tmp_path: Path, address: str, compat: dict[str, Any], warned: bool
) -> None:
    expected = [f"usage_not_streamed? {M}.compat.supportsUsageInStreaming"] if warned else []
    assert told(tmp_path, model({"compat": compat}, baseUrl=address)) == expected


# Limits and prices


@pytest.mark.parametrize(
    ("entry", "provider", "faults"),
    [
        ({"maxTokens": 65537}, {}, [f"max_tokens_over_context {M}.maxTokens"]),
        ({"maxTokens": 65536}, {}, []),
        ({"maxTokens": None}, {"maxTokens": 1e9}, [f"max_tokens_over_context {P}.maxTokens"]),
        ({"contextTokens": 70000}, {}, [f"context_tokens_over_window {M}.contextTokens"]),
        ({"contextWindow": 15999}, {}, [f"small_context? {M}.contextWindow"]),
        ({"contextWindow": 16000}, {}, []),
        ({"contextTokens": 3999}, {}, [f"small_context {M}.contextTokens"]),
        ({"contextWindow": "65536"}, {}, [f"bad_value {M}.contextWindow"]),
        ({"contextWindow": 0}, {}, [f"bad_value {M}.contextWindow"]),
        ({"maxTokens": -1}, {}, [f"bad_value {M}.maxTokens"]),
        ({"cost": {"input": -0.1}}, {}, [f"bad_value {M}.cost.input"]),
        ({"cost": {"output": "free"}}, {}, [f"bad_value {M}.cost.output"]),
        ({"cost": 0}, {}, [f"bad_value {M}.cost"]),
        ({}, {"timeoutSeconds": 0}, [f"bad_value {P}.timeoutSeconds"]),
        ({"params": {"temperature": "hot"}}, {}, [f"bad_value {M}.params.temperature"]),
    ],
)
def test_limits_must_make_sense_together(
    tmp_path: Path, entry: dict[str, Any], provider: dict[str, Any], faults: list[str]
) -> None:
    assert told(tmp_path, model(entry, **provider)) == faults


def test_a_model_without_a_window_gets_a_budget_of_200000(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, one_model())
    assert faults["no_context_window", f"{M}.contextWindow"].severity == "warning"
    assert "200000" in faults["no_context_window", f"{M}.contextWindow"].message
    assert told(tmp_path, one_model(contextWindow=65536)) == []


def test_one_wrong_key_hides_no_other_fault(tmp_path: Path) -> None:
    config = model({"contextWindow": "x", "cost": {"input": "x"}}, baseUrl="http://h", api=3)
    assert set(told(tmp_path, config)) == {
        f"bad_value {P}.api",
        f"bad_value {M}.contextWindow",
        f"bad_value {M}.cost.input",
        f"missing_v1 {P}.baseUrl",
        f"usage_not_streamed? {M}.compat.supportsUsageInStreaming",
    }


# Names


def test_a_provider_may_list_no_model(tmp_path: Path) -> None:
    assert told(tmp_path, one_model(models=[], baseUrl="https://example.com/v1")) == []
    assert told(tmp_path, one_model(models=[], baseUrl="http://127.0.0.1:1")) == [
        f"missing_v1 {P}.baseUrl"
    ]
    table = {"apiKey": "${GROQ_API_KEY}"}  # OpenClaw brings that provider along
    environ = {"GROQ_API_KEY": "x"}
    assert told(tmp_path, {"models": {"providers": {"groq": table}}}, environ) == [
        "no_base_url? models.providers.groq"
    ]


def test_two_models_with_one_id_are_a_fault_of_the_second(tmp_path: Path) -> None:
    entry = {"id": "m", "name": "M", **SOUND}
    config = one_model(models=[entry, {**entry, "id": "n"}, entry, {**entry, "id": "${TEAM}"}])
    assert told(tmp_path, config, {"TEAM": "n"}) == [
        f"duplicate_id {P}.models[2].id",
        f"duplicate_id {P}.models[3].id",
    ]


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    assert told(tmp_path, one_model(models=[3, {"name": "x", **SOUND}])) == [
        f"bad_value {P}.models[0]",
        f"missing_key {P}.models[1]",
    ]
    assert told(tmp_path, {"models": {"providers": {"p": 3}}}) == [f"bad_value {P}"]
    assert told(tmp_path, model(baseUrl=3)) == [f"bad_value {P}.baseUrl"]
    assert told(tmp_path, model(baseUrl=None)) == [f"no_base_url {P}"]
    assert told(tmp_path, {"models": 3, "agents": {"list": 3}}) == [
        "bad_value models",
        "bad_value agents.list",
    ]


@pytest.mark.parametrize(
    ("choice", "faults"),
    [
        ("p/mm", ["unknown_model agents.defaults.model"]),
        ("zzz", ["unknown_model agents.defaults.model"]),
        ("p/zzz", ["unknown_model agents.defaults.model"]),
        ("groq/llama", ["unknown_model? agents.defaults.model"]),
        ("openai/gpt", []),
        ({"primary": "p/m", "fallbacks": ["m"]}, ["fallback_is_primary {}.fallbacks[0]"]),
        (
            {"primary": "QUICK", "fallbacks": ["openai/gpt", "p/m"]},
            ["fallback_is_primary {}.fallbacks[1]"],
        ),
        ({"primary": "p/m", "fallbacks": ["p/z"]}, ["unknown_model {}.fallbacks[0]"]),
        ({"primary": "p/${UNSET}"}, ["unset_variable {}.primary"]),
        ({"fallbacks": "p/m"}, ["bad_value {}"]),
        (3, ["bad_value {}"]),
    ],
)
def test_a_choice_must_name_models_that_are_there(
    tmp_path: Path, choice: Any, faults: list[str]
) -> None:
    config = chosen(choice)
    config["agents"]["defaults"]["models"] = {"p/m": {"alias": "Quick"}}
    place = "agents.defaults.model"
    assert told(tmp_path, config) == [fault.replace("{}", place) for fault in faults]


def test_the_choice_of_each_agent_is_looked_at_where_it_stands(tmp_path: Path) -> None:
    same = {"primary": "p/m", "fallbacks": ["p/m"]}
    config = chosen("p/m", list=[{"id": "x"}, {"id": "a", "model": same}], entries={"b": {}})
    config["agents"]["entries"]["b"]["model"] = "p/none"
    assert told(tmp_path, config) == [
        "fallback_is_primary agents.list[1].model.fallbacks[0]",
        "unknown_model agents.entries.b.model",
    ]
    oldest = {**model(), "agent": {"model": "p/none"}}
    assert told(tmp_path, oldest) == ["unknown_model agent.model"]


def test_a_bare_id_of_two_providers_is_no_choice(tmp_path: Path) -> None:
    config = chosen("m")
    config["models"]["providers"]["q"] = config["models"]["providers"]["p"]
    assert told(tmp_path, config) == ["ambiguous_model agents.defaults.model"]


def test_an_alias_stands_for_one_model(tmp_path: Path) -> None:
    config = chosen("p/m")
    config["models"]["providers"]["p"]["models"].append({"id": "n", "name": "N", **SOUND})
    aliases = {"p/m": {"alias": "Quick"}, "p/n": {"alias": "quick"}, "p/o": {"alias": "m"}}
    config["agents"]["defaults"]["models"] = aliases
    assert told(tmp_path, config) == [
        "alias_clash agents.defaults.models.p/n.alias",
        "alias_clash? agents.defaults.models.p/o.alias",
    ]


# Variables and secrets


def test_a_variable_that_is_not_set_is_an_error_where_models_are(tmp_path: Path) -> None:
    config = model({"headers": {"x-team": "${TEAM}"}}, apiKey="${LAB_KEY}")
    config["channels"] = {"telegram": [{"botToken": "${BOT}"}], "note": "$${ESCAPED}"}
    config["env"] = {"vars": {"TEAM": "edge"}}
    assert told(tmp_path, config) == [
        f"unset_variable {P}.apiKey",
        "unset_variable? channels.telegram[0].botToken",
    ]
    assert told(tmp_path, config, {"LAB_KEY": "x", "BOT": "y"}) == []


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ({"source": "env", "id": "LAB_KEY"}, []),
        ({"source": "env", "id": "OTHER_KEY"}, [f"unset_variable {P}.apiKey"]),
        ("OTHER_API_KEY", [f"unset_variable {P}.apiKey"]),
        ({"source": "exec", "provider": "v", "id": "x"}, [f"secret_ref? {P}.apiKey"]),
        ({"source": "file", "id": "/x"}, [f"secret_ref? {P}.apiKey"]),
        ({"source": "magic", "id": "x"}, [f"secret_ref {P}.apiKey"]),
        (SECRET, [f"key_in_file? {P}.apiKey"]),
        ("local", []),
        (7, [f"bad_value {P}.apiKey"]),
    ],
)
def test_a_key_that_cannot_be_had_is_said(tmp_path: Path, key: Any, fault: list[str]) -> None:
    assert told(tmp_path, model(apiKey=key), KEY) == fault


@pytest.mark.parametrize(
    "config",
    [
        model(apiKey=SECRET, baseUrl=f"https://me:{SECRET}@h/v1"),
        model(baseUrl=f"https://h/{SECRET}"),
        model(baseUrl=f"http://{SECRET}"),
        model(baseUrl=f"http://10.0.0.1:8000/x-{SECRET}"),
        model(baseUrl=f"http://x.{SECRET}.local:8000"),
        model(baseUrl=f"https://h/v1?key={SECRET}"),
        model(baseUrl=f"http://${{PLAIN_TOKEN:-{SECRET}}}:8000"),
        model(baseUrl=f"http://${{HOST:-{SECRET}}}:8000"),
        model(baseUrl=f"http://${{ODD:-{PASSWORD}}}:8000"),
        model(apiKey=f"${{UNSET_KEY:-{SECRET}}}"),
        model(apiKey=f"${{{SECRET}}}"),
        model(apiKey={"source": SECRET, "id": SECRET, "provider": SECRET}),
        model(headers={"Authorization": f"Bearer {SECRET}", SECRET: 3, "x-team": SECRET}),
        model(headers={f"Bearer {SECRET}": "${UNSET}"}),
        model(api=SECRET, auth=SECRET),
        model(api=PASSWORD),
        model({"id": SECRET, "name": SECRET, SECRET: 1, "cost": {SECRET: SECRET, "input": SECRET}}),
        model({"contextWindow": SECRET, "params": {"extra_body": {SECRET: SECRET}}}),
        one_model(models=[{"id": SECRET}, {"id": SECRET}]),
        chosen(SECRET),
        chosen(f"p/{SECRET}"),
        chosen("${PLAIN_TOKEN}"),
        chosen({"primary": "p/m", "fallbacks": ["${LAB_KEY}", f"${{UNSET:-{SECRET}}}"]}),
        chosen({"primary": "p/${ODD}"}),
        {**chosen("p/m"), SECRET: {SECRET: "${UNSET}"}},
        chosen("p/m", entries={SECRET: {"model": SECRET}}, list=[{"id": SECRET, "model": 3}]),
        {
            **model(),
            "agents": {
                "defaults": {"models": {SECRET: {"alias": SECRET}, "p/m": {"alias": SECRET}}}
            },
        },
        {"models": {"providers": {SECRET: {**model()["models"]["providers"]["p"], "x": 1}}}},
        {"models": {"providers": {SECRET: SECRET, "p": [SECRET]}, SECRET: SECRET}},
    ],
)
def test_a_planted_secret_is_in_no_fault(tmp_path: Path, config: dict[str, Any]) -> None:
    environ = {**KEY, "HOST": "127.0.0.1", "ODD": PASSWORD}
    faults = check_config(opened(tmp_path, config, environ))
    assert faults
    for secret in (SECRET, SECRET.lower(), PASSWORD):
        assert secret not in repr(faults)


# Files


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{\n  models: {},\n  "x": oops }', "line 3, column 8: unexpected 'o'"),
        ('{"$include": "openclaw.json"}', "in a circle: openclaw.json → openclaw.json"),
        ("[]", "must hold an object"),
    ],
)
def test_a_file_that_cannot_be_read_has_one_fault(tmp_path: Path, text: str, words: str) -> None:
    written(tmp_path, text)
    checked = check_file("openclaw.json", tmp_path, {})
    assert checked is not None
    (fault,) = checked.faults
    assert (checked.file, checked.errors) == ("openclaw.json", 1)
    assert (fault.code, fault.path) == ("unreadable", "")
    assert words in fault.message


def test_a_file_that_was_asked_for_and_is_not_there_is_a_fault(tmp_path: Path) -> None:
    checked = check_file("gone.json", tmp_path, {})
    assert checked is not None
    assert checked.file == "gone.json"
    assert "cannot be read: no such file" in checked.faults[0].message
    assert check_file(None, tmp_path, {"HOME": str(tmp_path)}) is None


def test_a_fault_names_the_included_file_that_holds_it(tmp_path: Path) -> None:
    good = {"id": "m", "name": "M", **SOUND}
    written(tmp_path, {"p": {"models": [{**good, "maxTokens": 0}]}}, "sub/p.json5")
    written(tmp_path, {"models": "p/none"}, "unused.json")
    config = {
        "models": {
            "providers": {
                "$include": "sub/p.json5",
                "p": {"baseUrl": "http://127.0.0.1:8000", "models": [{**good, "id": "n", "x": 1}]},
            }
        }
    }
    faults = faults_of(tmp_path, config)
    assert {fault.path: fault.included for fault in faults.values()} == {
        f"{M}.maxTokens": "sub/p.json5",
        f"{P}.models[1].x": None,
        f"{P}.baseUrl": None,
    }


@quick
@given(providers=TREES, agents=TREES, env=st.dictionaries(st.sampled_from("AB"), st.text()))
def test_no_shape_leads_to_anything_but_faults(
    tmp_path: Path, providers: Any, agents: Any, env: dict[str, str]
) -> None:
    try:
        data = {"models": {"providers": {"p": providers}}, "agents": agents}
        config = opened(tmp_path, data, env)
    except UsageProblem:
        return
    for fault in check_config(config):
        assert fault.message
        assert len(fault.message.splitlines()) == 1

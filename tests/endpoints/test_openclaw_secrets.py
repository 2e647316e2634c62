from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openclaw_kit import SECRET, one_model, opened, problem_of, rows_or_one, spec_of

from pytest_agentlimit.endpoints.openclaw import find_spec

PASSWORD = "correct horse battery staple".replace(" ", "")
LAB = {"LAB_KEY": SECRET, "HOST_IP": "10.0.0.7", "TEAM": "edge", "EMPTY": ""}


@pytest.mark.parametrize(
    ("key", "variable"),
    [
        ("${LAB_KEY}", "LAB_KEY"),
        (" ${UNSET_KEY} ", "UNSET_KEY"),
        ("${LAB_KEY:-local}", "LAB_KEY"),
        ("${UNSET_KEY:-ollama-local}", None),
        ("LAB_KEY", "LAB_KEY"),
        ("LITELLM_API_KEY", "LITELLM_API_KEY"),
        ("HOST_IP", "HOST_IP"),
        ("secretref-env:LAB_KEY", "LAB_KEY"),
        ({"source": "env", "provider": "default", "id": "LAB_KEY"}, "LAB_KEY"),
        ("local", None),
        ("tinygrad", None),
        ("EMPTY", None),
        ("x", None),
        ("sk-no-key-required", None),
        ("custom-local", None),
        ("", None),
        (None, None),
    ],
)
def test_a_key_is_the_name_of_its_variable_or_no_key(
    tmp_path: Path, key: Any, variable: str | None
) -> None:
    spec = spec_of(tmp_path, one_model(apiKey=key), "p/m", LAB)
    assert spec.api_key_env == variable
    assert SECRET not in spec.model_dump_json()


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (SECRET, "p.apiKey: this seems to hold a key itself"),
        ("0123456789abcdef", "seems to hold a key itself"),
        (f"Bearer {SECRET}", "seems to hold a key itself"),
        (f"prefix-{SECRET}-${{LAB_KEY}}", "seems to hold a key itself"),
        ("Bearer ${LAB_KEY}", "seems to hold a key itself"),
        (f"${{UNSET_KEY:-{SECRET}}}", "seems to hold a key itself"),
        ("$${LAB_KEY}", "seems to hold a key itself"),
        ("secretref-managed", "only OpenClaw can fetch that secret"),
        ({"source": "exec", "provider": "vault", "id": SECRET}, "a SecretRef from 'exec'"),
        ({"source": "file", "id": "/keys/x"}, "a SecretRef from 'file'"),
        ({"source": "store", "id": "x"}, "a SecretRef from 'store'"),
        ({"source": "env", "id": SECRET}, "must be the name of an environment variable"),
        ({"source": "env"}, "must be the name of an environment variable"),
        ({"value": SECRET}, "no known source"),
        ([SECRET], "must be text or a SecretRef"),
        (7, "must be text or a SecretRef"),
    ],
)
def test_what_is_no_variable_is_refused_says_what_to_do_and_is_not_repeated(
    tmp_path: Path, key: Any, words: str
) -> None:
    message = problem_of(tmp_path, one_model(apiKey=key), environ=LAB)
    assert message.startswith("openclaw.json: models.providers.p.apiKey: ")
    assert words in message
    assert 'apiKey: "${MY_API_KEY}"' in message
    assert SECRET not in message


@pytest.mark.parametrize(
    "config",
    [
        one_model(baseUrl=f"https://me:{SECRET}@h/v1"),
        one_model(baseUrl=f"https://h/{SECRET}/v1"),
        one_model(baseUrl=f"https://h/v1?key={SECRET}"),
        one_model(baseUrl="https://${LAB_KEY}/v1"),
        one_model(baseUrl="https://h/${SNEAKY}/v1"),
        one_model(baseUrl="https://h/${PLAIN_TOKEN}/v1"),
        one_model(headers={"x-team": "${PLAIN_TOKEN}"}),
        one_model(baseUrl="https://${CREDENTIALED}/v1"),
        one_model({"baseUrl": f"{SECRET}"}),
        one_model(headers={"Authorization": f"Bearer {SECRET}"}),
        one_model(headers={"x-api-key": "${LAB_KEY}"}),
        one_model(headers={"x-team": {"source": "env", "id": SECRET}}),
        one_model({"headers": {"x-team": SECRET}}),
        one_model({"headers": {"x-team": "${SNEAKY}"}}),
        one_model(request={"headers": {"cookie": SECRET}}),
        one_model(request={"auth": {"mode": "header", "value": SECRET}}),
        one_model({"params": {"extra_body": {"deep": [{"api_key": SECRET}]}}}),
        one_model({"params": {"extraBody": {"deep": [SECRET]}}}),
        one_model({"params": {"extra_body": {"x": "${LAB_KEY}"}}}),
        one_model({"params": {"chat_template_kwargs": {"token": SECRET}}}),
        one_model({"contextWindow": SECRET, "maxTokens": [SECRET]}),
        one_model(api=SECRET * 20),
        one_model(auth=[SECRET]),
        one_model(models=SECRET),
        {"models": {"providers": {"p": SECRET}}},
        {"models": {"providers": SECRET}},
        {"models": SECRET},
    ],
)
def test_a_planted_secret_is_never_shown(tmp_path: Path, config: dict[str, Any]) -> None:
    environ = {
        **LAB,
        "SNEAKY": SECRET,
        "CREDENTIALED": f"me:{SECRET}@h",
        "PLAIN_TOKEN": PASSWORD,
    }
    message = problem_of(tmp_path, config, environ=environ)
    rows = rows_or_one(tmp_path, config, environ)
    assert rows
    for secret in (SECRET, PASSWORD):
        assert secret not in message + repr(rows)


def test_an_address_that_only_begins_like_a_key_is_fine(tmp_path: Path) -> None:
    address = "https://models.example.com/hf-inference/v1"
    assert spec_of(tmp_path, one_model(baseUrl=address), "p/m").base_url == address


def test_plain_variables_are_filled_in(tmp_path: Path) -> None:
    config = one_model(
        baseUrl="http://${HOST_IP}:${PORT:-8000}/v1", headers={"x-team": "${TEAM}-$${TEAM}"}
    )
    spec = spec_of(tmp_path, config, "p/m", LAB)
    assert spec.base_url == "http://10.0.0.7:8000/v1"
    assert spec.headers == {"x-team": "edge-${TEAM}"}


@pytest.mark.parametrize(
    "env", [{"vars": {"HOST_IP": "1.1.1.1", "MINE": "9"}}, {"HOST_IP": "1.1.1.1", "MINE": "9"}]
)
def test_the_files_own_variables_stand_behind_the_environment(
    tmp_path: Path, env: dict[str, Any]
) -> None:
    config = {**one_model(baseUrl="http://${HOST_IP}:${MINE}/v1"), "env": env}
    assert spec_of(tmp_path, config, "p/m", LAB).base_url == "http://10.0.0.7:9/v1"
    assert spec_of(tmp_path, config, "p/m").base_url == "http://1.1.1.1:9/v1"


@pytest.mark.parametrize("name", ["UNSET_HOST", "EMPTY"])
def test_a_variable_that_is_not_set_says_how_to_set_it(tmp_path: Path, name: str) -> None:
    message = problem_of(tmp_path, one_model(baseUrl=f"http://${{{name}}}/v1"), environ=LAB)
    assert f"p.baseUrl: the environment variable {name} is not set. Next: export {name}=" in message


def test_variables_in_names_are_filled_in_or_stay(tmp_path: Path) -> None:
    config = one_model({"id": "${TEAM}-1"})
    config["agents"] = {"defaults": {"model": "p/${TEAM}-1"}}
    assert spec_of(tmp_path, config, "openclaw:primary", LAB).model == "edge-1"
    assert spec_of(tmp_path, config, "openclaw:primary").model == "${TEAM}-1"


def test_the_usual_key_goes_to_the_built_in_address_only(tmp_path: Path) -> None:
    config: dict[str, Any] = {"agents": {"defaults": {"model": "openai/gpt"}}}
    assert spec_of(tmp_path, config, "openclaw:primary").api_key_env == "OPENAI_API_KEY"
    config["models"] = {"providers": {"openai": {"baseUrl": "https://elsewhere/v1", "models": []}}}
    assert spec_of(tmp_path, config, "openai/gpt").api_key_env is None


def test_a_secret_elsewhere_in_the_file_does_no_harm(tmp_path: Path) -> None:
    config = {**one_model(), "channels": {"telegram": {"botToken": SECRET}}, "env": {"A": SECRET}}
    read = opened(tmp_path, config, {"LAB_KEY": SECRET})
    assert SECRET not in repr(read)
    assert SECRET not in repr(find_spec(read, "p/m"))

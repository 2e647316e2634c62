from __future__ import annotations

import json
import socket

import pytest

from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.preflight import inspect_endpoint, require_usable
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.errors import EndpointUnusable, UsageProblem
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, hang, html, http_error, raw, say

DIALECTS = ["openai", "anthropic", "ollama"]
LISTS = {"openai": "/v1/models", "anthropic": "/v1/models", "ollama": "/api/tags"}
SHORT = Deadlines(connect_s=1, first_byte_s=0.15, between_chunks_s=0.15, total_s=0.3)


def served(value: object) -> Scripted:
    return raw(json.dumps(value).encode())


def server_with(dialect: str = "openai", **routes: object) -> ScriptedEndpoint:
    return ScriptedEndpoint([say("ok")], dialect=dialect, routes=routes["routes"])


def refusal_of(spec: EndpointSpec) -> str:
    with pytest.raises(EndpointUnusable) as problem:
        require_usable(spec)
    return str(problem.value)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_plain_server_is_usable_and_unknown_things_are_none(dialect):
    with ScriptedEndpoint([say("ok")], dialect=dialect) as server:
        found = require_usable(server.endpoint(max_tokens=50))
        assert len(server.requests) <= 3
        assert server.chat_requests == []
    assert (found["dialect"], found["model"]) == (dialect, "scripted")
    assert found["sampling"]["max_tokens"] == 50
    unknown = {"engine", "engine_version", "context", "quantisation", "template_hash", "digest"}
    assert all(found[key] is None for key in unknown | {"tools"})
    assert json.loads(json.dumps(found)) == found


def test_llama_cpp_tells_about_itself_and_serves_any_name():
    routes = {
        "/v1/models": served({"data": [{"id": "/m/x.gguf", "owned_by": "llamacpp"}]}),
        "/props": served(
            {
                "build_info": "b11434-abc",
                "default_generation_settings": {"n_ctx": 8192},
                "chat_template": "{{ messages }}",
                "chat_template_caps": {"supports_tools": True},
                "model_ftype": "Q4_1",
            }
        ),
    }
    with server_with(routes=routes) as server:
        found = require_usable(server.endpoint())
    assert (found["engine"], found["engine_version"]) == ("llama.cpp", "b11434-abc")
    assert (found["context"], found["tools"], found["quantisation"]) == (8192, True, "Q4_1")
    assert len(found["template_hash"]) == 12


def test_vllm_tells_its_context_and_version():
    entry = {"id": "scripted", "owned_by": "vllm", "max_model_len": 32768}
    routes = {
        "/v1/models": served({"data": [entry]}),
        "/version": served({"version": "0.11.2"}),
    }
    with server_with(routes=routes) as server:
        found = require_usable(server.endpoint())
    assert (found["engine"], found["engine_version"], found["context"]) == ("vLLM", "0.11.2", 32768)


def test_ollama_tells_digest_quantisation_and_tools_and_matches_latest():
    routes = {
        "/api/tags": served({"models": [{"name": "scripted:latest", "digest": "d" * 64}]}),
        "/api/version": served({"version": "0.33.3"}),
        "/api/show": served(
            {
                "details": {"quantization_level": "Q4_K_M"},
                "parameters": 'stop    "<x>"\nnum_ctx                        4096',
                "template": "{{ .Prompt }}",
                "model_info": {"llama.context_length": 131072},
                "capabilities": ["completion", "tools"],
            }
        ),
    }
    with server_with("ollama", routes=routes) as server:
        found = require_usable(server.endpoint())
    assert (found["engine"], found["engine_version"]) == ("Ollama", "0.33.3")
    assert (found["digest"], found["quantisation"]) == ("d" * 64, "Q4_K_M")
    assert (found["context"], found["tools"]) == (4096, True)


@pytest.mark.parametrize(
    "junk", [[], {"data": None}, {"data": [1, None]}, {"data": [{}]}, {"models": "x"}, 3]
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_strange_model_list_is_no_refusal(dialect, junk):
    routes = {LISTS[dialect]: served(junk), "/api/show": served([]), "/api/version": served(1)}
    with server_with(dialect, routes=routes) as server:
        assert require_usable(server.endpoint())["engine"] is None


@pytest.mark.parametrize("status", [404, 405, 500, 501])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_server_without_a_model_list_is_usable(dialect, status):
    with server_with(dialect, routes={LISTS[dialect]: http_error(status)}) as server:
        assert require_usable(server.endpoint())["model"] == "scripted"


def test_a_null_model_is_usable_without_a_network():
    spec = EndpointSpec(
        name="null:parrot", kind="null", base_url="http://null.invalid/v1", model="parrot"
    )
    assert require_usable(spec)["engine"] == "null"
    assert inspect_endpoint(spec)["engine"] == "null"


def test_nothing_listening_is_said():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spec = EndpointSpec(name="m", base_url=f"http://127.0.0.1:{port}/v1", model="m")
    assert "nothing listens there. Start the server" in refusal_of(spec)
    assert inspect_endpoint(spec)["engine"] is None


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_wrong_key_names_its_variable(dialect, monkeypatch):
    monkeypatch.setenv("SCRIPTED_KEY", "sk-wrong-wrong-wrong")
    with ScriptedEndpoint([say("ok")], dialect=dialect, api_key="sk-right") as server:
        message = refusal_of(server.endpoint(api_key_env="SCRIPTED_KEY"))
    assert "environment variable SCRIPTED_KEY" in message
    assert "sk-wrong" not in message


def test_a_missing_key_is_said_before_anything_is_sent(monkeypatch):
    monkeypatch.delenv("SCRIPTED_KEY", raising=False)
    with (
        ScriptedEndpoint([say("ok")]) as server,
        pytest.raises(UsageProblem, match="SCRIPTED_KEY is not set"),
    ):
        require_usable(server.endpoint(api_key_env="SCRIPTED_KEY"))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_web_page_in_place_of_the_model_list_is_refused(dialect):
    with server_with(dialect, routes={LISTS[dialect]: html()}) as server:
        message = refusal_of(server.endpoint())
    assert "web page (It works!)" in message or "web page" in message
    assert "/v1" in message


@pytest.mark.parametrize("missing", [html(), http_error(404)], ids=["page", "404"])
def test_a_base_url_without_v1_is_mended_in_the_message(missing):
    with server_with(routes={"/models": missing}) as server:
        spec = server.endpoint(base_url=f"http://127.0.0.1:{server.port}")
        message = refusal_of(spec)
        assert "includes /v1" in message
        assert f"Next: write {server.url}" in message


@pytest.mark.parametrize("dialect", ["anthropic", "ollama"])
def test_a_base_url_with_v1_too_much_is_mended_in_the_message(dialect):
    with ScriptedEndpoint([say("ok")], dialect=dialect) as server:
        message = refusal_of(server.endpoint(base_url=f"{server.url}/v1"))
        assert "does not include /v1" in message
        assert f"Next: write {server.url}" in message


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_model_that_is_not_there_gets_the_nearest_names(dialect):
    with ScriptedEndpoint([say("ok")], dialect=dialect, model="open-claw-7b") as server:
        message = refusal_of(server.endpoint(model="open-clwa-7b"))
    assert "does not have the model 'open-clwa-7b'" in message
    assert "open-claw-7b" in message


def test_a_dated_model_is_found_by_its_alias():
    with ScriptedEndpoint([say("ok")], dialect="anthropic", model="claude-x-1-20260101") as server:
        assert require_usable(server.endpoint(model="claude-x-1"))["model"] == "claude-x-1"


def test_names_of_models_are_safe_to_print():
    routes = {"/v1/models": served({"data": [{"id": "\x1b[2Jevil"}]})}
    with server_with(routes=routes) as server:
        assert "\x1b" not in refusal_of(server.endpoint())


def test_a_server_that_does_not_answer_is_said_and_not_waited_for():
    with server_with(routes={"/v1/models": hang()}) as server:
        message = refusal_of(server.endpoint(deadlines=SHORT))
    assert "accepts connections and does not answer" in message


def test_a_server_that_loads_its_model_is_said():
    with server_with(routes={"/v1/models": http_error(503, "Loading model")}) as server:
        assert "Loading model" in refusal_of(server.endpoint())


def test_a_client_can_be_lent():
    with ScriptedEndpoint([say("ok")]) as server, EndpointClient(server.endpoint()) as client:
        inspect_endpoint(server.endpoint(), client=client)
        inspect_endpoint(server.endpoint(), client=client)
        assert server.connections == 1

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_agentlimit.endpoints.discovery import (
    NOT_A_LIST,
    FoundServer,
    Probe,
    default_probes,
    discover,
    shown,
)
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, drop, hang, html, raw, say

OPENAI_LIST, OLLAMA_LIST = "/v1/models", "/api/tags"


def listing(body: Any) -> Scripted:
    return raw(json.dumps(body).encode())


def look(server: ScriptedEndpoint, *, ollama: bool = False) -> list[FoundServer]:
    return discover({}, [Probe(label="vLLM", port=server.port, ollama=ollama)])


def test_a_model_list_is_read(free_port: int) -> None:
    entries = [{"id": "a", "owned_by": "vllm"}, {"id": "b"}, {"name": "no id"}, 3]
    with ScriptedEndpoint([say("hi")], routes={OPENAI_LIST: listing({"data": entries})}) as server:
        probes = [Probe(label="nobody", port=free_port), Probe(label="x", port=server.port)]
        (found,) = discover({}, probes)
    assert (found.label, found.models, found.problem) == ("vLLM", ("a", "b"), None)
    assert found.base_url == f"http://127.0.0.1:{server.port}/v1"
    assert found.address == f"127.0.0.1:{server.port}"


def test_ollama_is_spoken_to_in_its_own_dialect() -> None:
    with ScriptedEndpoint([say("hi")], dialect="ollama", model="qwen3:8b") as server:
        (found,) = discover({}, [Probe(label="Ollama", port=server.port, ollama=True)])
    assert (found.label, found.dialect, found.models) == ("Ollama", "ollama", ("qwen3:8b",))
    assert found.base_url == f"http://127.0.0.1:{server.port}"


def test_another_engine_on_the_port_of_ollama_is_found_and_not_called_ollama() -> None:
    with ScriptedEndpoint([say("hi")], model="tiny", routes={OLLAMA_LIST: html(404)}) as server:
        (found,) = discover({}, [Probe(label="Ollama", port=server.port, ollama=True)])
    assert (found.label, found.dialect, found.models) == ("a server", "openai", ("tiny",))


@pytest.mark.parametrize(
    "answer",
    [
        html(),
        html(404),
        raw(b"{not json"),
        raw(b"[" * 100_000),
        raw(b"\xff\xfe", "text/plain"),
        listing(["a"]),
        listing({"data": "a"}),
        listing({"data": [1, {"name": "a"}]}),
        drop(),
    ],
)
@pytest.mark.parametrize("ollama", [False, True])
def test_what_answers_without_a_model_list_is_reported_as_that(
    answer: Scripted, ollama: bool
) -> None:
    routes = {OPENAI_LIST: answer, OLLAMA_LIST: answer}
    with ScriptedEndpoint([say("hi")], routes=routes) as server:
        (found,) = look(server, ollama=ollama)
    assert found.problem == NOT_A_LIST
    assert found.models == ()


def test_a_server_that_hangs_is_reported_and_holds_up_nobody() -> None:
    with (
        ScriptedEndpoint([say("hi")], routes={OPENAI_LIST: hang()}) as slow,
        ScriptedEndpoint([say("hi")], model="quick") as quick,
    ):
        probes = [Probe(label=name, port=s.port) for name, s in (("slow", slow), ("quick", quick))]
        first, second = discover({}, probes)
    assert first.problem == "accepts connections, but does not answer in 1 s"
    assert second.models == ("quick",)


def test_a_server_that_wants_a_key_says_so() -> None:
    with ScriptedEndpoint([say("hi")], api_key="secret-key-of-the-server") as server:
        (found,) = look(server)
    assert found.problem == "wants an API key (HTTP 401): name it in a config table"


def test_an_empty_list_is_a_server_without_models() -> None:
    with ScriptedEndpoint([say("hi")], routes={OPENAI_LIST: listing({"data": []})}) as server:
        (found,) = look(server)
    assert found.problem is None
    assert shown(found).endswith(": no models")


def test_names_from_a_server_are_printed_without_their_escapes() -> None:
    with ScriptedEndpoint([say("hi")], model="evil\x1b[2J") as server:
        (found,) = look(server)
    assert "\x1b" not in shown(found)


def test_nothing_to_look_at_finds_nothing(free_port: int) -> None:
    assert discover({}, []) == []
    assert discover({}, [Probe(label="nobody", port=free_port)]) == []


def test_the_default_places_are_the_four_known_ones() -> None:
    places = [(probe.label, probe.address, probe.ollama) for probe in default_probes({})]
    assert places == [
        ("Ollama", "127.0.0.1:11434", True),
        ("llama.cpp", "127.0.0.1:8080", False),
        ("vLLM", "127.0.0.1:8000", False),
        ("LM Studio", "127.0.0.1:1234", False),
    ]


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("127.0.0.1:11500", "127.0.0.1:11500"),
        ("http://localhost:11500/", "localhost:11500"),
        (":11500", "127.0.0.1:11500"),
        ("localhost", "localhost:11434"),
        ("0.0.0.0", "127.0.0.1:11434"),
        ("0.0.0.0:11500", "127.0.0.1:11500"),
        ("[::1]:11500", "[::1]:11500"),
        ("gpu.example.com:11500", "127.0.0.1:11434"),
        ("127.0.0.1:many", "127.0.0.1:11434"),
        ("http://[broken", "127.0.0.1:11434"),
    ],
)
def test_ollama_host_moves_the_probe_only_on_this_machine(variable: str, address: str) -> None:
    assert default_probes({"OLLAMA_HOST": variable})[0].address == address


def test_a_port_is_asked_once_when_ollama_was_moved_to_it() -> None:
    ports = [probe.port for probe in default_probes({"OLLAMA_HOST": "127.0.0.1:8080"})]
    assert ports == [8080, 8000, 1234]

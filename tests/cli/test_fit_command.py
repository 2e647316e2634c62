from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from offline_kit import Cli

from pytest_agentlimit.endpoints import memory, model_facts, resolve
from pytest_agentlimit.endpoints.memory import Memory
from pytest_agentlimit.testing import ScriptedEndpoint, raw, say

GIB, MIB = 1 << 30, 1 << 20
MODEL_INFO = {
    "general.architecture": "llama",
    "llama.block_count": 32,
    "llama.embedding_length": 4096,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "llama.context_length": 131_072,
    "llama.vocab_size": 128_256,
}


@pytest.fixture(autouse=True)
def quiet_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "default_probes", lambda environ: ())


@pytest.fixture
def have(monkeypatch: pytest.MonkeyPatch):
    """Sets the memory at hand."""

    def have(found: Memory | None) -> None:
        monkeypatch.setattr(memory, "memory_at_hand", lambda: found)

    have(Memory("RAM", 8 * GIB, 16 * GIB))
    return have


@pytest.fixture
def ollama():
    def route(body: Any) -> Any:
        return raw(json.dumps(body).encode())

    routes = {
        "/api/tags": route({"models": [{"name": "claw:latest", "size": 5 * GIB}]}),
        "/api/version": route({"version": "0.33.3"}),
        "/api/show": route({"model_info": MODEL_INFO, "parameters": "num_ctx 8192"}),
    }
    with ScriptedEndpoint([say("ok")], dialect="ollama", model="claw", routes=routes) as server:
        yield server


def said(out: str) -> dict[str, str]:
    return {words[0]: words[1] for words in (line.split(maxsplit=1) for line in out.splitlines())}


def test_the_embedded_model_fits(cli: Cli, have, smollm2: Path) -> None:
    answer = cli("fit", "smollm2")
    assert (answer.code, answer.err) == (0, "")
    lines = said(answer.out.replace("KV cache", "cache"))
    assert lines["model"] == f"smollm2, told by the head of {smollm2.name}"
    assert lines["load"] == "8192 tokens of context × 1 request, cache in f16"
    assert lines["weights"] == "93.8 MiB"
    assert lines["cache"] == "180.0 MiB (22.5 KiB a token)"
    assert lines["compute"] == "≈ 114.2 MiB, an estimate"
    assert lines["memory"] == "RAM, 8.0 GiB free of 16.0 GiB"
    assert lines["verdict"] == "fits"
    assert lines["largest"] == "8192 tokens, all it was trained on"


def test_a_cache_that_does_not_fit_is_exit_1_and_says_what_would(cli: Cli, have) -> None:
    have(Memory("RAM", 300 * MIB, 16 * GIB))
    answer = cli("fit", "smollm2")
    assert answer.code == 1
    lines = said(answer.out)
    assert lines["verdict"] == "weights fit, cache does not: 88.1 MiB too much"
    largest = int(lines["largest"].split()[0])
    assert cli("fit", "smollm2", "--context", str(largest)).code == 0
    assert cli("fit", "smollm2", "--context", str(largest + 256)).code == 1
    assert cli("fit", "smollm2", "--kv", "q4_0").code == 0
    assert cli("fit", "smollm2", "--kv", "q4_0", "--parallel", "8").code == 1


def test_weights_that_do_not_fit_leave_no_context(cli: Cli, have) -> None:
    have(Memory("RAM", 50 * MIB, 16 * GIB))
    answer = cli("fit", "smollm2")
    assert answer.code == 1
    assert said(answer.out)["verdict"].startswith("does not fit: ")
    assert said(answer.out)["largest"] == "none: no context fits"


def test_json_says_the_same_in_bytes(cli: Cli, have) -> None:
    answer = cli("fit", "smollm2", "--context", "4096", "--parallel", "2", "--json")
    assert answer.code == 0
    compute = 4 * 512 * (49_152 + 2 * 576 + 4096)
    assert json.loads(answer.out) == {
        "model": "smollm2",
        "context": 4096,
        "parallel": 2,
        "kv": "f16",
        "weights_bytes": 98_362_432,
        "cache_bytes": 180 * MIB,
        "cache_bytes_per_token": 23_040,
        "compute_bytes_estimate": compute,
        "total_bytes": 98_362_432 + 180 * MIB + compute,
        "memory": {"kind": "RAM", "free_bytes": 8 * GIB, "total_bytes": 16 * GIB},
        "verdict": "fits",
        "largest_context": 8192,
        "trained_context": 8192,
        "notes": [],
    }


def test_a_server_here_has_all_of_the_memory(cli: Cli, have, ollama: ScriptedEndpoint) -> None:
    have(Memory("VRAM", GIB, 24 * GIB, 2))
    answer = cli("fit", ollama.spec)
    lines = said(answer.out)
    assert answer.code == 0
    assert lines["model"] == "claw, told by Ollama"
    assert lines["load"].startswith("8192 tokens")
    assert lines["memory"] == "VRAM of 2 GPUs, 24.0 GiB in all (a part may hold the model already)"
    assert lines["verdict"] == "fits"
    assert ollama.chat_requests == []
    assert cli("fit", ollama.spec, "--context", "131072").code == 0
    assert cli("fit", ollama.spec, "--context", "131072", "--parallel", "2").code == 1


def test_what_a_server_does_not_tell_is_not_known(cli: Cli, have) -> None:
    models = {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 4096}]}
    routes = {"/v1/models": raw(json.dumps(models).encode())}
    with ScriptedEndpoint([say("ok")], model="m", routes=routes) as server:
        answer = cli("fit", server.spec)
        told = json.loads(cli("fit", server.spec, "--json").out)
    lines = said(answer.out)
    assert answer.code == 0
    assert lines["weights"] == lines["total"] == lines["largest"] == "not known"
    assert lines["verdict"] == (
        "not known: weights, cache, compute buffer not told, and 16.0 GiB are left for them"
    )
    assert (told["context"], told["verdict"], told["weights_bytes"]) == (4096, "not known", None)


def test_memory_that_is_not_known_gives_no_verdict(cli: Cli, have) -> None:
    have(None)
    answer = cli("fit", "smollm2")
    assert answer.code == 0
    lines = said(answer.out)
    assert lines["memory"] == "not known: this system does not tell"
    assert lines["verdict"] == "not known"


def test_a_server_elsewhere_does_not_use_the_memory_here(
    cli: Cli, have, ollama: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_facts, "is_loopback", lambda host: False)
    lines = said(cli("fit", ollama.spec).out)
    assert lines["memory"] == "not known: the server is another machine"
    assert (lines["weights"], lines["verdict"]) == ("5.0 GiB", "not known")


def test_a_context_that_is_not_served_yet_is_the_model_s_own(cli: Cli, have) -> None:
    routes = {
        "/api/tags": raw(json.dumps({"models": [{"name": "claw", "size": GIB}]}).encode()),
        "/api/show": raw(json.dumps({"model_info": MODEL_INFO}).encode()),
    }
    with ScriptedEndpoint([say("ok")], dialect="ollama", model="claw", routes=routes) as server:
        load = said(cli("fit", server.spec).out)["load"]
    assert load.startswith("131072 tokens of context (its own limit: what is served is not told)")


def test_a_context_that_nobody_tells_has_to_be_given(cli: Cli, have) -> None:
    with ScriptedEndpoint([say("ok")], model="m") as server:
        assert "add --context N" in cli.refused("fit", server.spec)
        assert cli("fit", server.spec, "--context", "4096").code == 0


def test_what_has_no_weights_is_refused(cli: Cli, have) -> None:
    assert "null model" in cli.refused("fit", "null:parrot")
    assert "nothing.gguf" in cli.refused("fit", "gguf:nothing.gguf")
    assert "nothing listens" in cli.refused("fit", "openai+http://127.0.0.1:9/v1#m")


@pytest.mark.parametrize(
    "wrong", [("--context", "0"), ("--parallel", "0"), ("--kv", "f32"), ("--context", "many")]
)
def test_wrong_usage_is_exit_2(cli: Cli, wrong: tuple[str, str]) -> None:
    assert cli("fit", "smollm2", *wrong).code == 2


def test_text_of_a_server_is_safe_to_print(cli: Cli, have) -> None:
    evil = {"general.architecture": "\x1b[2J", "\x1b[2J.attention.sliding_window": 7}
    routes = {
        "/api/tags": raw(json.dumps({"models": [{"name": "m"}]}).encode()),
        "/api/show": raw(json.dumps({"model_info": evil}).encode()),
    }
    with ScriptedEndpoint([say("ok")], dialect="ollama", model="m", routes=routes) as server:
        answer = cli("fit", server.spec, "--context", "4096")
    assert "\x1b" not in answer.out

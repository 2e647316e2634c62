from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf_kit import GIB, LLAMA_31_8B, MISTRAL_7B_V03, write_gguf

from pytest_agentlimit.endpoints.fit import Load, facts_of, need
from pytest_agentlimit.endpoints.literals import literal_spec
from pytest_agentlimit.endpoints.model_facts import Known, known_of
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import EndpointUnusable, UsageProblem
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, raw, say


def served(**routes: Any) -> dict[str, Scripted]:
    """Routes by their last word."""
    places = {"models": "/v1/models", "props": "/props", "version": "/api/version"}
    places |= {"tags": "/api/tags", "show": "/api/show"}
    return {places[name]: raw(json.dumps(body).encode()) for name, body in routes.items()}


def asked(routes: dict[str, Scripted], **spec: Any) -> Known:
    dialect = "ollama" if "/api/tags" in routes else "openai"
    with ScriptedEndpoint([say("ok")], dialect=dialect, routes=routes) as server:
        known = known_of(server.endpoint(**spec))
        assert server.chat_requests == []
    return known


def of_file(path: Path, **changes: Any) -> EndpointSpec:
    spec = literal_spec(f"gguf:{path}", {})
    assert spec is not None
    return spec.model_copy(update=changes)


def llama_cpp(**meta: Any) -> dict[str, Any]:
    return {"data": [{"id": "scripted", "owned_by": "llamacpp", "meta": meta}]}


# files


def test_a_file_tells_all_and_a_run_would_have_8192_tokens(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "Mistral 7B.gguf", MISTRAL_7B_V03)
    known = known_of(of_file(path))
    assert known.facts == facts_of(MISTRAL_7B_V03, path.stat().st_size)
    assert (known.context, known.here, known.running) == (8192, True, False)
    assert known_of(of_file(path, context_window=20_000)).context == 20_000


def test_a_split_file_is_as_large_as_its_parts(tmp_path: Path) -> None:
    first = write_gguf(tmp_path / "m-00001-of-00003.gguf", LLAMA_31_8B)
    for number in (2, 3):
        (tmp_path / f"m-0000{number}-of-00003.gguf").write_bytes(bytes(1000 * number))
    assert known_of(of_file(first)).facts.weights == first.stat().st_size + 5000
    (tmp_path / "m-00003-of-00003.gguf").unlink()
    facts = known_of(of_file(first)).facts
    assert facts.weights is None
    assert "not all of the file's 3 parts" in facts.notes[-1]


@pytest.mark.parametrize("content", [None, b"PK\x03\x04 a zip", b"GGUF\x03"])
def test_a_file_that_cannot_be_read_is_refused_with_its_name(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "some.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EndpointUnusable, match=r"some\.gguf"):
        known_of(of_file(path))


def test_weights_that_were_not_pulled_say_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTLIMIT_MODELS_DIR", str(tmp_path))
    with pytest.raises(EndpointUnusable, match="agentlimit pull smollm2"):
        known_of(of_file(tmp_path, gguf="smollm2"))


def test_a_null_model_has_no_size() -> None:
    spec = literal_spec("null:parrot", {})
    assert spec is not None
    with pytest.raises(UsageProblem, match="null model"):
        known_of(spec)


# servers


def test_llama_cpp_on_this_machine_is_asked_for_its_file(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", LLAMA_31_8B)
    props = {
        "model_path": str(path),
        "total_slots": 4,
        "default_generation_settings": {"n_ctx": 16_384},
    }
    known = asked(served(models=llama_cpp(size=1), props=props))
    assert known.facts.layers == facts_of(LLAMA_31_8B, None).layers
    assert known.facts.weights == path.stat().st_size
    assert (known.source, known.context) == ("llama.cpp", 16_384)
    assert (known.here, known.running) == (True, True)
    assert "4 slots" in known.facts.notes[0]


@pytest.mark.parametrize("path", ["/no/such/model.gguf", "/", "", None, 7, "a\x00b"])
def test_llama_cpp_without_its_file_tells_the_weights_only(path: Any) -> None:
    meta = {"size": 5 * GIB, "n_vocab": 128_256, "n_embd": 4096, "n_ctx_train": 131_072}
    known = asked(served(models=llama_cpp(**meta), props={"model_path": path}))
    weights, cache, compute = need(known.facts, Load(8192))
    assert (weights, cache) == (5 * GIB, None)
    assert compute is not None
    assert known.facts.trained == 131_072
    assert "tells nothing of the model's layers" in known.facts.notes[0]


def test_ollama_tells_the_shape_and_the_size() -> None:
    show = {
        "parameters": "num_ctx 32768",
        "model_info": {**MISTRAL_7B_V03, "tokenizer.ggml.tokens": None},
    }
    entries = [{"name": "other:7b", "size": 1}, {"name": "scripted:latest", "size": 4 * GIB}]
    known = asked(served(tags={"models": entries}, show=show, version={"version": "0.33"}))
    assert known.facts == facts_of(MISTRAL_7B_V03, 4 * GIB)
    assert (known.source, known.context) == ("Ollama", 32_768)


def test_vllm_tells_its_context_and_no_more() -> None:
    entry = {"id": "scripted", "owned_by": "vllm", "max_model_len": 32_768}
    known = asked(served(models={"data": [entry]}))
    assert (known.source, known.context) == ("vLLM", 32_768)
    assert need(known.facts, Load(32_768)) == (None, None, None)
    assert "tells nothing" in known.facts.notes[0]


@pytest.mark.parametrize("junk", [[], 3, None, {"model_info": 3}, {"model_info": {"a.b": {}}}])
def test_junk_of_a_server_is_nothing_known(junk: Any) -> None:
    entries = [{"name": "scripted", "size": "big"}]
    known = asked(served(tags={"models": entries}, show=junk, version={"version": "0.33"}))
    assert need(known.facts, Load(8192)) == (None, None, None)
    known = asked(served(models={"data": [{"owned_by": "llamacpp", "meta": junk}]}, props=junk))
    assert need(known.facts, Load(8192)) == (None, None, None)


def test_what_a_table_says_of_the_context_counts() -> None:
    entry = {"id": "scripted", "owned_by": "vllm", "max_model_len": 32_768}
    assert asked(served(models={"data": [entry]}), context_window=4096).context == 4096

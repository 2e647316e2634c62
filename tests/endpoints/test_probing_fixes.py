from __future__ import annotations

import pytest
from zoo import (
    LEAK,
    ZOO,
    Animal,
    diagnose,
    engine,
    kept,
)
from zoo_keepers import (
    BILLED,
    CONTEXT,
    asks_with_tools,
    instead,
    limited,
)

from pytest_agentlimit.endpoints.probing import run_ladder
from pytest_agentlimit.testing import ScriptedEndpoint, say


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("vLLM", "--enable-auto-tool-choice --tool-call-parser hermes"),
        ("llama.cpp", "--jinja"),
        ("Ollama", 'api: "ollama"'),
    ],
)
def test_a_leak_is_mended_in_the_words_of_the_engine(name: str, line: str) -> None:
    leak = instead(asks_with_tools, say(LEAK).with_(usage=BILLED))(None)
    with ScriptedEndpoint(leak, **engine(name)) as server:
        diagnosis = run_ladder(server.endpoint(context_window=CONTEXT), full=False)
    (found,) = diagnosis.faults
    assert found.fix is not None
    assert found.fix.line == line


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("vLLM", "--max-model-len 8192"),
        ("llama.cpp", "--ctx-size 8192"),
        ("Ollama", "OLLAMA_CONTEXT_LENGTH=8192"),
    ],
)
def test_a_small_context_is_mended_in_the_words_of_the_engine(name: str, line: str) -> None:
    with ScriptedEndpoint(limited(2048, "silent")(None), **engine(name)) as server:
        diagnosis = run_ladder(server.endpoint(context_window=CONTEXT))
    (found,) = diagnosis.faults
    assert found.code == "silent_truncation"
    assert found.fix is not None
    assert found.fix.line == line


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("vLLM", "--chat-template FILE"),
        ("llama.cpp", "--jinja --chat-template-file FILE"),
        ("Ollama", None),
    ],
)
def test_another_template_is_given_in_the_words_of_the_engine(name: str, line: str | None) -> None:
    refusing = ZOO["system in the middle"].keeper
    with ScriptedEndpoint(refusing(None), **engine(name)) as server:  # type: ignore[arg-type]
        (found,) = run_ladder(server.endpoint(context_window=CONTEXT)).faults
    assert found.fix is not None
    assert found.fix.line == line


def test_lines_for_openclaw_are_spelt_as_in_its_config() -> None:
    openclaw = Animal("small", limited(4096, "loud"), spec={"source": "OpenClaw config x"})
    (found,) = diagnose(openclaw).faults
    assert found.fix is not None
    assert found.fix.line == "contextWindow: 4096"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("no parser", "--enable-auto-tool-choice --tool-call-parser hermes"),
        ("no tools", "compat.supportsTools: false"),
        ("missing /v1", 'base_url = "http://127.0.0.1:{port}/v1"'),
        ("refuses null", "compat.requiresStringContent: true"),
        ("schema ignored", "compat.supportsJsonSchemaResponseFormat: false"),
        ("refuses two", "max_inflight = 1"),
        ("thinks for ever", "max_tokens = 4096"),
        ("smaller context", "context_window = 4096"),
    ],
)
def test_a_fault_has_its_exact_line(name: str, line: str) -> None:
    with kept(ZOO[name], "openai") as (server, spec):
        (found,) = run_ladder(spec).faults
        assert found.fix is not None
        assert found.fix.line == line.format(port=server.port)

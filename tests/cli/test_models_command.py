from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pytest_agentlimit.cli import main, models
from pytest_agentlimit.endpoints import discovery
from pytest_agentlimit.endpoints.discovery import Probe
from pytest_agentlimit.endpoints.nulls import NULL_MODELS
from pytest_agentlimit.endpoints.resolve import resolve
from pytest_agentlimit.testing import ScriptedEndpoint, html, say

PROJECT = """
[tool.agentlimit.models.open-claw]
base_url = "http://127.0.0.1:9/v1"

[tool.agentlimit.models.cloud]
base_url = "https://example.com/v1"
api_key_env = "CLOUD_KEY"

[tool.agentlimit.models.broken]
base_urll = "http://127.0.0.1:9/v1"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLOUD_KEY", raising=False)
    return tmp_path


@pytest.fixture(autouse=True)
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ScriptedEndpoint, ...]]:
    ollama = ScriptedEndpoint([say("hi")], dialect="ollama", model="qwen3:8b")
    same = ScriptedEndpoint([say("hi")], model="open-claw")
    page = ScriptedEndpoint([say("hi")], routes={"/v1/models": html()})
    probes = (
        Probe(label="Ollama", port=ollama.port, ollama=True),
        Probe(label="vLLM", port=same.port),
        Probe(label="LM Studio", port=page.port),
    )

    def places(environ: Mapping[str, str]) -> tuple[Probe, ...]:
        return probes

    monkeypatch.setattr(discovery, "default_probes", places)
    with ollama, same, page:
        yield ollama, same, page


def listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr("sys.argv", ["agentlimit", "models"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: line for line in lines}


def test_every_kind_of_model_is_listed_with_its_state(
    project: Path,
    servers: tuple[ScriptedEndpoint, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = listed(capsys, monkeypatch)
    assert rows["open-claw"].endswith("configured")
    assert "pyproject.toml: open-claw at http://127.0.0.1:9/v1" in rows["open-claw"]
    assert rows["cloud"].endswith("needs $CLOUD_KEY, which is not set")
    assert "cannot be used" in rows["broken"]
    assert "did you mean base_url?" in rows["broken"]
    assert f"Ollama at 127.0.0.1:{servers[0].port}" in rows["qwen3:8b"]
    assert {f"null:{name}" for name in NULL_MODELS} < set(rows)
    assert any("answers, but not with a model list" in line for line in rows.values())


def test_a_name_that_is_taken_is_spelt_out_for_the_other_model(
    project: Path,
    servers: tuple[ScriptedEndpoint, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    literal = f"openai+http://127.0.0.1:{servers[1].port}/v1#open-claw"
    assert literal in listed(capsys, monkeypatch)


def test_every_listed_name_that_can_be_used_resolves(
    project: Path,
    servers: tuple[ScriptedEndpoint, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probe = Probe(label="Ollama", port=servers[0].port, ollama=True)
    names = [
        name
        for name, line in listed(capsys, monkeypatch).items()
        if "cannot be used" not in line and "not with a model list" not in line
    ]
    assert len(names) > len(NULL_MODELS)
    for name in names:
        assert resolve(name, root=project, environ={}, probes=[probe]).name


def test_an_embedded_model_says_how_to_get_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTLIMIT_MODELS_DIR", str(tmp_path))
    line = listed(capsys, monkeypatch)["smollm2"]
    assert line.endswith("not here yet: agentlimit pull smollm2")
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    line = listed(capsys, monkeypatch)["smollm2"]
    assert line.endswith('needs the engine: pip install "pytest-agentlimit[embedded]"')


def test_a_terminal_gets_a_table(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    rows = listed(capsys, monkeypatch)
    assert any("what it is" in line for line in rows.values())
    assert any("null:parrot" in line for line in rows.values())


def test_nothing_heavy_is_imported_before_a_verb_runs() -> None:
    code = (
        "import sys, pytest_agentlimit.cli;"
        "print(*{'httpx', 'pydantic', 'xllamacpp', 'pytest'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COVERAGE_PROCESS_START": ""},
    )
    assert done.stdout.strip() == ""

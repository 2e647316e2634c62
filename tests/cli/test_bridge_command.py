from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from pytest_agentlimit.cli import main
from pytest_agentlimit.testing import ScriptedEndpoint, say

HI = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


def failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    monkeypatch.setattr("sys.argv", ["agentlimit", "bridge", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_what_cannot_work_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with ScriptedEndpoint([say("x")]) as server:
        upstream = ["--upstream", server.spec]
        taken = failed(monkeypatch, capsys, *upstream, "--port", str(server.port))
        assert "Address already in use" in taken
        assert "--token" in failed(monkeypatch, capsys, *upstream, "--host", "0.0.0.0")
        assert "5MB" in failed(monkeypatch, capsys, *upstream, "--max-body", "much")
        nowhere = str(tmp_path / "no" / "x.jsonl")
        assert "capture" in failed(
            monkeypatch, capsys, *upstream, "--port", "0", "--capture", nowhere
        )
    assert "no address" in failed(monkeypatch, capsys, "--upstream", "null:parrot")


def test_a_missing_extra_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    line = failed(monkeypatch, capsys, "--upstream", "openai+http://127.0.0.1:9/v1")
    assert 'pip install "pytest-agentlimit[bridge]"' in line


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and its address."""
    command = [sys.executable, "-c", "from pytest_agentlimit.cli import main; main()", "bridge"]
    environ = {**os.environ, "COVERAGE_PROCESS_START": "", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--port", "0", *arguments],
        cwd=folder,
        env=environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            first, *hints = [process.stdout.readline() for _ in range(3)]
            url = first.removeprefix("bridge at ").split()[0]
            assert [hint.split()[0] for hint in hints] == [
                f"ANTHROPIC_BASE_URL={url}",
                f"OPENAI_BASE_URL={url}/v1",
            ]
            yield process, url
        finally:
            process.kill()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped(tmp_path: Path, how: signal.Signals) -> None:
    with (
        ScriptedEndpoint([say("Hello.")]) as server,
        running(tmp_path, "--upstream", server.spec, "--capture", "wire.jsonl") as (process, url),
    ):
        reply = httpx.post(f"{url}/v1/messages", json=HI)
        assert reply.json()["content"][0]["text"] == "Hello."
        process.send_signal(how)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "1 /v1/messages m · 200 · end_turn · 10 in, 5 out" in err
    assert err.splitlines()[-1] == "stopped"
    (record,) = (json.loads(line) for line in (tmp_path / "wire.jsonl").read_text().splitlines())
    assert record["given"]["stop_reason"] == "end_turn"


def test_an_upstream_that_is_down_is_a_warning(tmp_path: Path) -> None:
    with ScriptedEndpoint([say("x")]) as gone:
        spec = f"openai+{gone.url}"
    with running(tmp_path, "--upstream", spec) as (process, url):
        assert process.stderr is not None
        warning = process.stderr.readline()
        assert warning.startswith("warning: ")
        assert "It may come up later" in warning
        assert httpx.post(f"{url}/v1/messages", json=HI).status_code == 502

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from pytest_agentlimit.cli import main
from pytest_agentlimit.testing import ScriptedEndpoint, hang, say

Asked = Callable[[str, bool], str]
HI: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}],
}
HUNG_ONCE = ("hung", "circuit_open", "circuit_open")


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
        wait = failed(monkeypatch, capsys, *upstream, "--first-byte", "20")
        assert '--first-byte: "20" has no unit: write "20s" or "20ms"' in wait
        pause = failed(monkeypatch, capsys, *upstream, "--between-chunks", "soon")
        assert "--between-chunks" in pause
        assert "no address" in failed(monkeypatch, capsys, *upstream, "--fallback", "null:parrot")
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


def ask_claude(url: str, streamed: bool) -> str:
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as client:
        given: dict[str, Any] = {**HI, "max_tokens": 64}
        if not streamed:
            message = client.messages.create(**given)
        else:
            with client.messages.stream(**given) as events:
                message = events.get_final_message()
    (block,) = message.content
    return str(block.text)


def ask_gpt(url: str, streamed: bool) -> str:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        given: dict[str, Any] = {"model": "m", "messages": HI["messages"]}
        if streamed:
            chunks = client.chat.completions.create(**given, stream=True)
            return "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
        return str(client.chat.completions.create(**given).choices[0].message.content)


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(("first", "second"), [(ask_claude, ask_gpt), (ask_gpt, ask_claude)])
def test_a_primary_that_hangs_costs_one_request_a_wait(
    tmp_path: Path, first: Asked, second: Asked, streamed: bool
) -> None:
    with (
        ScriptedEndpoint([hang()], model="big") as primary,
        ScriptedEndpoint([say("From the fallback.")], dialect="anthropic", model="small") as other,
    ):
        arguments = ["--upstream", primary.spec, "--fallback", other.spec]
        waits = ["--first-byte", "1s", "--between-chunks", "9s", "--capture", "wire.jsonl"]
        with running(tmp_path, *arguments, *waits) as (process, url):
            assert process.stdout is not None
            assert process.stdout.readline() == f"  falls back to {other.url}, anthropic, small\n"
            for ask in (first, second, first):
                assert ask(url, streamed) == "From the fallback."
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    records = [json.loads(line) for line in (tmp_path / "wire.jsonl").read_text().splitlines()]
    ways = [[(one["name"], one["kind"]) for one in record["attempts"]] for record in records]
    assert ways == [[("big", kind), ("small", None)] for kind in HUNG_ONCE]
    assert [record["served_by"] for record in records] == ["small"] * 3
    assert [record["status"] for record in records] == [200] * 3
    assert len(primary.chat_requests) == 1
    assert "served by small (big hung)" in err
    assert "served by small (big circuit_open)" in err


def test_a_fallback_that_is_down_is_a_warning(tmp_path: Path) -> None:
    with ScriptedEndpoint([say("x")]) as gone:
        spec = f"openai+{gone.url}"
    with (
        ScriptedEndpoint([say("x")]) as server,
        running(tmp_path, "--upstream", server.spec, "--fallback", spec) as (process, url),
    ):
        assert process.stderr is not None
        assert f"{gone.url} refused the connection" in process.stderr.readline()
        assert httpx.post(f"{url}/v1/messages", json=HI).status_code == 200

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path

import httpx
import pytest
from bridge_kit import HI, Gate, request_bytes, whole

from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.bridge.serve import Bridge
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.testing import ScriptedEndpoint, http_error, say

SECRET = "sk-a-very-secret-key-0123456789"
TOKEN = "token-of-the-bridge-0123"


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return tmp_path / "wire.jsonl"


def test_every_exchange_is_captured_without_secrets(
    capture: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("UP_KEY", SECRET)
    caplog.set_level(logging.INFO, "agentlimit")
    mine = "sk-ant-the-clients-own-key-42"
    prompt = {"role": "user", "content": f"keys: {SECRET} {TOKEN} {mine}"}
    replies = [say(f"I know {SECRET}"), http_error(500, f"no {SECRET}"), say("x")]
    with ScriptedEndpoint(replies, api_key=SECRET) as upstream:
        spec = upstream.endpoint(api_key_env="UP_KEY")
        with Bridge(spec, Policy(token=TOKEN), capture=capture) as bridge:
            headers = {"x-api-key": TOKEN, "authorization": f"Bearer {mine}"}
            for streamed in (True, False, True):
                body = HI | {"stream": streamed, "messages": [prompt]}
                httpx.post(f"{bridge.url}/v1/messages", json=body, headers=headers)
    text = capture.read_text()
    assert capture.stat().st_mode & 0o077 == 0
    for secret in (SECRET, TOKEN, mine):
        assert secret not in text
        assert secret not in caplog.text
    records = [json.loads(line) for line in text.splitlines()]
    assert [one["number"] for one in records] == [1, 2, 3]
    assert [one["status"] for one in records] == [200, 500, 200]
    assert [one["stream"] for one in records] == [True, False, True]
    first = records[0]
    assert first["request"]["messages"][0]["content"].startswith("keys: ")
    assert first["given"]["blocks"] == [{"type": "text", "text": "I know $UP_KEY"}]
    assert 0 < first["first_byte_s"] <= first["first_sent_s"] <= first["total_s"]
    assert records[1]["error"]["kind"] == "server_error"
    assert records[2]["given"]["usage"]["output_tokens"] == 5


def test_findings_leaks_and_refusals_are_captured(capture: Path) -> None:
    leak = '{"name": "read", "arguments": {"path": "a"}}'
    tools = [{"name": "read", "input_schema": {"type": "object"}}]
    with (
        ScriptedEndpoint([whole({"content": leak}, usage=False)]) as upstream,
        Bridge(upstream.endpoint(), Policy(max_turns=1), capture=capture) as bridge,
    ):
        for _ in range(2):
            httpx.post(f"{bridge.url}/v1/messages", json=HI | {"tools": tools})
    first, second = (json.loads(line) for line in capture.read_text().splitlines())
    assert [one["name"] for one in first["received"]["leaked_calls"]] == ["read"]
    assert [one["code"] for one in first["received"]["findings"]] == ["usage_missing"]
    assert first["recovered"] == 0
    assert (second["status"], second["received"]) == (400, None)
    assert "turn limit" in second["error"]["message"]


def test_a_client_that_left_is_captured(capture: Path) -> None:
    gate = Gate()
    with ScriptedEndpoint([say("x")]) as upstream:
        spec = upstream.endpoint(base_url=f"http://127.0.0.1:{gate.port}/v1")
        with Bridge(spec, capture=capture) as bridge:
            with socket.create_connection(("127.0.0.1", bridge.port)) as client:
                client.sendall(request_bytes("/v1/messages"))
                assert gate.asked.wait(10)
            assert gate.left.wait(10)
    gate.close()
    (record,) = (json.loads(line) for line in capture.read_text().splitlines())
    assert (record["client_left"], record["status"]) == (True, None)


def test_a_capture_that_cannot_be_written(tmp_path: Path) -> None:
    with (
        ScriptedEndpoint([say("x")]) as upstream,
        pytest.raises(UsageProblem, match="No such file or directory"),
    ):
        Bridge(upstream.endpoint(), capture=tmp_path / "no" / "wire.jsonl")

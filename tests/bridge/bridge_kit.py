"""An upstream that plays one script at a time, a bridge to it, and clients that read its bytes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx

from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.bridge.serve import Bridge
from pytest_agentlimit.chat.messages import ChatRequest, Dialect
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, raw, say

SSE = "text/event-stream"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
TOOL = {
    "name": "read",
    "description": "Read a file.",
    "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
}


HI: dict[str, Any] = {
    "model": "m",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "hi"}],
}
_PLENTY = 60_000_000


class Stage:
    """A scripted upstream whose next reply is set by the test, and a bridge in front of it."""

    def __init__(self, dialect: Dialect = "openai", policy: Policy | None = None) -> None:
        self.next: Scripted = say("Hello.")
        self.upstream = ScriptedEndpoint(self._reply, dialect=dialect)
        self.bridge = Bridge(self.upstream.endpoint(), policy)
        self.http = httpx.Client(base_url="http://bridge", timeout=20, trust_env=False)

    def _reply(self, request: ChatRequest) -> Scripted:
        return self.next

    @contextmanager
    def open(self) -> Iterator[Stage]:
        with self.upstream, self.bridge, self.http:
            self.http.base_url = httpx.URL(self.bridge.url)
            yield self

    @property
    def sent(self) -> dict[str, Any]:
        """The body of the last request that reached the upstream."""
        body = self.upstream.requests[-1].body
        assert isinstance(body, dict)
        return body

    def messages(self, *, stream: bool = False, **fields: Any) -> httpx.Response:
        return self.http.post("/v1/messages", json=HI | {"stream": stream} | fields)

    def chat(self, *, stream: bool = False, **fields: Any) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json=HI | {"stream": stream} | fields)


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The data of a stream's frames, `[DONE]` left out."""
    lines = [line for line in response.text.splitlines() if line.startswith("data:")]
    return [json.loads(line[5:]) for line in lines if line != "data: [DONE]"]


def message_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a stream of Anthropic events adds up to, in the form of a whole reply."""
    message: dict[str, Any] = {"content": [], "stop_reason": None, "error": None}
    for event in events:
        match event["type"]:
            case "content_block_start":
                block = dict(event["content_block"])
                message["content"].append(block | {"_": ""})
            case "content_block_delta":
                delta = event["delta"]
                block = message["content"][-1]
                key = {"text_delta": "text", "thinking_delta": "thinking"}.get(delta["type"], "_")
                if delta["type"] == "signature_delta":
                    block["signature"] = delta["signature"]
                else:
                    block[key] += delta.get(key, delta.get("partial_json", ""))
            case "message_delta":
                message["stop_reason"] = event["delta"]["stop_reason"]
                message["usage"] = event["usage"]
            case "error":
                message["error"] = event["error"]
    for block in message["content"]:
        written = block.pop("_")
        if block["type"] == "tool_use":
            block["input"] = json.loads(written)
    return message


# the parts of chat completions replies


def chunk(delta: Any = None, finish: str | None = None, **others: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "c1", "model": "m", "choices": [choice]} | others


def entry(
    index: int | None, call_id: str | None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    given = {"index": index, "id": call_id, "type": "function"}
    return {key: value for key, value in given.items() if value is not None} | {
        "function": {key: value for key, value in function.items() if value is not None}
    }


def called(*entries: dict[str, Any]) -> dict[str, Any]:
    return chunk({"tool_calls": list(entries)})


COUNTED = {"id": "c1", "model": "m", "choices": [], "usage": USAGE}


def stream(
    *chunks: dict[str, Any], done: bool = True, newline: str = "\n", usage: bool = True
) -> Scripted:
    """A streamed reply of these chunks."""
    frames = [chunk({"role": "assistant", "content": ""}), *chunks]
    frames += [COUNTED] if usage else []
    texts = [f"data: {json.dumps(frame)}" for frame in frames] + (["data: [DONE]"] if done else [])
    return raw("".join(text + newline * 2 for text in texts).encode(), SSE)


def whole(message: dict[str, Any], finish: str | None = "stop", *, usage: bool = True) -> Scripted:
    """A whole reply of this message."""
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}
    body = {"id": "c1", "model": "m", "choices": [choice]} | ({"usage": USAGE} if usage else {})
    return raw(json.dumps(body).encode())


# bare sockets


def request_bytes(path: str, **fields: Any) -> bytes:
    body = json.dumps(HI | fields).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Gate:
    """An upstream that sends a piece again and again, and says when it got stuck or was left."""

    def __init__(self, piece: bytes = b"") -> None:
        self.left = threading.Event()
        self.asked = threading.Event()
        self.sent = 0
        self.stuck = threading.Event()
        self._piece = piece
        self._head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" if piece else b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.recv(65_536)
            self.asked.set()
            connection.settimeout(0.5)
            with suppress(OSError):
                self._talk(connection)
            connection.settimeout(30)
            with suppress(TimeoutError):
                with suppress(ConnectionError):
                    while connection.recv(65_536):  # until the other side closes
                        pass
                self.left.set()

    def _talk(self, connection: socket.socket) -> None:
        connection.sendall(self._head)
        try:
            while self._piece and self.sent < _PLENTY:
                connection.sendall(self._piece)
                self.sent += len(self._piece)
        except TimeoutError:
            self.stuck.set()

    def close(self) -> None:
        self._listener.close()
        self._thread.join(10)

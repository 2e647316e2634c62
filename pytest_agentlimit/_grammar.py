"""The event grammar of Anthropic message streams, as a checker (PROTOCOLS 2.2)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

_DELTAS = {
    "text_delta": {"text"},
    "citations_delta": {"text"},
    "thinking_delta": {"thinking"},
    "signature_delta": {"thinking"},
    "input_json_delta": {"tool_use", "server_tool_use"},
}
_CONTENT = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}
_STOPS = {
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
}


def anthropic_grammar(events: bytes | Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with a stream of Anthropic message events; [] when nothing is.

    `events` are the decoded `data` objects in order, or the bytes of the stream, whose `event:`
    lines are then held against the data. A stream is right when it is complete, or when an
    `error` event is its last.
    """
    problems: list[str] = []
    if isinstance(events, bytes):
        events, problems = _frames(events)
    checker = _Checker()
    for event in events:
        checker.take(event)
    return problems + checker.problems + checker.unfinished()


def _frames(data: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    events: list[dict[str, Any]] = []
    problems: list[str] = []
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    *frames, rest = text.split("\n\n")
    if rest:
        problems.append("the last frame has no end")
    for frame in frames:
        lines = [line.partition(":") for line in frame.split("\n") if not line.startswith(":")]
        fields = {name: value.removeprefix(" ") for name, _, value in lines if name}
        if not fields:
            continue
        try:
            event = json.loads(fields.get("data", ""))
        except ValueError:
            event = None
        if not isinstance(event, dict):
            problems.append(f"a frame without a JSON object: {frame[:80]!r}")
            continue
        if fields.get("event") != event.get("type"):
            problems.append(f"event: {fields.get('event')} does not name {event.get('type')}")
        events.append(event)
    return events, problems


class _Checker:
    """Follows one stream; a problem is a sentence."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._state = "before"
        self._index = -1
        self._open: str | None = None
        self._signed = False
        self._calls = 0
        self._arguments: list[str] = []

    def unfinished(self) -> list[str]:
        """Return what the end of the stream leaves open."""
        if self._state in ("stopped", "error"):
            return []
        where = "before it began" if self._state == "before" else f"after {self._state}"
        return [f"the stream ends {where}, without message_stop or error"]

    def take(self, event: Mapping[str, Any]) -> None:
        """Read the next event."""
        kind = event.get("type")
        if self._state in ("stopped", "error"):
            self._wrong(f"{kind} after the end")
        elif kind == "error":
            self._state = "error"
            error = event.get("error")
            if not (isinstance(error, Mapping) and error.get("type") and error.get("message")):
                self._wrong("an error without type and message")
        elif kind == "message_start":
            self._start(event)
        elif self._state == "before":
            self._wrong(f"{kind} before message_start")
        elif kind == "content_block_start":
            self._block_start(event)
        elif kind == "content_block_delta":
            self._delta(event)
        elif kind == "content_block_stop":
            self._block_stop(event)
        elif kind == "message_delta":
            self._message_delta(event)
        elif kind == "message_stop":
            if self._state != "message_delta":
                self._wrong("message_stop without message_delta before it")
            self._state = "stopped"
        elif kind != "ping":
            self._wrong(f"unknown event {kind!r}")

    def _wrong(self, problem: str) -> None:
        self.problems.append(problem)

    def _start(self, event: Mapping[str, Any]) -> None:
        if self._state != "before":
            self._wrong("message_start came twice")
        self._state = "message_start"
        message = event.get("message")
        if not isinstance(message, Mapping) or message.get("content") != []:
            self._wrong("message_start without a message whose content is empty")
        elif not message.get("id") or not isinstance(message.get("usage"), Mapping):
            self._wrong("message_start without id and usage")

    def _block_start(self, event: Mapping[str, Any]) -> None:
        block = event.get("content_block")
        kind = block.get("type") if isinstance(block, Mapping) else None
        if self._open is not None:
            self._wrong("content_block_start while another block is open")
        if self._state == "message_delta":
            self._wrong("content_block_start after message_delta")
        self._index += 1
        if event.get("index") != self._index:
            self._wrong(f"block {event.get('index')} where {self._index} is next")
        self._open, self._signed, self._arguments = str(kind), False, []
        if kind == "tool_use" and isinstance(block, Mapping):
            self._calls += 1
            if not block.get("id") or not block.get("name") or block.get("input") != {}:
                self._wrong("a tool_use block needs id, name and an empty input")
        self._state = "content_block_start"

    def _delta(self, event: Mapping[str, Any]) -> None:
        delta = event.get("delta")
        kind = delta.get("type") if isinstance(delta, Mapping) else None
        if self._open is None or event.get("index") != self._index:
            self._wrong(f"{kind} without an open block {event.get('index')}")
        elif self._open not in _DELTAS.get(str(kind), set()):
            self._wrong(f"{kind} in a {self._open} block")
        content = delta.get(_CONTENT.get(str(kind), "")) if isinstance(delta, Mapping) else None
        if kind in _CONTENT and not isinstance(content, str):
            self._wrong(f"{kind} whose {_CONTENT[kind]} is no text")
        elif kind == "input_json_delta":
            self._arguments.append(str(content))
        self._signed = self._signed or kind == "signature_delta"

    def _block_stop(self, event: Mapping[str, Any]) -> None:
        if self._open is None or event.get("index") != self._index:
            self._wrong(f"content_block_stop without an open block {event.get('index')}")
        if self._open == "thinking" and not self._signed:
            self._wrong("a thinking block without signature")
        if self._open == "tool_use" and not _is_object("".join(self._arguments) or "{}"):
            self._wrong(f"tool input is no JSON object: {''.join(self._arguments)[:80]!r}")
        self._open = None
        self._state = "content_block_stop"

    def _message_delta(self, event: Mapping[str, Any]) -> None:
        if self._open is not None:
            self._wrong("message_delta while a block is open")
        if self._state == "message_delta":
            self._wrong("message_delta came twice")
        delta = event.get("delta")
        stop = delta.get("stop_reason") if isinstance(delta, Mapping) else None
        if stop not in _STOPS:
            self._wrong(f"unknown stop_reason {stop!r}")
        if stop == "tool_use" and not self._calls:
            self._wrong("stop_reason tool_use without a tool_use block")
        if stop == "end_turn" and self._calls:
            self._wrong("stop_reason end_turn after a tool_use block")
        if not isinstance(event.get("usage"), Mapping):
            self._wrong("message_delta without usage")
        self._state = "message_delta"


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False

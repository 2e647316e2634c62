"""Anthropic messages replies: the reader of whole and streamed ones (PROTOCOLS 2.2)."""

from __future__ import annotations

from typing import Any

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.anthropic_request import REDACTED, UNSIGNED
from pytest_agentlimit.chat.intake import Habits, Intake, OpenCall
from pytest_agentlimit.chat.messages import StopReason, Usage
from pytest_agentlimit.chat.wire_errors import read_error

_STOPS: dict[str, StopReason] = {
    "end_turn": "end_turn",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "stop_sequence": "stop_sequence",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_overflow",
    "pause_turn": "pause",
}
STOP_WORDS: dict[StopReason, str] = {stop: word for word, stop in _STOPS.items()}
"""Neutral stop reason to wire word; `unknown` has none and is written as null."""
_DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "input_json_delta": "tool_use",
}


class Reader:
    """Reads events, or the one body of a whole reply, into neutral events."""

    def __init__(self) -> None:
        self.intake = Intake(Habits(stops=_STOPS, empty_arguments=True))
        self._begun = False
        self._kinds: dict[int, str] = {}
        self._open: set[int] = set()
        self._calls: dict[int, OpenCall] = {}
        self._stop: str | None = None
        self._counts: dict[str, Any] = {}

    def whole(self, body: dict[str, Any]) -> None:
        """Read the body of a whole reply."""
        self.intake.start(self.intake.string(body, "id"), self.intake.string(body, "model"))
        for index, block in enumerate(self.intake.items(body, "content")):
            if isinstance(block, dict):
                self._begin(index, block)
            else:
                self.intake.note("bad_shape", "a content block is no object")
        self._count(self.intake.object(body, "usage"), final=True)
        self.intake.end(self.intake.string(body, "stop_reason") or None)

    def take(self, body: dict[str, Any], event: str | None) -> None:
        """Read one event of a stream; kinds that are not known are passed over."""
        kind = self.intake.string(body, "type")
        if event is None:
            self.intake.note("missing_event_line")
        if kind == "error" or body.get("error"):
            self.intake.error(read_error(None, jsontext.dumps(body)))
        elif kind == "message_start":
            self._message(self.intake.object(body, "message"))
        elif kind == "content_block_start":
            self._block_start(self._index(body), self.intake.object(body, "content_block"))
        elif kind == "content_block_delta":
            self._delta(self._index(body), self.intake.object(body, "delta"))
        elif kind == "content_block_stop":
            self._block_stop(self._index(body))
        elif kind == "message_delta":
            delta = self.intake.object(body, "delta")
            self._stop = self.intake.string(delta, "stop_reason") or self._stop
            self._count(self.intake.object(body, "usage"), final=True)
        elif kind == "message_stop":
            self.intake.end(self._stop)

    def done(self) -> None:
        """Pass over `[DONE]`, which some servers add."""

    def close(self) -> None:
        """Read the end of the transport: complete when a stop reason was seen, else cut."""
        if self.intake.ended:
            return
        if self._stop is None:
            self.intake.cut()
        else:
            self.intake.note("missing_done")
            self.intake.end(self._stop)

    def _index(self, body: dict[str, Any]) -> int:
        index = body.get("index")
        if isinstance(index, int):
            return index
        self.intake.note("bad_shape", "a content block event has no index")
        return max(self._kinds, default=0)

    def _message(self, message: dict[str, Any]) -> None:
        if self._begun:
            self.intake.note("bad_grammar", "message_start came twice")
            return
        self._begun = True
        self.intake.start(self.intake.string(message, "id"), self.intake.string(message, "model"))
        self._count(self.intake.object(message, "usage"), final=False)

    def _block_start(self, index: int, block: dict[str, Any]) -> None:
        if self._open:
            calls = block.get("type") == "tool_use" and self._open <= set(self._calls)
            self.intake.note("interleaved_calls" if calls else "bad_grammar")
        if index in self._kinds:
            self.intake.note("repeated_index")
        self._open.add(index)
        self._begin(index, block)

    def _begin(self, index: int, block: dict[str, Any]) -> None:
        """Take the beginning of a block, which in a whole reply is all of it."""
        kind = self.intake.string(block, "type")
        self._kinds[index] = kind
        if kind == "text":
            self.intake.text(self.intake.string(block, "text"))
        elif kind == "thinking":
            self._thinking(block)
        elif kind == "redacted_thinking":
            self.intake.thinking("", REDACTED + self.intake.string(block, "data"))
        elif kind == "tool_use":
            name = self.intake.string(block, "name")
            call = self.intake.open_call(self.intake.string(block, "id"), name)
            self._calls[index] = call
            self.intake.fragment(call, self._input(block))

    def _thinking(self, block: dict[str, Any]) -> None:
        signature = self.intake.string(block, "signature")
        self.intake.thinking(
            self.intake.string(block, "thinking"), None if signature == UNSIGNED else signature
        )

    def _input(self, block: dict[str, Any]) -> str:
        """Return the arguments a block begins with; {} in a stream means they follow."""
        value = block.get("input")
        if isinstance(value, str) and value:
            self.intake.note("arguments_string")
            return value
        return jsontext.dumps(value) if value else ""

    def _delta(self, index: int, delta: dict[str, Any]) -> None:
        kind = self.intake.string(delta, "type")
        wanted = _DELTAS.get(kind)
        if wanted is None:
            return
        if index not in self._open or self._kinds.get(index) != wanted:
            self.intake.note("bad_grammar", f"a {kind} without an open {wanted} block")
        if wanted == "text":
            self.intake.text(self.intake.string(delta, "text"))
        elif wanted == "thinking":
            self._thinking(delta)
        elif index in self._calls:
            self.intake.fragment(self._calls[index], self._partial_json(delta))

    def _partial_json(self, delta: dict[str, Any]) -> str:
        partial = delta.get("partial_json")
        if isinstance(partial, dict | list):
            self.intake.note("arguments_object")
            return jsontext.dumps(partial)
        return self.intake.string(delta, "partial_json")

    def _block_stop(self, index: int) -> None:
        if index not in self._open:
            self.intake.note("bad_grammar", "content_block_stop without an open block")
        self._open.discard(index)

    def _count(self, usage: dict[str, Any], *, final: bool) -> None:
        """Take token counts. The wire leaves cached tokens out of `input_tokens`; we do not.

        A prompt of 0 tokens does not exist: servers that count at the end begin with 0. For the
        same reason the output count of `message_start` is no count.
        """
        self._counts |= {
            key: value
            for key, value in usage.items()
            if value is not None
            and not (key == "input_tokens" and value == 0)
            and (final or key != "output_tokens")
        }
        fresh = self.intake.count(self._counts, "input_tokens")
        cached = self.intake.count(self._counts, "cache_read_input_tokens")
        written = self.intake.count(self._counts, "cache_creation_input_tokens")
        self.intake.usage(
            Usage(
                input_tokens=((fresh or 0) + (cached or 0) + (written or 0)) or None,
                cached_tokens=cached,
                cache_write_tokens=written,
                output_tokens=self.intake.count(self._counts, "output_tokens"),
            )
        )


def encode_usage(usage: Usage) -> dict[str, Any]:
    """Return the wire form of `usage`; counts that were not measured are 0, which it requires.

    Estimated ones say so in a key of our own.
    """
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    wire: dict[str, Any] = {
        "input_tokens": max(0, (usage.input_tokens or 0) - cached - written),
        "output_tokens": usage.output_tokens or 0,
    }
    if usage.cached_tokens is not None:
        wire["cache_read_input_tokens"] = cached
    if usage.cache_write_tokens is not None:
        wire["cache_creation_input_tokens"] = written
    return wire | ({"estimated": True} if usage.estimated else {})

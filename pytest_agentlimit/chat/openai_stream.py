"""Chat completions replies: one reader for whole and streamed ones, and the stream encoder."""

from __future__ import annotations

from typing import Any

from pytest_agentlimit.chat import jsontext, turns
from pytest_agentlimit.chat.intake import Habits, Intake, OpenCall
from pytest_agentlimit.chat.messages import (
    ServerTimings,
    StopReason,
    StreamError,
    StreamEvent,
    StreamStart,
    StreamStop,
    StreamUsage,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from pytest_agentlimit.chat.thinktags import ThinkTags
from pytest_agentlimit.chat.wire_errors import openai_body, read_error

_HABITS = Habits(
    stops={
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "function_call": "tool_use",
        "content_filter": "refusal",
    }
)
FINISH: dict[StopReason, str | None] = {
    "end_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "stop_sequence": "stop",
    "refusal": "content_filter",
    "context_overflow": "length",
    "pause": "stop",
    "unknown": None,
}
"""Neutral stop reason to `finish_reason`."""


class Reader:
    """Reads chunks, or the one body of a whole reply, into neutral events."""

    def __init__(self, *, whole: bool) -> None:
        self.intake = Intake(_HABITS)
        self._whole = whole
        self._tags = ThinkTags(self.intake)
        self._by_index: dict[int, OpenCall] = {}
        self._last: OpenCall | None = None
        self._finish: str | None = None
        self._started = False

    def take(self, body: dict[str, Any], event: str | None) -> None:
        """Read one chunk, or a whole body."""
        if body.get("error"):
            self._tags.flush()
            self.intake.error(read_error(None, jsontext.dumps(body)))
            return
        if not self._started:
            self._started = True
            self.intake.start(self.intake.string(body, "id"), self.intake.string(body, "model"))
        choices = self.intake.items(body, "choices")
        usage = self.intake.object(body, "usage")
        if choices:
            self._choice(choices[0])
        elif not usage:
            self.intake.note("empty_choices")
        timings = self.intake.object(body, "timings")
        if usage or timings:
            self._counts(usage, timings)

    def done(self) -> None:
        """Read `[DONE]`: the reply is complete, whether or not it said why."""
        self._tags.flush()
        self.intake.end(self._finish)

    def close(self) -> None:
        """Read the end of the transport: complete when a finish reason was seen, else cut."""
        if self.intake.ended:
            return
        if self._whole:
            self.done()
        elif self._finish is not None:
            self.intake.note("missing_done")
            self.done()
        else:
            self._tags.flush()
            self.intake.cut()

    def _choice(self, choice: Any) -> None:
        if not isinstance(choice, dict):
            self.intake.note("bad_shape", "a choice is no object")
            return
        message = self.intake.object(choice, "message" if self._whole else "delta")
        reasoning = self.intake.string(message, "reasoning_content")
        reasoning = reasoning or self.intake.string(message, "reasoning")
        if reasoning:
            self._tags.plain()
            self.intake.thinking(reasoning)
        self._tags.feed(self._content(message))
        self.intake.refusal(self.intake.string(message, "refusal"))
        self._calls(message)
        self._finish = self.intake.string(choice, "finish_reason") or self._finish

    def _content(self, message: dict[str, Any]) -> str:
        content = message.get("content")
        if isinstance(content, list):
            self.intake.note("bad_shape", "content is a list of parts, not a string")
            return "".join(block.text for block in turns.text_blocks(content))
        return self.intake.string(message, "content")

    def _calls(self, message: dict[str, Any]) -> None:
        for entry in self.intake.call_entries(message):
            self._tags.flush()
            self._call(entry)

    def _call(self, entry: dict[str, Any]) -> None:
        function = self.intake.object(entry, "function")
        name = self.intake.string(function, "name")
        wire_id = self.intake.string(entry, "id")
        call = None if self._whole else self._known(entry.get("index"), wire_id, name)
        if call is None:
            call = self.intake.open_call(wire_id, name)
        else:
            self.intake.name_call(call, name)
            call.wire_id = call.wire_id or wire_id or None
        self._last = call
        if not self._whole and isinstance(entry.get("index"), int):
            self._by_index[entry["index"]] = call
        self.intake.fragment(call, self._arguments(function))

    def _known(self, index: Any, wire_id: str, name: str) -> OpenCall | None:
        """Return the call a fragment belongs to, None when it begins a new one.

        Some servers number every call 0, so an index that comes back with another id, or with a
        name after the arguments were complete, is a new call.
        """
        if isinstance(index, int):
            call = self._by_index.get(index)
        else:
            self.intake.note("bad_shape", "a tool call has no index")
            call = self._last
        if call is None:
            return None
        other_id = bool(wire_id and call.wire_id and wire_id != call.wire_id)
        no_ids = not (wire_id and call.wire_id)
        named_again = bool(name and call.name)
        again = named_again and no_ids and (call.nesting.complete or name != call.name)
        if not (other_id or again):
            return call
        if isinstance(index, int):
            self.intake.note("repeated_index")
        return None

    def _arguments(self, function: dict[str, Any]) -> str:
        arguments = function.get("arguments")
        if isinstance(arguments, dict | list):
            self.intake.note("arguments_object")
            return jsontext.dumps(arguments)
        return self.intake.string(function, "arguments")

    def _counts(self, usage: dict[str, Any], timings: dict[str, Any]) -> None:
        prompt = self.intake.object(usage, "prompt_tokens_details")
        completion = self.intake.object(usage, "completion_tokens_details")
        cached = self.intake.count(prompt, "cached_tokens")
        if cached is None:
            cached = self.intake.count(timings, "cache_n")
        self.intake.usage(
            Usage(
                input_tokens=self.intake.count(usage, "prompt_tokens"),
                output_tokens=self.intake.count(usage, "completion_tokens"),
                cached_tokens=cached,
                reasoning_tokens=self.intake.count(completion, "reasoning_tokens"),
            )
        )
        self.intake.server(
            ServerTimings(
                prompt_s=self.intake.seconds(timings, "prompt_ms", 1e3),
                predicted_s=self.intake.seconds(timings, "predicted_ms", 1e3),
            )
        )


def encode_usage(usage: Usage) -> dict[str, Any] | None:
    """Return the wire form of `usage`, None when there is none; estimates say so in our own key."""
    wire: dict[str, Any] = {}
    if usage.input_tokens is not None:
        wire["prompt_tokens"] = usage.input_tokens
    if usage.output_tokens is not None:
        wire["completion_tokens"] = usage.output_tokens
    if len(wire) == 2:
        wire["total_tokens"] = sum(wire.values())
    if usage.cached_tokens is not None:
        wire["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        wire["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    if usage.estimated:
        wire["estimated"] = True
    return wire or None


class Encoder:
    """Neutral events to chunks. A reply that got no stop event is left open, as it came."""

    def __init__(self, model: str) -> None:
        self._id = "chatcmpl-0"
        self._model = model
        self._started = False
        self._stopped = False
        self._usage = Usage()
        self._error = False

    def feed(self, event: StreamEvent) -> bytes:
        """Return the bytes for `event`; after a stop or an error there are none."""
        if self._error:
            return b""
        if isinstance(event, StreamUsage):
            given = {name: value for name, value in event.usage or () if value is not None}
            self._usage = self._usage.model_copy(update=given)
            return b""
        if isinstance(event, StreamError):
            self._error = True
            return _frame(openai_body(event.error))
        if self._stopped:
            return b""
        if isinstance(event, StreamStart) and not self._started:
            self._id = event.id or self._id
            self._model = event.model or self._model
            return self._start()
        if isinstance(event, StreamStop):
            self._stopped = True
            return self._start() + self._chunk({}, FINISH[event.stop_reason])
        delta = self._delta(event)
        return self._start() + self._chunk(delta) if delta else b""

    def close(self) -> bytes:
        """Return the usage chunk and `[DONE]`; nothing when the reply was not completed."""
        if self._error or not self._stopped:
            return b""
        usage = encode_usage(self._usage)
        tail = _frame(self._body([]) | {"usage": usage}) if usage else b""
        return tail + b"data: [DONE]\n\n"

    @staticmethod
    def _delta(event: StreamEvent) -> dict[str, Any] | None:
        match event:
            case TextDelta(text=text) if text:
                return {"content": text}
            case ThinkingDelta(text=text) if text:
                return {"reasoning_content": text}
            case ToolCallStart(index=index, id=call_id, name=name):
                function = {"name": name, "arguments": ""}
                call = {"index": index, "id": call_id, "type": "function", "function": function}
                return {"tool_calls": [call]}
            case ToolCallDelta(index=index, fragment=fragment) if fragment:
                return {"tool_calls": [{"index": index, "function": {"arguments": fragment}}]}
        return None

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        return self._chunk({"role": "assistant", "content": ""})

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        return _frame(self._body([{"index": 0, "delta": delta, "finish_reason": finish}]))

    def _body(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": 0,
            "model": self._model,
            "choices": choices,
        }


def _frame(body: dict[str, Any]) -> bytes:
    return b"data: " + jsontext.wire(body) + b"\n\n"

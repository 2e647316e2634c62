"""Ollama /api/chat replies: one reader for whole and streamed ones, and the stream encoder."""

from __future__ import annotations

from typing import Any

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.intake import Habits, Intake
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
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from pytest_agentlimit.chat.ollama_request import wire_call
from pytest_agentlimit.chat.thinktags import ThinkTags
from pytest_agentlimit.chat.wire_errors import read_error

_HABITS = Habits(
    stops={"stop": "end_turn", "length": "max_tokens"},
    ids_optional=True,
    empty_arguments=True,
    stop_with_call=True,
)
_NEVER = "1970-01-01T00:00:00Z"
_NANO = 1e9
_CLOCKS = {
    "load_s": "load_duration",
    "prompt_s": "prompt_eval_duration",
    "predicted_s": "eval_duration",
    "total_s": "total_duration",
}
_COUNTED = frozenset({"prompt_eval_count", "eval_count", *_CLOCKS.values()})


class Reader:
    """Reads lines, or the one body of a whole reply, into neutral events."""

    def __init__(self) -> None:
        self.intake = Intake(_HABITS)
        self._tags = ThinkTags(self.intake)
        self._started = False
        self._done_reason: str | None = None

    def take(self, body: dict[str, Any], event: str | None) -> None:
        """Read one line, or a whole body marked `done`."""
        if body.get("error"):
            self._tags.flush()
            self.intake.error(read_error(None, jsontext.dumps(body)))
            return
        if not self._started:
            self._started = True
            self.intake.start("", self.intake.string(body, "model"))
        self._message(self.intake.object(body, "message"))
        if not _COUNTED.isdisjoint(body):
            self._counts(body)
        self._done_reason = self.intake.string(body, "done_reason") or self._done_reason
        if body.get("done"):
            self._end()

    def done(self) -> None:
        """Read `[DONE]`, which is no part of this dialect."""
        self.intake.note("bad_frame", "[DONE] is no part of this dialect")

    def close(self) -> None:
        """Read the end of the transport: cut unless a done_reason was seen."""
        if self.intake.ended:
            return
        if self._done_reason is not None:
            self.intake.note("missing_done")
            self._end()
        else:
            self._tags.flush()
            self.intake.cut()

    def _end(self) -> None:
        self._tags.flush()
        self.intake.end(self._done_reason)

    def _message(self, message: dict[str, Any]) -> None:
        thinking = self.intake.string(message, "thinking")
        if thinking:
            self._tags.plain()
            self.intake.thinking(thinking)
        self._tags.feed(self.intake.string(message, "content"))
        for entry in self.intake.call_entries(message):
            self._tags.flush()
            self._call(entry)

    def _call(self, entry: dict[str, Any]) -> None:
        function = self.intake.object(entry, "function")
        call = self.intake.open_call(
            self.intake.string(entry, "id"), self.intake.string(function, "name")
        )
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            self.intake.note("arguments_string")
            self.intake.fragment(call, arguments)
        elif arguments is not None:
            self.intake.fragment(call, jsontext.dumps(arguments))

    def _counts(self, body: dict[str, Any]) -> None:
        self.intake.usage(
            Usage(
                input_tokens=self.intake.count(body, "prompt_eval_count"),
                output_tokens=self.intake.count(body, "eval_count"),
            )
        )
        clocks = {name: self.intake.seconds(body, wire, _NANO) for name, wire in _CLOCKS.items()}
        self.intake.server(ServerTimings(**clocks))


def last_line(
    model: str,
    message: dict[str, Any],
    stop: StopReason,
    usage: Usage,
    server: ServerTimings | None,
) -> dict[str, Any]:
    """Return the line, or whole body, that ends a reply."""
    body: dict[str, Any] = {"model": model, "created_at": _NEVER, "message": message, "done": True}
    if stop != "unknown":
        body["done_reason"] = "length" if stop in ("max_tokens", "context_overflow") else "stop"
    if usage.input_tokens is not None:
        body["prompt_eval_count"] = usage.input_tokens
    if usage.output_tokens is not None:
        body["eval_count"] = usage.output_tokens
    for name, wire in _CLOCKS.items():
        seconds = getattr(server, name, None)
        if seconds is not None:
            body[wire] = round(seconds * _NANO)
    return body


class Encoder:
    """Neutral events to lines. Calls are whole here: they go out when the reply stops.

    A reply that got no stop event is left open, as it came.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._calls: dict[int, tuple[ToolCallStart, list[str]]] = {}
        self._usage = Usage()
        self._server = ServerTimings()
        self._stop: StreamStop | None = None
        self._error = False

    def feed(self, event: StreamEvent) -> bytes:
        """Return the bytes for `event`; after a stop or an error there are none."""
        if isinstance(event, StreamUsage):
            self._count(event)
        if self._error or self._stop is not None:
            return b""
        match event:
            case StreamStart(model=model):
                self._model = model or self._model
            case TextDelta(text=text) if text:
                return self._line({"role": "assistant", "content": text})
            case ThinkingDelta(text=text) if text:
                return self._line({"role": "assistant", "content": "", "thinking": text})
            case ToolCallStart(index=index):
                self._calls[index] = (event, [])
            case ToolCallDelta(index=index, fragment=fragment) if index in self._calls:
                self._calls[index][1].append(fragment)
            case StreamError(error=error):
                self._error = True
                return jsontext.wire({"error": error.message}) + b"\n"
            case StreamStop():
                self._stop = event
                return self._all_calls()
        return b""

    def close(self) -> bytes:
        """Return the last line; nothing when the reply was not completed."""
        if self._error or self._stop is None:
            return b""
        message = {"role": "assistant", "content": ""}
        stop = self._stop.stop_reason
        body = last_line(self._model, message, stop, self._usage, self._server)
        return jsontext.wire(body) + b"\n"

    def _count(self, event: StreamUsage) -> None:
        given = {name: value for name, value in event.usage or () if value is not None}
        clocks = {name: value for name, value in event.server or () if value is not None}
        self._usage = self._usage.model_copy(update=given)
        self._server = self._server.model_copy(update=clocks)

    def _all_calls(self) -> bytes:
        if not self._calls:
            return b""
        calls = [
            wire_call(
                number,
                ToolCall(id=start.id, name=start.name, raw_arguments="".join(fragments)),
            )
            for number, (start, fragments) in enumerate(self._calls.values())
        ]
        return self._line({"role": "assistant", "content": "", "tool_calls": calls})

    def _line(self, message: dict[str, Any]) -> bytes:
        body = {"model": self._model, "created_at": _NEVER, "message": message, "done": False}
        return jsontext.wire(body) + b"\n"

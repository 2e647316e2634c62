"""What every decoder shares: neutral events of one reply, its open calls, its end.

A dialect's reader says what it saw; the rules that hold in all dialects (findings once each, what
a truncated call is, which stop reason counts) are applied here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.findings import FindingCode, found
from pytest_agentlimit.chat.framing import Frame, Framer
from pytest_agentlimit.chat.messages import (
    Finding,
    ServerTimings,
    StopReason,
    StreamError,
    StreamEvent,
    StreamFinding,
    StreamStart,
    StreamStop,
    StreamUsage,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    WireError,
)

_BIGGEST_COUNT = 2**53


@dataclass(frozen=True)
class Habits:
    """What is normal in a dialect, so that only deviations become findings."""

    stops: dict[str, StopReason]
    """Wire stop reason to neutral one."""
    ids_optional: bool = False
    empty_arguments: bool = False
    """An empty argument text stands for {}."""
    stop_with_call: bool = False
    """A reply with a call ends in the same word as one without."""


@dataclass
class OpenCall:
    """A call whose arguments are still arriving; `index` is None until its name is known."""

    wire_id: str | None
    name: str = ""
    index: int | None = None
    parts: list[str] = field(default_factory=list)
    nesting: jsontext.Nesting = field(default_factory=jsontext.Nesting)


class Intake:
    """Collects the events of one reply; `drain` hands them on."""

    def __init__(self, habits: Habits) -> None:
        self._habits = habits
        self._events: list[StreamEvent] = []
        self._noted: set[str] = set()
        self._calls: list[OpenCall] = []
        self._named = 0
        self._active: OpenCall | None = None
        self._usage = Usage()
        self._refused = False
        self.ended = False

    def drain(self) -> list[StreamEvent]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        return events

    def note(self, code: FindingCode, detail: str = "") -> None:
        """Record a finding, once per code and reply."""
        if code not in self._noted:
            self.found(found(code, detail))

    def found(self, finding: Finding) -> None:
        """Record a ready finding, once per code and reply."""
        if finding.code not in self._noted:
            self._noted.add(finding.code)
            self._events.append(StreamFinding(finding=finding))

    def start(self, reply_id: str, model: str) -> None:
        """Record who answers; empty strings are unknown."""
        self._events.append(StreamStart(id=reply_id or None, model=model or None))

    def text(self, text: str) -> None:
        """Record visible text."""
        if text:
            self._events.append(TextDelta(text=text))

    def refusal(self, text: str) -> None:
        """Record the text of a refusal; the reply then ends as one."""
        if text:
            self._refused = True
            self.text(text)

    def thinking(self, text: str, signature: str | None = None) -> None:
        """Record reasoning."""
        if text or signature:
            self._events.append(ThinkingDelta(text=text, signature=signature))

    def usage(self, usage: Usage) -> None:
        """Record token counts; those that are None keep what was known."""
        merged = self._usage.model_copy(update=_given(usage))
        if merged != self._usage:
            self._usage = merged
            self._events.append(StreamUsage(usage=merged))

    def server(self, timings: ServerTimings) -> None:
        """Record the server's own clocks."""
        if timings != ServerTimings():
            self._events.append(StreamUsage(server=timings))

    def open_call(self, wire_id: str, name: str) -> OpenCall:
        """Return a new call; it is announced as soon as it has a name."""
        call = OpenCall(wire_id=wire_id or None)
        self._calls.append(call)
        self._active = call
        self.name_call(call, name)
        return call

    def name_call(self, call: OpenCall, name: str) -> None:
        """Give a call its name, if it has none yet."""
        if name and call.index is None:
            self._announce(call, name)

    def fragment(self, call: OpenCall, text: str) -> None:
        """Record a piece of the arguments of `call`."""
        if not text:
            return
        if call is not self._active:
            self.note("interleaved_calls")
            self._active = call
        call.parts.append(text)
        call.nesting.feed(text)
        if call.index is not None:
            self._events.append(ToolCallDelta(index=call.index, fragment=text))

    def error(self, error: WireError) -> None:
        """Record an error object; nothing follows it."""
        self._events.append(StreamError(error=error))
        self.ended = True

    def cut(self) -> None:
        """Record that the reply broke off: there is no stop event."""
        if not self.ended:
            self._close_calls(cut=True)
            self.note("cut_stream")
            self.ended = True

    def end(self, raw: str | None) -> None:
        """Record the end of the reply and the server's word for it, None when it had none."""
        if self.ended:
            return
        self._close_calls(cut=False)
        if self._usage.input_tokens is None and self._usage.output_tokens is None:
            self.note("usage_missing")
        stop = self._stop(raw)
        self._events.append(StreamStop(stop_reason=stop, raw_stop_reason=raw))
        self.ended = True

    def _stop(self, raw: str | None) -> StopReason:
        """Content goes first: a reply that holds a call has not simply ended (PROTOCOLS R12)."""
        if raw is None:
            self.note("missing_stop_reason")
            return "unknown"
        stop = self._habits.stops.get(raw, "unknown")
        if stop == "unknown":
            self.note("unknown_stop_reason", f"the reply ended for the reason {raw!r}")
        if self._refused and stop == "end_turn":
            return "refusal"
        if self._calls and stop in ("end_turn", "stop_sequence"):
            if not self._habits.stop_with_call:
                self.note("stop_with_call")
            return "tool_use"
        if stop == "tool_use" and not self._calls:
            self.note("tool_stop_without_call")
        return stop

    def _announce(self, call: OpenCall, name: str) -> None:
        call.name, call.index = name, self._named
        self._named += 1
        if call.wire_id is None and not self._habits.ids_optional:
            self.note("missing_call_id")
        call_id = call.wire_id or f"call_{call.index}"
        self._events.append(ToolCallStart(index=call.index, id=call_id, name=name))
        for part in call.parts:
            self._events.append(ToolCallDelta(index=call.index, fragment=part))

    def _close_calls(self, *, cut: bool) -> None:
        for call in self._calls:
            if call.index is None:
                self.note("bad_shape", "a tool call had no name")
                self._announce(call, "")
            self._check_arguments(call, cut=cut)

    def _check_arguments(self, call: OpenCall, *, cut: bool) -> None:
        raw = "".join(call.parts)
        if not raw.strip():
            if not cut:
                if not self._habits.empty_arguments:
                    self.note("arguments_empty")
                self._active = call
                self.fragment(call, "{}")
            return
        problem = ToolCall(id="", name=call.name, raw_arguments=raw).parse_error
        if problem and call.nesting.open:
            self.note("truncated_arguments", problem)
        elif problem:
            self.note("malformed_arguments", problem)
        elif "\\u" in raw and jsontext.parse(raw)[1]:
            self.note("lone_surrogate")

    # Fields read whatever their type; what the dialect does not allow is recorded.

    def string(self, holder: dict[str, Any], key: str) -> str:
        """Return `holder[key]`, "" when it is missing, null or no string."""
        value = holder.get(key)
        if value is None or isinstance(value, str):
            return value or ""
        self.note("bad_shape", f"{key} is a {type(value).__name__}, not a string")
        return ""

    def object(self, holder: dict[str, Any], key: str) -> dict[str, Any]:
        """Return `holder[key]`, {} when it is missing, null or no object."""
        value = holder.get(key)
        if value is None or isinstance(value, dict):
            return value or {}
        self.note("bad_shape", f"{key} is a {type(value).__name__}, not an object")
        return {}

    def items(self, holder: dict[str, Any], key: str) -> list[Any]:
        """Return `holder[key]`, [] when it is missing, null or no list."""
        value = holder.get(key)
        if value is None or isinstance(value, list):
            return value or []
        self.note("bad_shape", f"{key} is a {type(value).__name__}, not a list")
        return []

    def call_entries(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the entries of `tool_calls` that are objects; null and empty lists are findings."""
        calls = self.items(message, "tool_calls")
        if not calls and "tool_calls" in message and message["tool_calls"] in (None, []):
            self.note("null_tool_calls")
        for entry in calls:
            if isinstance(entry, dict):
                yield entry
            else:
                self.note("bad_shape", "a tool call is no object")

    def count(self, holder: dict[str, Any], key: str) -> int | None:
        """Return `holder[key]` as a count, None when it is missing or none."""
        value = holder.get(key)
        if value is None:
            return None
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if whole and not isinstance(value, bool) and 0 <= value <= _BIGGEST_COUNT:
            return int(value)
        self.note("bad_shape", f"{key} is no token count")
        return None

    def seconds(self, holder: dict[str, Any], key: str, per_second: float) -> float | None:
        """Return `holder[key]` in seconds, None when it is missing or no duration."""
        value = holder.get(key)
        if value is None:
            return None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and 0 <= value <= _BIGGEST_COUNT:
            return float(value / per_second)
        self.note("bad_shape", f"{key} is no duration")
        return None


def _given(usage: Usage) -> dict[str, Any]:
    return {name: value for name, value in usage if value is not None}


class Reader(Protocol):
    """One dialect's reading of a stream, frame by frame."""

    intake: Intake

    def take(self, body: dict[str, Any], event: str | None) -> None:
        """Read one JSON frame."""
        ...

    def done(self) -> None:
        """Read the `[DONE]` frame."""
        ...

    def close(self) -> None:
        """Read the end of the transport."""
        ...


class FrameDecoder:
    """Bytes of a stream to neutral events: a framer, then a dialect's reader."""

    def __init__(self, framer: Framer, reader: Reader) -> None:
        self._framer = framer
        self._reader = reader

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """Return the events that `chunk` completes; nothing follows an end or an error."""
        for frame in self._framer.feed(chunk):
            self._frame(frame)
        return self._reader.intake.drain()

    def close(self) -> list[StreamEvent]:
        """Return what the end of the transport implies."""
        for frame in self._framer.close():
            self._frame(frame)
        self._reader.close()
        return self._reader.intake.drain()

    def _frame(self, frame: Frame | Finding) -> None:
        intake = self._reader.intake
        if intake.ended:
            return
        if isinstance(frame, Finding):
            intake.found(frame)
        elif frame.data.strip() == "[DONE]":
            self._reader.done()
        else:
            self._object(frame)

    def _object(self, frame: Frame) -> None:
        intake = self._reader.intake
        try:
            body, lone = jsontext.parse(frame.data)
        except ValueError:
            body, lone = None, False
        if lone:
            intake.note("lone_surrogate")
        if isinstance(body, dict):
            self._reader.take(body, frame.event)
        elif frame.complete:
            intake.note("bad_frame", f"a frame that is no JSON object: {frame.data[:120]}")

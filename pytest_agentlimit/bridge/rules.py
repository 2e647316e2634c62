"""What a client may be told: calls only when they are whole, an end only when there was one (R12).

Text and thinking pass at once. A tool call waits until its arguments are complete, since a client
cannot take back a call that breaks off later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

from pytest_agentlimit.bridge.recover import may_be_calls, recovered_calls
from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.emulated_reply import EmulatedReply
from pytest_agentlimit.chat.messages import (
    ChatRequest,
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
    WireError,
)
from pytest_agentlimit.text import one_line

CHARACTERS_PER_TOKEN = 4
"""An estimate, since every model counts its own; used where nobody counted."""

_CUT = "the reply breaks off in the middle of a tool call (max_tokens?)"
_LEAKED = "the reply is nothing but tool calls written as text, which nobody would run"


def estimated_tokens(characters: int) -> int:
    """Return about how many tokens a text is; at least 1."""
    return max(1, -(-characters // CHARACTERS_PER_TOKEN))


@dataclass
class _Held:
    """A call whose arguments are still coming."""

    id: str
    name: str
    parts: list[str] = field(default_factory=list)
    nesting: jsontext.Nesting = field(default_factory=jsontext.Nesting)
    released: bool = False
    spoilt: bool = False
    """Something came after the end of its arguments."""

    @property
    def raw(self) -> str:
        return "".join(self.parts)

    @property
    def sound(self) -> bool:
        """True when it can be run as it stands."""
        call = ToolCall(id=self.id, name=self.name, raw_arguments=self.raw)
        return bool(self.name and self.parts) and call.parse_error is None


class Rules:
    """One reply's events as its client may have them, in order; `recovered` counts leaked calls.

    `prompt_tokens` estimates the request; it is asked when the upstream did not count (R15).
    `leaks`: a reply that is nothing but calls written as text is passed, made calls again, or
    refused, for somebody else to answer. With `emulate` calls and answers are read from the text
    (chat/emulated_reply.py), and nothing else is made of it. After a StreamStop or a StreamError of
    ours nothing follows. Errors of the upstream are not passed on here: whoever reads from it
    reports them.
    """

    def __init__(
        self,
        request: ChatRequest,
        *,
        prompt_tokens: Callable[[], int],
        leaks: Literal["pass", "recover", "refuse"] = "pass",
        cut_calls: Literal["drop", "error"] = "drop",
        emulate: bool = False,
    ) -> None:
        self._request = request
        self._estimate = prompt_tokens
        self._calls: dict[int, _Held] = {}
        self._released = 0
        self._said = 0
        self._usage = Usage()
        looks = leaks != "pass" and not emulate  # an answer may hold what looks like a call
        # None: text is not held back, or not any more.
        self._text: list[str] | None = [] if looks and request.tools else None
        self._cut_is_error = cut_calls == "error"
        self._refuses = leaks == "refuse"
        self.recovered = 0
        self.refused = False
        """The reply was nothing but calls written as text, and was refused for that."""
        self.emulation = EmulatedReply(request) if emulate else None

    @property
    def emulated(self) -> int:
        """Calls that were read from the text of a model that was offered tools in its prompt."""
        return self.emulation.calls if self.emulation else 0

    @property
    def marks(self) -> dict[str, str]:
        """What a client is told of the reply beside it, as headers; also a stream, as comments."""
        counts = {"recovered": self.recovered, "emulated": self.emulated}
        return {f"x-agentlimit-{what}": str(count) for what, count in counts.items() if count}

    def feed(self, event: StreamEvent) -> list[StreamEvent]:
        """Return what the client gets for `event`."""
        if self.emulation is None:
            return self._ruled(event)
        return [ruled for made in self.emulation.feed(event) for ruled in self._ruled(made)]

    def _ruled(self, event: StreamEvent) -> list[StreamEvent]:
        match event:
            case StreamStart():
                # Clients tell replies apart by their ids: Claude Code takes two with the same id
                # for one and forgets a turn. Servers repeat theirs (Ollama draws from 999).
                return [event.model_copy(update={"id": f"msg_{uuid4().hex}"})]
            case StreamUsage(usage=usage):
                given = {name: value for name, value in usage or () if value is not None}
                self._usage = self._usage.model_copy(update=given)
                return [event]
            case TextDelta(text=text):
                self._said += len(text)
                return self._texts(event)
            case ThinkingDelta(text=text):
                self._said += len(text)
            case ToolCallStart(index=index, id=call_id, name=name):
                self._calls[index] = _Held(self._own_id(call_id, index), name)
                return []
            case ToolCallDelta(index=index, fragment=fragment):
                return self._fragment(self._calls.get(index), fragment)
            case StreamStop():
                return self._end(event)
            case StreamError():
                return []
        return [event]

    def _own_id(self, call_id: str, index: int) -> str:
        """Return an id that no other call of the conversation has, the same when asked again.

        Servers that send none, or count from 0 in every reply, would repeat theirs.
        """
        if call_id == f"call_{index}":
            return f"call_{len(self._request.messages)}_{index}"
        return call_id

    def _texts(self, event: TextDelta) -> list[StreamEvent]:
        if self._text is None:
            return [event]
        self._text.append(event.text)
        held = "".join(self._text)
        if may_be_calls(held):
            return []
        self._text = None
        return [TextDelta(text=held)]

    def _fragment(self, held: _Held | None, fragment: str) -> list[StreamEvent]:
        if held is None:
            return []
        self._said += len(fragment)
        if held.released:
            held.spoilt = held.spoilt or bool(fragment.strip())
            return []
        held.parts.append(fragment)
        held.nesting.feed(fragment)
        return self._release() if held.nesting.complete else []

    def _release(self) -> list[StreamEvent]:
        """Return the calls that are whole, in their order: up to the first that is not."""
        out: list[StreamEvent] = []
        for held in self._calls.values():
            if held.released:
                continue
            if held.nesting.open or not held.sound:
                break
            held.released = True
            out += self._call(held.id, held.name, held.raw)
        return out

    def _call(self, call_id: str, name: str, raw: str) -> list[StreamEvent]:
        index = self._released
        self._released += 1
        return [
            ToolCallStart(index=index, id=call_id, name=name),
            ToolCallDelta(index=index, fragment=raw),
        ]

    def _end(self, stop: StreamStop) -> list[StreamEvent]:
        out = self._held_text()
        if self.refused:
            return [_error(_LEAKED)]
        whole = {index: held for index, held in self._calls.items() if not held.nesting.open}
        cut = len(whole) < len(self._calls)
        if cut and self._cut_is_error:
            return [*out, _error(_CUT)]
        self._calls = whole
        out += self._release()
        bad = [held for held in self._calls.values() if held.spoilt or not held.released]
        if bad:
            return [*out, _error(_bad_call(bad[0]))]
        reason = self._reason(stop.stop_reason, cut=cut)
        if reason is None:
            return [*out, _error(_no_end(stop))]
        return [
            *out,
            *self._counts(),
            StreamStop(stop_reason=reason, raw_stop_reason=stop.raw_stop_reason),
        ]

    def _reason(self, said: StopReason, *, cut: bool) -> StopReason | None:
        """Return why the reply ended: its content goes first. None when nobody knows."""
        if cut:
            return "max_tokens"
        if self._released and said in ("end_turn", "stop_sequence", "max_tokens", "unknown"):
            return "tool_use"
        lost = said == "tool_use" and not self._released
        return None if lost or said == "unknown" else said

    def _held_text(self) -> list[StreamEvent]:
        """Return the text that was held back: as calls when it is nothing else."""
        text, self._text = "".join(self._text or ()), None
        calls = () if self._calls else recovered_calls(text, self._request.tools)
        if not calls:
            return [TextDelta(text=text)] if text else []
        if self._refuses:
            self.refused = True
            return []
        self.recovered = len(calls)
        out: list[StreamEvent] = []
        for number, call in enumerate(calls):
            call_id = f"recovered_{len(self._request.messages)}_{number}"
            out += self._call(call_id, call.name, call.raw_arguments)
        return out

    def _counts(self) -> list[StreamEvent]:
        """Return estimates, marked as such, of what the upstream did not count (R15)."""
        sent, said = self._usage.input_tokens, self._usage.output_tokens
        if sent is not None and said is not None:
            return []
        guess = Usage(
            input_tokens=self._estimate() if sent is None else sent,
            output_tokens=estimated_tokens(self._said) if said is None else said,
            estimated=True,
        )
        return [StreamUsage(usage=guess)]


def _bad_call(held: _Held) -> str:
    name = one_line(held.name, 80) or "a tool without a name"
    shown = one_line(held.raw, 120)
    return f"the model called {name} with arguments that are no JSON object: {shown}"


def _no_end(stop: StreamStop) -> str:
    if stop.stop_reason == "tool_use":
        return "the server says that the model called a tool, and sent no call"
    if stop.raw_stop_reason is None:
        return "the server did not say why the reply ended, so it may be incomplete"
    said = one_line(stop.raw_stop_reason, 80)
    return f"the reply ended for a reason that is not defined ({said}), so it may be incomplete"


def _error(message: str) -> StreamError:
    return StreamError(error=WireError(kind="server_error", message=message))

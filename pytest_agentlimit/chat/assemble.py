"""Neutral events to one reply, and one reply to neutral events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from pytest_agentlimit.chat.leaks import find_leaked_calls
from pytest_agentlimit.chat.messages import (
    Block,
    ChatReply,
    Finding,
    ServerTimings,
    StopReason,
    StreamError,
    StreamEvent,
    StreamFinding,
    StreamStart,
    StreamStop,
    StreamUsage,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    Timing,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    WireError,
)

_LOOSE_PIECES = 64
"""A piece of a few characters takes ten times their memory: so many are kept before they join."""


@dataclass
class _Part:
    kind: Literal["text", "thinking", "tool_call"]
    id: str = ""
    name: str = ""
    signature: str | None = None
    pieces: list[str] = field(default_factory=list)

    def add(self, piece: str) -> None:
        self.pieces.append(piece)
        if len(self.pieces) >= _LOOSE_PIECES:
            self.pieces = ["".join(self.pieces)]

    def block(self) -> Block:
        text = "".join(self.pieces)
        if self.kind == "text":
            return TextBlock(text=text)
        if self.kind == "thinking":
            return ThinkingBlock(text=text, signature=self.signature)
        return ToolCall(id=self.id, name=self.name, raw_arguments=text)


class ReplyAssembler:
    """Builds one reply from its events: blocks in order of first appearance, adjacent text merged.

    `error` is the error object of the stream, None when there was none; nothing is raised here.
    """

    def __init__(self) -> None:
        self.error: WireError | None = None
        self._parts: list[_Part] = []
        self._calls: dict[int, _Part] = {}
        self._findings: dict[str, Finding] = {}
        self._start = StreamStart()
        self._stop: StreamStop | None = None
        self._usage = Usage()
        self._server: ServerTimings | None = None

    def add(self, event: StreamEvent) -> None:
        """Take the next event."""
        match event:
            case TextDelta(text=text):
                self._text(text)
            case ThinkingDelta(text=text, signature=signature):
                self._thinking(text, signature)
            case ToolCallStart(index=index, id=call_id, name=name):
                self._calls[index] = _Part("tool_call", id=call_id, name=name)
                self._parts.append(self._calls[index])
            case ToolCallDelta(index=index, fragment=fragment):
                if index in self._calls:
                    self._calls[index].add(fragment)
            case StreamUsage(usage=usage, server=server):
                self._count(usage, server)
            case StreamFinding(finding=finding):
                self._findings.setdefault(finding.code, finding)
            case StreamStart():
                self._start = event
            case StreamStop():
                self._stop = event
            case StreamError(error=error):
                self.error = error

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was odd so far, one of each code."""
        return tuple(self._findings.values())

    def reply(self, tools: Iterable[Tool] = ()) -> ChatReply:
        """Return the reply so far; calls to `tools` written as text are in `leaked_calls`."""
        stop: StopReason = self._stop.stop_reason if self._stop else "unknown"
        reply = ChatReply(
            blocks=tuple(part.block() for part in self._parts),
            stop_reason=stop,
            raw_stop_reason=self._stop.raw_stop_reason if self._stop else None,
            model=self._start.model,
            id=self._start.id,
            usage=self._usage,
            timing=Timing(server=self._server),
            findings=self.findings,
        )
        return finish(reply, tools)

    def _text(self, text: str) -> None:
        if not text:
            return
        if not self._parts or self._parts[-1].kind != "text":
            self._parts.append(_Part("text"))
        self._parts[-1].add(text)

    def _thinking(self, text: str, signature: str | None) -> None:
        if not text and not signature:
            return
        last = self._parts[-1] if self._parts else None
        if last is None or last.kind != "thinking" or last.signature:
            last = _Part("thinking")
            self._parts.append(last)
        last.add(text)
        last.signature = signature or None

    def _count(self, usage: Usage | None, server: ServerTimings | None) -> None:
        if usage is not None:
            given = {name: value for name, value in usage if value is not None}
            self._usage = self._usage.model_copy(update=given)
        if server is not None:
            given = {name: value for name, value in server if value is not None}
            self._server = (self._server or ServerTimings()).model_copy(update=given)


def finish(reply: ChatReply, tools: Iterable[Tool]) -> ChatReply:
    """Return `reply` with the calls it wrote as text, in its text first, then in its reasoning."""
    offered = tuple(tools)
    leaked = find_leaked_calls(reply.text, offered) + find_leaked_calls(reply.thinking, offered)
    if not leaked:
        return reply
    numbered = tuple(
        call.model_copy(update={"id": f"leaked_{number}"}) for number, call in enumerate(leaked)
    )
    return reply.model_copy(update={"leaked_calls": numbered})


def reply_events(reply: ChatReply) -> Iterator[StreamEvent]:
    """Yield the events that assemble to `reply`; leaked calls, being text, are not among them.

    A reply that was cut has no stop event, as in the stream it came from.
    """
    yield StreamStart(id=reply.id, model=reply.model)
    yield from _block_events(reply.blocks)
    for finding in reply.findings:
        yield StreamFinding(finding=finding)
    if reply.usage != Usage():
        yield StreamUsage(usage=reply.usage)
    if reply.timing.server is not None:
        yield StreamUsage(server=reply.timing.server)
    if not any(finding.code == "cut_stream" for finding in reply.findings):
        yield StreamStop(stop_reason=reply.stop_reason, raw_stop_reason=reply.raw_stop_reason)


def _block_events(blocks: tuple[Block, ...]) -> Iterator[StreamEvent]:
    index = 0
    for block in blocks:
        if isinstance(block, TextBlock):
            yield TextDelta(text=block.text)
        elif isinstance(block, ThinkingBlock):
            yield ThinkingDelta(text=block.text)
            if block.signature:
                yield ThinkingDelta(signature=block.signature)
        elif isinstance(block, ToolCall):
            yield ToolCallStart(index=index, id=block.id, name=block.name)
            yield ToolCallDelta(index=index, fragment=block.raw_arguments)
            index += 1

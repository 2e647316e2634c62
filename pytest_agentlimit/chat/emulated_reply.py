"""What a model that was offered tools in its prompt replied: calls, an answer, or neither.

Strict: the text is one JSON object of the form that emulation.py asks for, or it stays text. White
space, and one code fence around all of it, are tolerated. Nothing else ever becomes a call.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, NamedTuple

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.assemble import ReplyAssembler, reply_events
from pytest_agentlimit.chat.emulation import emulates
from pytest_agentlimit.chat.findings import found
from pytest_agentlimit.chat.jsonstring import JsonString
from pytest_agentlimit.chat.messages import (
    ChatReply,
    ChatRequest,
    Finding,
    StreamEvent,
    StreamFinding,
    StreamStop,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
)
from pytest_agentlimit.text import one_line

FENCE = "emulated_fence"
UNPARSED = "emulation_unparsed"
_HEAD = 200
"""Characters within which a reply has to show what it is going to be."""
_LONGEST = 1_000_000
"""Characters of text that are held back; a longer one is no reply of the form."""
_SPACE = " \t\r\n"
_SPACES = re.compile(r"[ \t\r\n]+")
_ANSWER = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"answer"[ \t\r\n]*:[ \t\r\n]*"')
_BEGINNINGS = ('{"answer":"', "```")
_FENCED = re.compile(r"[ \t\r\n]*```[A-Za-z]{0,12}[ \t\r]*\n(.*)\n[ \t]*```[ \t\r\n]*", re.DOTALL)
_FENCE_FOUND = Finding(code=FENCE, detail="a code fence stood around the reply", blame="model")
_ENDS = ("end_turn", "stop_sequence", "tool_use")


class EmulatedReply:
    """Makes calls and answers of the events of one reply; `request` is the one with the tools.

    The string of an answer passes piece by piece as it comes, since that is what a person waits
    for. If the object around it turns out to be none, what has passed stays passed, the rest
    follows as it is, and the finding says so: it costs stray characters in a text, never a call.
    Calls wait for the end. Any split of the text gives the same reply.
    """

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._names = {tool.name for tool in request.tools}
        self._state: Literal["begin", "hold", "answer", "close", "plain"] = "plain"
        if emulates(request):
            self._state = "begin"
        self._held: list[str] = []
        self._size = 0
        self._string = JsonString()
        self._closed = False
        self._native = False
        self.calls = 0
        """Calls that came out."""

    def feed(self, event: StreamEvent) -> list[StreamEvent]:
        """Return what `event` is without the emulation."""
        match event:
            case TextDelta(text=text):
                return self._text(text)
            case ToolCallStart():
                self._native = True
            case StreamStop(stop_reason=reason, raw_stop_reason=raw):
                complete = reason in _ENDS or (reason == "unknown" and raw is not None)
                out = self._end(complete=complete)
                if self.calls:
                    event = event.model_copy(update={"stop_reason": "tool_use"})
                return [*out, event]
        return [event]

    def close(self) -> list[StreamEvent]:
        """Return what was held back of a reply that has no end; nothing after a StreamStop."""
        return self._end(complete=False)

    def _text(self, text: str) -> list[StreamEvent]:
        match self._state:
            case "begin":
                return self._begin(text)
            case "hold":
                return self._hold(text)
            case "answer":
                return self._answer(text)
            case "close":
                return self._close(text)
        return _said(text)

    def _begin(self, text: str) -> list[StreamEvent]:
        """Decide by the head of the text alone, so that its pieces do not matter."""
        held = "".join([*self._held, text])
        head = held[:_HEAD]
        answer = _ANSWER.match(head) if self._request.json_schema is None else None
        if answer:
            self._state, self._held = "answer", []
            return self._answer(held[answer.end() :])
        squeezed = _SPACES.sub("", head)
        if len(held) < _HEAD and any(one.startswith(squeezed) for one in _BEGINNINGS):
            self._held = [held]
            return []
        self._held = []
        if head.lstrip(_SPACE).startswith(("{", "```")):
            self._state = "hold"
            return self._hold(held)
        return self._unparsed(held, "the reply is text and no JSON object")

    def _hold(self, text: str) -> list[StreamEvent]:
        self._held.append(text)
        self._size += len(text)
        if self._size > _LONGEST:
            return self._unparsed("".join(self._held), "the reply is too long to be one object")
        return []

    def _answer(self, text: str) -> list[StreamEvent]:
        out = _said(self._string.feed(text))
        if self._string.state == "closed":
            self._state = "close"
            return [*out, *self._close(self._string.rest)]
        if self._string.state == "broken":
            rest = self._string.rest
            return [*out, *self._unparsed(rest, "the answer breaks the rules of a JSON string")]
        return out

    def _close(self, text: str) -> list[StreamEvent]:
        """Read what follows the string of an answer: one brace."""
        self._held.append(text)
        mark = text.strip(_SPACE)
        if mark == "}" and not self._closed:
            self._closed = True
        elif mark:
            rest = '"' + "".join(self._held)
            return self._unparsed(rest, "there is more than the answer, which had passed already")
        return []

    def _end(self, *, complete: bool) -> list[StreamEvent]:
        state, self._state = self._state, "plain"
        if state in ("begin", "hold"):
            text, self._held = "".join(self._held), []
            return self._resolved(text, complete=complete)
        if state == "close" and self._closed:
            return [_note(found("lone_surrogate"))] if self._string.lone else []
        if state in ("answer", "close"):
            return self._unparsed(self._string.pending, "the answer breaks off")
        return []

    def _resolved(self, text: str, *, complete: bool) -> list[StreamEvent]:
        if not text.strip():
            return _said(text)
        try:
            read = self._read(text)
        except ValueError as error:
            return self._unparsed(text, str(error))
        if read.calls and (self._native or not complete):
            return self._unparsed(text, "the reply does not end where its calls do")
        self.calls = len(read.calls)
        out = [_note(finding) for finding in read.findings]
        if read.answer is not None:
            return [*out, *_said(read.answer)]
        for index, call in enumerate(read.calls):
            out.append(ToolCallStart(index=index, id=call.id, name=call.name))
            out.append(ToolCallDelta(index=index, fragment=call.raw_arguments))
        return out

    def _read(self, text: str) -> _Read:
        """Return what the whole text says; ValueError, with the reason, when it has another form.

        The texts of those errors are ours or Python's: none quotes what the model wrote.
        """
        fenced = _FENCED.fullmatch(text)
        value, lone = _one_object(fenced[1] if fenced else text)
        findings = [_FENCE_FOUND] if fenced else []
        findings += [found("lone_surrogate")] if lone else []
        if set(value) == {"tool_calls"}:
            return _Read(self._calls(value["tool_calls"]), None, findings)
        if set(value) != {"answer"}:
            raise ValueError("the object holds something else than tool_calls or answer")
        answer = value["answer"]
        if self._request.json_schema is not None:
            return _Read((), jsontext.dumps(answer), findings)
        if not isinstance(answer, str):
            raise ValueError("the answer is no string")
        return _Read((), answer, findings)

    def _calls(self, entries: Any) -> tuple[ToolCall, ...]:
        if not isinstance(entries, list) or not entries:
            raise ValueError("tool_calls is no list of calls")
        if self._request.parallel_tool_calls is False and len(entries) > 1:
            raise ValueError("there are several calls where one was allowed")
        return tuple(self._call(number, entry) for number, entry in enumerate(entries))

    def _call(self, number: int, entry: Any) -> ToolCall:
        if not isinstance(entry, dict) or set(entry) != {"name", "arguments"}:
            raise ValueError("a call is not just a name and arguments")
        name, arguments = entry["name"], entry["arguments"]
        if not isinstance(name, str) or name not in self._names:
            raise ValueError("a call names no tool that was offered")
        if not isinstance(arguments, dict):
            raise ValueError("the arguments of a call are no object")
        # The same when asked again, and like no other id of the conversation.
        call_id = f"emulated_{len(self._request.messages)}_{number}"
        call = ToolCall(id=call_id, name=name, raw_arguments=jsontext.dumps(arguments))
        if call.parse_error:
            raise ValueError("the arguments of a call hold a number that is none")
        return call

    def _unparsed(self, text: str, why: str) -> list[StreamEvent]:
        self._state, self._held = "plain", []
        finding = Finding(code=UNPARSED, detail=one_line(why, 200), blame="model")
        return [_note(finding), *_said(text)]


class _Read(NamedTuple):
    calls: tuple[ToolCall, ...]
    answer: str | None
    findings: list[Finding]


def emulated_reply(request: ChatRequest, reply: ChatReply) -> ChatReply:
    """Return `reply` to the emulated form of `request`, with its calls and answers made out.

    What is measured and kept as evidence stays as it is. There are no `leaked_calls`: no server was
    asked to make out calls, so a call in a text of another form is the model's own fault.
    """
    emulation, assembler = EmulatedReply(request), ReplyAssembler()
    for event in reply_events(reply):
        for made in emulation.feed(event):
            assembler.add(made)
    for made in emulation.close():
        assembler.add(made)
    read = assembler.reply()
    changes: dict[str, Any] = {"blocks": read.blocks, "findings": read.findings}
    changes |= {"stop_reason": read.stop_reason, "leaked_calls": ()}
    return reply.model_copy(update=changes)


def _said(text: str) -> list[StreamEvent]:
    return [TextDelta(text=text)] if text else []


def _note(finding: Finding) -> StreamEvent:
    return StreamFinding(finding=finding)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key occurs twice, and it is open which of the two is meant")
    return values


def _no_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)


def _one_object(text: str) -> tuple[dict[str, Any], bool]:
    """Return the one JSON object that `text` is, and whether half a surrogate pair was in it."""
    try:
        value, lone = jsontext.scrub(_DECODER.decode(text.strip(_SPACE)))
    except json.JSONDecodeError as error:
        raise ValueError(f"the reply is no JSON: {error.msg} (character {error.pos})") from None
    except RecursionError:
        raise ValueError("the reply is JSON nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("the reply is JSON and no object")
    return value, lone

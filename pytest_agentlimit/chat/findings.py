"""Every deviation a codec tolerates, in one table: its stable code, who causes it, what it means.

Tolerance never turns a defect into a silent pass: what is repaired is also recorded (PROTOCOLS R2).
"""

from __future__ import annotations

from typing import Literal, get_args

from pytest_agentlimit.chat.messages import Finding
from pytest_agentlimit.errors import Blame
from pytest_agentlimit.text import one_line

FindingCode = Literal[
    "arguments_object",
    "arguments_string",
    "arguments_empty",
    "missing_call_id",
    "repeated_index",
    "interleaved_calls",
    "null_tool_calls",
    "empty_choices",
    "usage_missing",
    "missing_done",
    "missing_stop_reason",
    "unknown_stop_reason",
    "crlf",
    "sse_comment",
    "think_tags",
    "cut_stream",
    "truncated_arguments",
    "malformed_arguments",
    "stop_with_call",
    "tool_stop_without_call",
    "bad_frame",
    "bad_shape",
    "bad_grammar",
    "missing_event_line",
    "frame_too_large",
    "invalid_utf8",
    "lone_surrogate",
    "server_fault",
]

MEANING: dict[FindingCode, str] = {
    "arguments_object": "tool arguments came as an object where the dialect has a JSON string",
    "arguments_string": "tool arguments came as a string where the dialect has an object",
    "arguments_empty": "tool arguments were empty; read as {}",
    "missing_call_id": "a tool call had no id; one was invented",
    "repeated_index": "two tool calls shared one index; the second was read as a new call",
    "interleaved_calls": "the fragments of several tool calls were interleaved",
    "null_tool_calls": "tool_calls was null or an empty list instead of absent",
    "empty_choices": "a chunk without choices that was not the usage chunk",
    "usage_missing": "no token counts were sent",
    "missing_done": "the mark that ends a stream was not sent",
    "missing_stop_reason": "the server did not say why the reply ended",
    "unknown_stop_reason": "the reply ended for a reason the dialect does not define",
    "crlf": "lines ended in CR or CRLF",
    "sse_comment": "the stream held comment lines",
    "think_tags": "reasoning came as tags inside the text instead of a field of its own",
    "cut_stream": "the stream ended before the reply was complete",
    "truncated_arguments": "tool arguments break off in the middle",
    "malformed_arguments": "tool arguments are complete and not a JSON object",
    "stop_with_call": "the reply claims a plain end although it holds a tool call",
    "tool_stop_without_call": "the reply claims a tool call and holds none",
    "bad_frame": "a line or frame of the stream was not JSON of the dialect",
    "bad_shape": "a field had a type the dialect does not allow",
    "bad_grammar": "events came in an order the dialect does not allow",
    "missing_event_line": "frames had no event: line; official clients ignore such frames",
    "frame_too_large": "one frame outgrew the limit and was dropped",
    "invalid_utf8": "bytes that are not UTF-8 were replaced",
    "lone_surrogate": "half a surrogate pair in a string was replaced",
    "server_fault": "the reply shows a fault of the server that was known before the run",
}
"""What each code means, in words for a report."""

_BLAME: dict[str, Blame] = {"malformed_arguments": "model"}
SERVER_FAULT: FindingCode = "server_fault"
"""Unlike the others it may be anybody's fault but the model's; its detail says which."""
CODES: frozenset[str] = frozenset(get_args(FindingCode))


def found(code: FindingCode, detail: str = "") -> Finding:
    """Return the finding `code`; `detail` may be untrusted and is made printable, one line."""
    return Finding(
        code=code,
        detail=one_line(detail) if detail else MEANING[code],
        blame=_BLAME.get(code, "engine"),
    )

"""What `ChatReply.expect_…` does: judge a reply, and explain a failure to the person who acts.

A failure says what was expected, what came back, who is to blame, why the reply ended, what it
cost, what was odd about it, and how to repeat the request.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, NoReturn

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.findings import SERVER_FAULT
from pytest_agentlimit.chat.messages import ChatReply, ToolCall
from pytest_agentlimit.errors import Blame, ExpectationFailed, UsageProblem
from pytest_agentlimit.text import one_line, printable

_SHOWN = 300
_SHOWN_CALLS = 5


def tool_call(reply: ChatReply, name: str) -> ToolCall:
    """Return the one structured call of `reply`, named `name`, with arguments that parse.

    Raises ExpectationFailed otherwise, also for a reply that was cut short: its call may not be
    what the model meant.
    """
    expected = f"expected exactly one call of the tool {name!r}"
    calls = reply.tool_calls
    if reply.truncated:
        _fail(reply, f"{expected}, but the reply was cut short")
    if not calls and reply.leaked_calls:
        _fail(reply, f"{expected}, but it came as text")
    if not calls:
        _fail(reply, f"{expected}, but nothing was called")
    if len(calls) > 1:
        _fail(reply, f"{expected}, but there were {len(calls)} calls", blame="model")
    if calls[0].name != name:
        _fail(reply, f"{expected}, but another tool was called", blame="model")
    if calls[0].parse_error:
        why = one_line(calls[0].parse_error, _SHOWN)
        _fail(reply, f"{expected}, but its arguments cannot be read: {why}")
    return calls[0]


def no_tool_call(reply: ChatReply) -> None:
    """Raise ExpectationFailed when `reply` calls a tool, structured or as text."""
    if reply.tool_calls:
        _fail(reply, "expected no tool call, but a tool was called", blame="model")
    if reply.leaked_calls:
        # Whether the server parsed it or not, the model decided to call.
        _fail(reply, "expected no tool call, but one was written as text", blame="model")


def json_value(reply: ChatReply, schema: dict[str, Any]) -> Any:
    """Return the text of `reply` as strict JSON, valid under `schema`.

    Nothing is stripped but white space: a code fence or a sentence around the JSON fails. NaN,
    Infinity and repeated keys are no JSON. Raises UsageProblem when `schema` is no JSON schema.
    """
    _check_schema(schema)
    expected = "expected JSON that follows the schema"
    try:
        value = _strict_json(reply.text.strip())
    except (ValueError, RecursionError) as error:
        why = one_line(str(error), _SHOWN)
        _fail(reply, f"{expected}, but the text is not JSON: {why}", blame=_unless_excused(reply))
    violation = _violation(schema, value)
    if violation is not None:
        _fail(reply, f"{expected}, but {violation}", blame=_unless_excused(reply))
    return value


def _violation(schema: Any, value: Any) -> str | None:
    """Return the first violation in words, None when `value` follows `schema`."""
    # Imported here: it costs 50 ms and most runs never ask for JSON.
    from jsonschema.exceptions import best_match
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        # An empty registry: a reference to another document must not open a connection.
        error = best_match(kind(schema, registry=Registry()).iter_errors(value))
    except RecursionError:
        return "the value is nested too deeply to be checked"
    except (Unresolvable, re.error) as problem:
        raise _bad_schema(str(problem)) from None
    if error is None:
        return None
    return f"{one_line(error.message, _SHOWN)} (at {one_line(error.json_path)})"


def _check_schema(schema: Any) -> None:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    if not isinstance(schema, dict):
        raise _bad_schema(f"it is a {type(schema).__name__}, not a dict")
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        raise _bad_schema(f"{error.message} at {error.json_path}") from None


def _bad_schema(why: str) -> UsageProblem:
    return UsageProblem(
        f"the schema given to expect_json is no usable JSON schema: {one_line(why, _SHOWN)}. "
        "Correct the schema in the check"
    )


def _strict_json(text: str) -> Any:
    value, lone = jsontext.parse(text, strict=True)
    json.loads(text, object_pairs_hook=_no_repeats)
    if lone:
        raise ValueError("a string holds half a surrogate pair")
    return value


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} is repeated")
    return values


def _fail(reply: ChatReply, expected: str, *, blame: Blame | None = None) -> NoReturn:
    who, why = (blame, "") if blame else _blame(reply)
    lines = [expected, f"got: {_came_back(reply)}"]
    lines.append(f"blame: {who}" + (f" ({why})" if why else ""))
    lines.append(f"stop reason: {_stop(reply)}, {_tokens(reply)}")
    if reply.findings:
        found = "; ".join(f"{one.code}: {one_line(one.detail, 120)}" for one in reply.findings[:8])
        lines.append(f"findings: {found}")
    if reply.curl:
        lines.append(f"repeat it: {reply.curl}")
    raise ExpectationFailed("\n".join(lines), blame=who)


def _blame(reply: ChatReply) -> tuple[Blame, str]:
    if reply.truncated:
        return _blame_of_cut(reply)
    if reply.leaked_calls and not reply.tool_calls:
        return "engine", "the model decided right, the server did not parse it"
    if not reply.tool_calls and any(one.code == "tool_stop_without_call" for one in reply.findings):
        return "engine", "the server announced a call and sent none"
    known = next((one for one in reply.findings if one.code == SERVER_FAULT), None)
    if known is not None:
        return known.blame, one_line(known.detail, _SHOWN)
    return "model", ""


def _unless_excused(reply: ChatReply) -> Blame | None:
    """Return the model, None where the reply itself tells who else it may be."""
    excused = reply.truncated or any(one.code == SERVER_FAULT for one in reply.findings)
    return None if excused else "model"


def _blame_of_cut(reply: ChatReply) -> tuple[Blame, str]:
    if any(finding.code == "cut_stream" for finding in reply.findings):
        return "engine", "the stream ended before the reply did"
    if reply.stop_reason == "context_overflow":
        return "config", "the context window is full; raise it or send less"
    if reply.thinking and not reply.text:
        return "config", "thinking used up the token budget; raise max_tokens or turn thinking off"
    return "config", "the reply was cut short; raise max_tokens"


def _came_back(reply: ChatReply) -> str:
    calls = reply.tool_calls or reply.leaked_calls
    if calls:
        how = "" if reply.tool_calls else " written as text"
        shown = ", ".join(
            f"{one_line(call.name, 80)}({one_line(call.raw_arguments, 160)})"
            for call in calls[:_SHOWN_CALLS]
        )
        more = f" and {len(calls) - _SHOWN_CALLS} more" if len(calls) > _SHOWN_CALLS else ""
        return f"{len(calls)} call{'s' * (len(calls) > 1)}{how}: {shown}{more}"
    if reply.text.strip():
        return f"the text {printable(reply.text.strip(), _SHOWN)!r}"
    if reply.thinking.strip():
        return f"no text, only thinking: {printable(reply.thinking.strip(), _SHOWN)!r}"
    return "nothing: no text and no call"


def _stop(reply: ChatReply) -> str:
    if reply.raw_stop_reason is None or reply.raw_stop_reason == reply.stop_reason:
        return reply.stop_reason
    return f"{reply.stop_reason} (sent as {one_line(reply.raw_stop_reason, 60)!r})"


def _tokens(reply: ChatReply) -> str:
    usage = reply.usage
    if usage.input_tokens is None and usage.output_tokens is None:
        return "token counts not reported"
    counts = (("in", usage.input_tokens), ("out", usage.output_tokens))
    known = " and ".join(
        f"{'?' if count is None else count} tokens {where}" for where, count in counts
    )
    return (
        known if usage.reasoning_tokens is None else f"{known} ({usage.reasoning_tokens} thinking)"
    )

"""One tool call carried out: what the model got wrong becomes an error result it can act on."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pytest_agentlimit.chat.messages import Tool, ToolCall, ToolResult
from pytest_agentlimit.errors import AgentLimitError, EndpointError, ToolProblem, UsageProblem
from pytest_agentlimit.text import printable

RESULT_LIMIT = 20_000
"""Characters of one tool result that reach the model."""


def carry_out(call: ToolCall, tools: tuple[Tool, ...], unavailable: frozenset[str]) -> ToolResult:
    """Return the result of one structured call; whatever the model got wrong is an error result.

    `unavailable` are the names of tools that are offered and cannot be run. An EndpointError
    passes through: it is nothing the model could act on.
    """
    try:
        content = as_text(call.name, _run(call, tools, unavailable))
    except ToolProblem as problem:
        return _result(call, str(problem), is_error=True)
    return _result(call, content, is_error=False)


def _result(call: ToolCall, content: str, *, is_error: bool) -> ToolResult:
    return ToolResult(call_id=call.id, name=call.name, content=bounded(content), is_error=is_error)


def _run(call: ToolCall, tools: tuple[Tool, ...], unavailable: frozenset[str]) -> Any:
    wanted = next((item for item in tools if item.name == call.name), None)
    if wanted is None:
        if call.name in unavailable:
            raise ToolProblem(f"{call.name} is not available in this session")
        names = ", ".join(item.name for item in tools) or "none"
        raise ToolProblem(f"no such tool: {printable(call.name, 80)}; the tools are: {names}")
    if call.parse_error:
        raise ToolProblem(f"{printable(call.parse_error, 400)}; send one JSON object")
    arguments = dict(call.arguments)
    violation = _violation(wanted, arguments)
    if violation:
        raise ToolProblem(f"the arguments do not fit the schema of {wanted.name}: {violation}")
    try:
        return wanted(**arguments)
    except EndpointError:
        raise
    except AgentLimitError as error:
        raise ToolProblem(printable(str(error))) from error
    except Exception as error:
        raise ToolProblem(f"{type(error).__name__}: {_told(error)}") from error


def _violation(wanted: Tool, arguments: dict[str, Any]) -> str | None:
    """Return the first thing wrong with `arguments`, or None."""
    import jsonschema

    kind = jsonschema.validators.validator_for(
        wanted.parameters, default=jsonschema.Draft202012Validator
    )
    try:
        kind.check_schema(wanted.parameters)
    except jsonschema.SchemaError as error:
        raise UsageProblem(
            f"the parameters of tool {wanted.name!r} are no JSON schema: {error.message}"
        ) from error
    worst = jsonschema.exceptions.best_match(kind(wanted.parameters).iter_errors(arguments))
    return printable(f"{worst.message} (at {worst.json_path})", 400) if worst else None


def _told(error: Exception) -> str:
    """Return what an unexpected exception says, without the paths of this machine."""
    if isinstance(error, OSError) and error.strerror:
        name = f": {Path(os.fsdecode(error.filename)).name}" if error.filename else ""
        return printable(error.strerror + name)
    places = {str(Path.home()), str(Path.cwd()), tempfile.gettempdir(), sys.prefix, sys.base_prefix}
    known = "|".join(re.escape(place) for place in places if place != "/")
    return printable(re.sub(rf"(?:{known})[^\s'\":,]*", _last_part, str(error)))


def _last_part(path: re.Match[str]) -> str:
    return "…/" + path.group().rstrip("/").rpartition("/")[2]


def as_text(name: str, value: Any) -> str:
    """Return what tool `name` gave back as text: strings as they are, anything else as JSON.

    TypeError when it is nothing JSON can hold: a defect of the tool, not of the model.
    """
    if not isinstance(value, str):
        try:
            plain_value = TypeAdapter(Any).dump_python(value, mode="json", warnings=False)
            value = json.dumps(plain_value, ensure_ascii=False)
        except (ValueError, RecursionError) as error:
            raise TypeError(
                f"tool {name!r} returned {type(value).__name__}, which is not JSON: {error}"
            ) from error
    return str(value).encode("utf-8", "replace").decode("utf-8")


def bounded(text: str) -> str:
    """Return `text`, or its beginning and a note when it is too long for a model."""
    if len(text) <= RESULT_LIMIT:
        return text
    note = f"\n[cut: {len(text)} characters in all; ask for a smaller part]"
    return text[: RESULT_LIMIT - len(note)] + note

"""One tool call carried out: what the model got wrong becomes an error result it can act on."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pytest_agentlimit.chat.messages import Tool, ToolCall, ToolResult
from pytest_agentlimit.errors import AgentLimitError, EndpointError, ToolProblem, UsageProblem
from pytest_agentlimit.text import printable

RESULT_LIMIT = 20_000
"""Characters of one tool result that reach the model."""


def carry_out(
    call: ToolCall,
    tools: tuple[Tool, ...],
    unavailable: frozenset[str],
    raised: list[tuple[str, str]] | None = None,
    limit: int = RESULT_LIMIT,
) -> ToolResult:
    """Return the result of one structured call; whatever the model got wrong is an error result.

    `unavailable` are the names of tools that are offered and cannot be run. `raised` takes the name
    of a tool that raised something unexpected, and what. A result longer than `limit` characters is
    cut. An EndpointError passes through: it is nothing the model could act on.
    """
    try:
        content = as_text(call.name, _run(call, tools, unavailable))
    except ToolProblem as problem:
        cause = problem.__cause__
        if raised is not None and cause is not None and not isinstance(cause, AgentLimitError):
            raised.append((call.name, f"{type(cause).__name__}: {cause}"))
        return _result(call, bounded(str(problem), limit), is_error=True)
    return _result(call, bounded(content, limit), is_error=False)


def _result(call: ToolCall, content: str, *, is_error: bool) -> ToolResult:
    return ToolResult(call_id=call.id, name=call.name, content=content, is_error=is_error)


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
    violation = schema_violation(wanted, arguments)
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


def schema_violation(wanted: Tool, arguments: dict[str, Any]) -> str | None:
    """Return the first thing wrong with `arguments`, or None."""
    import jsonschema

    try:
        validator = _validator(json.dumps(wanted.parameters))
    except jsonschema.SchemaError as error:
        raise UsageProblem(
            f"the parameters of tool {wanted.name!r} are no JSON schema: {error.message}"
        ) from error
    worst = jsonschema.exceptions.best_match(validator.iter_errors(arguments))
    return printable(f"{worst.message} (at {worst.json_path})", 400) if worst else None


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    """Return the validator of a schema, which costs milliseconds to check: once per schema."""
    import jsonschema

    parameters = json.loads(schema)
    kind = jsonschema.validators.validator_for(parameters, default=jsonschema.Draft202012Validator)
    kind.check_schema(parameters)
    return kind(parameters)


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


def bounded(text: str, limit: int = RESULT_LIMIT) -> str:
    """Return `text`, or its beginning and a note when it is too long for a model."""
    if len(text) <= limit:
        return text
    note = f"\n[cut: {len(text)} characters in all; ask for a smaller part]"
    return text[: max(0, limit - len(note))] + note

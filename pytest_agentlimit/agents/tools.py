"""Tools: from a typed Python function to something a model can call."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError, validate_call
from pydantic.errors import PydanticUserError

from pytest_agentlimit.chat.messages import Tool
from pytest_agentlimit.errors import ToolProblem
from pytest_agentlimit.text import one_line, printable

from .schemas import plain

_ARGUMENT_LINE = re.compile(r"^\s*\*{0,2}(\w+)(?:\s*\([^)]*\))?\s*:\s+(\S.*)$")


def tool(function: Callable[..., Any]) -> Tool:
    """Return a Tool made from a typed function: name, docstring and JSON schema are taken from it.

    The first paragraph of the docstring describes the tool; lines `name: text` below it (or below
    `Args:`) describe its parameters. Arguments are validated and converted before the call: a
    parameter typed `date` receives a date. TypeError when a parameter has no type.
    """
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise TypeError(f"@tool takes a function, not {type(function).__name__}")
    name = function.__name__
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"@tool cannot run the coroutine {name}: write `def`, not `async def`")
    _check_parameters(function)
    try:
        checked = _checked(function, sys._getframe(1).f_locals)
        adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, checked))
        schema = plain(adapter.json_schema())
    except PydanticUserError as error:
        reason = one_line(error.message.partition(". ")[0])
        raise TypeError(f"tool {name}: a parameter has no JSON schema: {reason}") from error
    description, documented = _read_docstring(function)
    for parameter, text in documented.items():
        schema.get("properties", {}).get(parameter, {}).setdefault("description", text)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(function).bind_partial(*args)
        try:
            call = checked(**bound.arguments, **kwargs)
        except ValidationError as error:
            raise ToolProblem(f"the arguments do not fit: {_reasons(error)}") from None
        return call()

    return Tool(name, description, schema, function=run)


def _check_parameters(function: Callable[..., Any]) -> None:
    for parameter in inspect.signature(function).parameters.values():
        where = f"tool {function.__name__}: parameter {parameter.name!r}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{where} takes any number of values; a tool names each of them")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(f"{where} is positional-only, and models pass arguments by name")
        if parameter.annotation is parameter.empty:
            raise TypeError(f"{where} has no type; write `{parameter.name}: str`, for example")


def _checked(
    function: Callable[..., Any], names: dict[str, Any]
) -> Callable[..., Callable[[], Any]]:
    """Return a function that validates the arguments and returns the call, ready to be made.

    Making the call apart from the validation keeps a ValidationError of the tool's own apart from
    one about its arguments. `names` are those of the place where the tool is defined.
    """
    hints = get_type_hints(function, localns=names, include_extras=True)
    hints.pop("return", None)

    @functools.wraps(function)
    def prepare(*args: Any, **kwargs: Any) -> Callable[[], Any]:
        return functools.partial(function, *args, **kwargs)

    prepare.__annotations__ = hints
    return validate_call(prepare)


def _reasons(error: ValidationError) -> str:
    reasons = [
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False)
    ]
    return printable("; ".join(reasons[:5]), 600)


def _read_docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the first paragraph, and the text of each parameter that has one."""
    lines = (inspect.getdoc(function) or "").splitlines()
    end = next((number for number, line in enumerate(lines) if not line.strip()), len(lines))
    parameters = inspect.signature(function).parameters
    documented: dict[str, str] = {}
    name, depth = "", 0
    for line in lines[end:]:
        indent = len(line) - len(line.lstrip())
        match = _ARGUMENT_LINE.match(line)
        if match and match[1] in parameters:
            name, depth = match[1], indent
            documented[name] = match[2].strip()
        elif name and line.strip() and indent > depth:
            documented[name] += " " + line.strip()
        else:
            name = ""
    return " ".join(line.strip() for line in lines[:end]), documented


def as_tools(tools: Iterable[Tool]) -> tuple[Tool, ...]:
    """Return `tools` as a tuple; TypeError for anything else, ValueError for twins."""
    if isinstance(tools, Tool) or callable(tools):
        raise TypeError(f"tools takes a list: write tools=[{_name_of(tools)}]")
    result = tuple(tools)
    for item in result:
        if not isinstance(item, Tool):
            raise TypeError(
                f"{_name_of(item)} is no tool: put @tool above the function, or write "
                "Tool(name, description, parameters, function=…)"
            )
    names = [item.name for item in result]
    if len(set(names)) < len(names):
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two tools are named {twin!r}; a model could not tell them apart")
    return result


def _name_of(value: object) -> str:
    return str(getattr(value, "name", None) or getattr(value, "__name__", None) or repr(value))

"""What a scripted model sees of a request: the task, and what its calls have brought so far."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from pytest_agentlimit.chat.messages import ChatRequest, ToolCall, ToolResult

_HEADING = re.compile(r"Task [a-z]+-([a-z_]+)-(\d+)\.")


class Heading(NamedTuple):
    """Which ladder a task is of, and its level."""

    ladder: str
    level: int


def heading(request: ChatRequest) -> Heading | None:
    """Return what the first words of the prompt tell, or None when it is no task of a ladder."""
    found = _HEADING.match(prompt(request))
    return Heading(found[1], int(found[2])) if found else None


def prompt(request: ChatRequest) -> str:
    """Return the first user text."""
    return next((message.text for message in request.messages if message.role == "user"), "")


def results(request: ChatRequest) -> list[ToolResult]:
    """Return the results of all calls so far, in order."""
    return [
        block
        for message in request.messages
        for block in message.blocks
        if isinstance(block, ToolResult)
    ]


def held(result: ToolResult) -> dict[str, Any]:
    """Return the object a result holds; empty for an error, which not every dialect marks."""
    try:
        value = json.loads(result.content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def calls_made(request: ChatRequest) -> list[ToolCall]:
    """Return all calls so far, in order."""
    return [
        block
        for message in request.messages
        for block in message.blocks
        if isinstance(block, ToolCall)
    ]


def read(pattern: str, text: str) -> str:
    """Return what the first group of `pattern` holds in `text`."""
    found = re.search(pattern, text)
    assert found is not None, f"the oracle does not know this wording: {text!r}"
    return found[1]

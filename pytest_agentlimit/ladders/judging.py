"""What several families judge alike: the calls of a run, equal values, levels there can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.chat.messages import ToolCall
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

_DEEPEST = 40


def run_calls(transcript: Transcript) -> list[ToolCall]:
    """Return the calls that got a result, in order; those of a reply cut short did not."""
    return [
        call
        for step in transcript.steps
        for call, _ in zip(step.reply.tool_calls, step.results, strict=False)
    ]


def same_call(call: ToolCall, name: str, arguments: Mapping[str, Any]) -> bool:
    """Return whether `call` is this one; case and white space of strings do not matter."""
    return call.name == name and folded(call.arguments) == folded(arguments)


def shown_call(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a call on one line, for people."""
    inside = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return one_line(f"{name}({inside})", 160)


def folded(value: Any, depth: int = 0) -> Any:
    """Return `value` with its strings lower-cased and their white space folded.

    What is nested deeper than any task asks for is cut off.
    """
    if depth > _DEEPEST:
        return None
    if isinstance(value, str):
        return " ".join(value.split()).casefold()
    if isinstance(value, Mapping):
        return {key: folded(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [folded(item, depth + 1) for item in value]
    return value


def check_levels(ladder: str, levels: tuple[int, ...], most: int) -> None:
    """Raise UsageProblem for levels that a family cannot make."""
    odd = [level for level in levels if not 1 <= level <= most]
    if odd:
        raise UsageProblem(
            f"the ladder {ladder} has levels from 1 to {most}, and {odd[0]} is none of them. "
            "Next: give it others"
        )

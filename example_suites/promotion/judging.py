"""How replies are judged: by what they hold, never by their wording.

Everything here is linear in what a model wrote, and prints none of it unbounded.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pytest_agentlimit import ChatReply, ToolCall
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.errors import Blame, ExpectationFailed, ToolProblem
from pytest_agentlimit.text import one_line

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)|\d+")
_DIGITS = 15
_EXCUSES = {"cut_stream", "tool_stop_without_call", "server_fault"}
"""Findings on a reply that make what is wrong with it somebody else's fault."""


def require(
    met: bool, judged: ChatReply | Transcript, wrong: str, *, blame: Blame | None = None
) -> None:
    """Return when `met`; else raise ExpectationFailed: `wrong`, what came, and whose fault it is.

    A reply that was cut short is the configuration's fault and a tool call that arrived as plain
    text the engine's, unless `blame` says whose it is in any case.
    """
    __tracebackhide__ = True
    if met:
        return
    replies = [s.reply for s in judged.steps] if isinstance(judged, Transcript) else [judged]
    reply, calls = replies[-1], [call for each in replies for call in each.tool_calls]
    who, why = (blame, "") if blame else _blame(replies)
    lines = [wrong, f"its last words: {one_line(reply.text, 400)!r}"]
    if calls:
        lines.append("its tool calls: " + "; ".join(_shown(call) for call in calls[:8]))
    lines.append(f"blame: {who}{why}")
    if reply.curl:
        lines.append(f"repeat the last request: {reply.curl}")
    raise ExpectationFailed("\n".join(lines), blame=who)


def _blame(replies: list[ChatReply]) -> tuple[Blame, str]:
    last = replies[-1]
    if last.leaked_calls and not last.tool_calls:
        return "engine", " (the model called a tool, and the server passed it on as plain text)"
    for finding in (finding for reply in replies for finding in reply.findings):
        if finding.code in _EXCUSES:
            return finding.blame, f" ({one_line(finding.detail)})"
    if last.truncated:
        return "config", " (the reply was cut short; allow more output tokens, or more context)"
    return "model", ""


def _shown(call: ToolCall) -> str:
    return f"{one_line(call.name, 60)} {one_line(call.raw_arguments, 120)}"


def words_of(text: str) -> list[str]:
    """Return the words of `text` in lower case, in order; `_word_` is the word in Markdown."""
    return re.findall(r"[^\W_]+", text.casefold())


def says(text: str, word: str) -> bool:
    """Return whether `word` stands in `text` as a whole word, in upper or lower case."""
    return word.casefold() in words_of(text)


def numbers_of(text: str) -> list[int]:
    """Return the whole numbers of `text`, in order; `1,927` is one number, 16 digits are none."""
    found = (number.replace(",", "") for number in _NUMBER.findall(text))
    return [int(number) for number in found if len(number) <= _DIGITS]


def last_number(text: str) -> int | None:
    """Return the last number of `text`, or None; the last, because people show their working."""
    return next(reversed(numbers_of(text)), None)


def attempted(run: Transcript) -> set[str]:
    """Return the names of the tools that the model called, also of a call in plain text."""
    return {call.name for call in (*run.calls, *run.steps[-1].reply.leaked_calls)}


def called(run: Transcript, tool: str, **arguments: str) -> bool:
    """Return whether `tool` was called with exactly these arguments."""
    return any(call.name == tool and dict(call.arguments) == arguments for call in run.calls)


def denials(run: Transcript, tool: str) -> int:
    """Return how often `tool` was denied, a call in plain text after the first denial included."""
    results = [result for step in run.steps for result in step.results]
    denied = sum(result.content.startswith("denied:") for result in results)
    leaked = sum(call.name == tool for call in run.steps[-1].reply.leaked_calls)
    return denied + leaked if denied else 0


def file_text(workspace: Workspace, path: str) -> str | None:
    """Return the text of a file, or None when there is none that can be read."""
    try:
        return workspace.read(path)
    except ToolProblem:
        return None


def json_file(workspace: Workspace, path: str, run: Transcript) -> Any:
    """Return the JSON of a file after a run; it is a failed check when there is none."""
    __tracebackhide__ = True
    text = file_text(workspace, path)
    require(text is not None, run, f"the model left no file {path} that can be read")
    try:
        return json.loads(text or "")
    except (ValueError, RecursionError):
        require(False, run, f"what the model left in {path} is no JSON")

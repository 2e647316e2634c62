"""The small tasks of a blackout: files in a folder, judged by what is there at the end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.chat.messages import Tool
from pytest_agentlimit.errors import ToolProblem

TOOLS = ("list_files", "read_file", "write_file")
LEAK = '<tool_call>{"name": "list_files", "arguments": {"path": "."}}</tool_call>'
"""What a server writes that loses the calls of its model: one to a tool that is offered."""
MOST_STEPS = 6
"""Replies a task may take; the longest needs three."""

_NUMBER = re.compile(r"(?<!\d)\d{1,15}(?!\d)")


@dataclass(frozen=True)
class FileTask:
    """A goal, the files it begins with, and what has to be there at the end."""

    name: str
    goal: str
    files: Mapping[str, str] = field(default_factory=dict)
    wanted: Mapping[str, str] = field(default_factory=dict)
    """Path to content; white space around it does not count."""
    answer: int | None = None
    """The last number of the last reply."""

    def lay_out(self, workspace: Workspace) -> None:
        """Put the files there that the task begins with."""
        for path, text in self.files.items():
            workspace.write(path, text)

    def wrong(self, workspace: Workspace, said: str) -> str:
        """Return what is wrong at the end, "" when the task is done; `said` is the last text."""
        for path, content in self.wanted.items():
            try:
                found = workspace.read(path)
            except ToolProblem:
                return f"there is no file {path} that can be read"
            if found.strip() != content:
                return f"{path} does not hold {content!r}"
        if self.answer is not None and _last_number(said) != self.answer:
            return f"the last number of the answer is not {self.answer}"
        return ""


def draw_tasks(rng: Random) -> tuple[FileTask, ...]:
    """Return the three tasks, in the order they are worked on; the numbers in them are random."""
    return _write_task(rng), _read_task(rng), copy_task(rng)


def _write_task(rng: Random) -> FileTask:
    path, text = _file(rng, "order"), f"order {_number(rng)} is ready"
    return FileTask(
        name="write a file",
        goal=f"Make a file {path} that holds exactly this text: {text}",
        wanted={path: text},
    )


def _read_task(rng: Random) -> FileTask:
    path, crates = _file(rng, "crates"), _number(rng)
    return FileTask(
        name="read a file",
        goal=f"How many crates are there? {path} says it. Answer with the number.",
        files={path: f"The store has {crates} crates.\n"},
        answer=crates,
    )


def copy_task(rng: Random) -> FileTask:
    """Return the task of two steps: a number is read from one file and written to another.

    Who does not read it guesses it once in 9,000 times.
    """
    source, target, number = _file(rng, "count"), _file(rng, "report"), _number(rng)
    return FileTask(
        name="read, then write",
        goal=f"Read the file {source}. It holds a number. Then make a file {target} that holds "
        "this number and nothing else.",
        files={source: f"{number}\n"},
        wanted={target: str(number)},
    )


def _file(rng: Random, stem: str) -> str:
    return f"{stem}-{rng.randint(10, 99)}.txt"


def _number(rng: Random) -> int:
    return rng.randint(1000, 9999)


def opening(rng: Random) -> str:
    """Return a system prompt that begins like no other, so that no prompt cache knows it."""
    return f"[{rng.getrandbits(40):010x}] You work in a folder of files. Use the tools you have."


def tools_of(workspace: Workspace) -> tuple[Tool, ...]:
    """Return the tools for the tasks: files are listed, read and written; there is no shell."""
    return tuple(tool for tool in workspace.tools if tool.name in TOOLS)


def _last_number(text: str) -> int | None:
    found = _NUMBER.findall(text.replace(",", ""))
    return int(found[-1]) if found else None

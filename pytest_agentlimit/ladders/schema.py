"""schema(d): make one call whose argument nests d deep (METHOD 6)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.chat.messages import Tool
from pytest_agentlimit.text import one_line

from .base import Attempt, FailureMode, early_end, failed, passed
from .judging import check_levels, folded, run_calls
from .material import heading, misuse, object_schema, words

_COLOURS = ("red", "green", "blue", "white", "black", "brown")
_MOST = 24
_STEPS = 6
"""One call and one answer take two; a call that violates the schema may be made again."""

Box = dict[str, Any]


@dataclass(frozen=True)
class SchemaTask:
    """Boxes in boxes, told in prose, and the argument that says the same."""

    prompt: str
    tools: tuple[Tool, ...]
    box: Box
    stored: list[Box] = field(default_factory=list)
    """What calls stored, in order; they fitted the schema."""


@dataclass(frozen=True)
class Schema:
    """Level d: d boxes, one inside the other, are the argument of one call.

    Each has a colour (an enum), sizes (an array) and perhaps a label, a field that must be absent
    when there is none. Passes when one box was stored and it is deeply equal to the one told; a
    call that violates the schema stores nothing and may be mended.

    Fails as no_tool_call, malformed_call (nothing was ever stored), wrong_tool, wrong_args,
    side_effect (stored again), loop, gave_up (cut short), refusal.

    Measures: stored, rejected (calls that stored nothing).
    """

    levels: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12)
    name: ClassVar[str] = "schema"
    unit: ClassVar[str] = "nestings"

    def __post_init__(self) -> None:
        check_levels(self.name, self.levels, _MOST)

    def task(self, level: int, rng: random.Random) -> SchemaTask:
        """Return `level` fresh boxes.

        A box with the likeliest values is right once in 6 x 90 x 89: colour, and two sizes.
        """
        start = heading(rng, self.name, level)
        boxes = _boxes(level, rng)
        told = "\n".join(_told(number, box) for number, box in enumerate(boxes, 1))
        nested = "; a box inside another one is its field inner" if level > 1 else ""
        prompt = (
            f"{start} Store this with store_box, in one call:\n{told}\n\n"
            f"Box 1 is the argument box{nested}. Keep the order of the sizes. Leave the field "
            "label out for a box without a label. When it is stored, reply with the word DONE."
        )
        stored: list[Box] = []
        return SchemaTask(prompt, (_tool(level, rng, stored),), _nested(boxes), stored)

    def judge(self, task: SchemaTask, transcript: Transcript) -> Attempt:
        """Return what came of `task`, by what was stored."""
        made = len(run_calls(transcript))
        measures: dict[str, float] = {
            "stored": len(task.stored),
            "rejected": made - len(task.stored),
        }
        right = [folded(box) == folded(task.box) for box in task.stored]
        if right == [True]:
            return passed(transcript, **measures)
        if ended := early_end(transcript, **measures):
            return ended
        mode, detail = _fault(task, transcript, right)
        return failed(mode, detail, transcript, **measures)

    def __call__(self, agent: Agent, level: int, rng: random.Random) -> Attempt:
        """Let `agent` do a fresh task of `level`."""
        task = self.task(level, rng)
        return self.judge(task, agent.run(task.prompt, tools=task.tools, max_steps=_STEPS))


def _fault(task: SchemaTask, transcript: Transcript, right: list[bool]) -> tuple[FailureMode, str]:
    """Return what was wrong with a task that was not done."""
    if right and right[0]:
        return "side_effect", f"{len(right)} boxes were stored, one was asked for"
    if right:
        return "wrong_args", _difference(task.box, task.stored[0], "box")
    for call in run_calls(transcript):
        if wrong := misuse(call, task.tools):
            return wrong
    return "no_tool_call", "no tool was called"


def _difference(wanted: Any, got: Any, path: str) -> str:
    """Return the first place where two values differ, "" when they are equal."""
    if isinstance(wanted, Mapping) and isinstance(got, Mapping):
        for key in (*wanted, *(key for key in got if key not in wanted)):
            if key not in got:
                return f"{path}.{key} is missing"
            if key not in wanted:
                return f"{path}.{key} is there and must not be"
            if found := _difference(wanted[key], got[key], f"{path}.{key}"):
                return found
        return ""
    same = folded(wanted) == folded(got)
    return "" if same else f"{path} is {one_line(repr(got), 80)}, not {wanted!r}"


def _boxes(level: int, rng: random.Random) -> list[Box]:
    """Return the boxes from the outside in, each by itself; at least one has no label."""
    unlabelled = rng.randrange(level)
    boxes = []
    for number, label in enumerate(words(rng, level)):
        sizes = rng.sample(range(10, 100), rng.choice((2, 3)))
        box: Box = {"colour": rng.choice(_COLOURS), "sizes": sizes}
        if number != unlabelled and rng.random() < 0.5:
            box["label"] = label
        boxes.append(box)
    return boxes


def _nested(boxes: list[Box]) -> Box:
    inside = {"inner": _nested(boxes[1:])} if boxes[1:] else {}
    return {**boxes[0], **inside}


def _told(number: int, box: Box) -> str:
    place = f"Inside box {number - 1} is box {number}." if number > 1 else "There is a box 1."
    *sizes, last = box["sizes"]
    listed = ", ".join(str(size) for size in sizes)
    label = f"Its label is {box['label']}." if "label" in box else "It has no label."
    return f"{place} Its colour is {box['colour']}. Its sizes are {listed} and {last}. {label}"


def _tool(level: int, rng: random.Random, stored: list[Box]) -> Tool:
    def store_box(box: Box) -> str:
        stored.append(box)
        return "stored"

    colours = rng.sample(_COLOURS, len(_COLOURS))
    schema = object_schema(box=_box_schema(level, colours))
    return Tool("store_box", "Store a box and what is in it.", schema, function=store_box)


def _box_schema(level: int, colours: list[str]) -> dict[str, Any]:
    """Return the schema of a box with exactly `level` - 1 boxes inside."""
    inner = {"inner": _box_schema(level - 1, colours)} if level > 1 else {}
    schema = object_schema(
        colour={"type": "string", "enum": colours},
        sizes={"type": "array", "items": {"type": "integer"}},
        **inner,
    )
    return {**schema, "properties": {**schema["properties"], "label": {"type": "string"}}}

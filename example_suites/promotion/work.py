"""The tasks that leave something behind: JSON for a program, and files in a workspace."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any

from pytest_agentlimit import Tool
from pytest_agentlimit.agents.workspace import Workspace

from .words import identifier, made_up_names, made_up_words

FILE_TOOLS = ("list_files", "read_file", "write_file", "edit_file")


def file_tools(workspace: Workspace) -> tuple[Tool, ...]:
    """Return the tools of `workspace` that read and write files; no shell is needed."""
    return tuple(tool for tool in workspace.tools if tool.name in FILE_TOOLS)


@dataclass(frozen=True)
class ShipmentTask:
    """A shipment in prose, the schema of its JSON form, and the values that form must have."""

    prompt: str
    schema: dict[str, Any]
    expected: dict[str, Any]


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_BOX = _object(label={"type": "string"}, kilos={"type": "integer"}, fragile={"type": "boolean"})
_SHIPMENT = _object(
    id={"type": "string"},
    to=_object(
        name={"type": "string"}, address=_object(town={"type": "string"}, zone={"type": "integer"})
    ),
    boxes={"type": "array", "items": _BOX},
    total_kilos={"type": "integer"},
    note={"type": ["string", "null"]},
)


def shipment_task(rng: Random) -> ShipmentTask:
    """Return a shipment of three boxes to be written as nested JSON, its weight added up."""
    shipment, (person, town) = identifier(rng, "ship"), made_up_names(rng, 2)
    zone, kilos = rng.randint(11, 99), rng.sample(range(101, 1000), 3)
    fragile, labels = rng.randrange(3), made_up_words(rng, 3)
    boxes = [
        {"label": label, "kilos": weight, "fragile": number == fragile}
        for number, (label, weight) in enumerate(zip(labels, kilos, strict=True))
    ]
    listed = ", ".join(
        f"{label} with {weight} kilos" for label, weight in zip(labels, kilos, strict=True)
    )
    prompt = (
        f"Shipment {shipment} goes to {person} in {town}, which is in zone {zone}. Its boxes: "
        f"{listed}. Only {labels[fragile]} is fragile. There is no note.\n\n"
        "Write it as one JSON object of this form: id (string); to (object: name (string), address "
        "(object: town (string), zone (integer))); boxes (array of objects in the order of the "
        "text: label (string), kilos (integer), fragile (boolean)); total_kilos (integer, all "
        "boxes together); note (string, or null when there is none). Reply with the JSON object "
        "only: no other text and no code fence."
    )
    expected = {
        "id": shipment,
        "to": {"name": person, "address": {"town": town, "zone": zone}},
        "boxes": boxes,
        "total_kilos": sum(kilos),
        "note": None,
    }
    return ShipmentTask(prompt, _SHIPMENT, expected)


@dataclass(frozen=True)
class FilesTask:
    """A goal, the files a workspace starts with, and what JSON files hold at the end."""

    goal: str
    files: dict[str, str]
    expected: dict[str, Any]
    untouched: tuple[str, ...]
    """Files whose content must be what it was."""

    def lay_out(self, workspace: Workspace) -> None:
        """Write the files into a workspace."""
        for path, text in self.files.items():
            workspace.write(path, text)


def report_task(rng: Random) -> FilesTask:
    """Return sales of three towns to be read, and two figures of one of them to be written down.

    The figures stand in no prompt: a total of four three-digit numbers, and the largest of them.
    """
    towns = made_up_names(rng, 3)
    sales = {town: rng.sample(range(101, 1000), 4) for town in towns}
    rows = [f"{town},{crates}" for town, sold in sales.items() for crates in sold]
    rng.shuffle(rows)
    town = rng.choice(towns)
    report = f"{identifier(rng, 'report')}.json"
    goal = (
        f"The file sales.csv has the crates sold in each town. Write the file {report}: a JSON "
        f'object with "crates", the number of all crates sold in {town}, and "largest", the '
        f"largest single sale in {town}. Leave sales.csv as it is."
    )
    expected = {report: {"crates": sum(sales[town]), "largest": max(sales[town])}}
    table = "\n".join(["town,crates", *rows]) + "\n"
    return FilesTask(goal, {"sales.csv": table}, expected, ("sales.csv",))


def rename_task(rng: Random) -> FilesTask:
    """Return a key to be renamed in two of three JSON files, where it also stands as a value.

    A longer key begins with the same word. Replacing text everywhere, or in the first file only,
    leaves another result.
    """
    old, new, service, host = made_up_words(rng, 4)
    limit, port = rng.randint(100, 999), rng.randint(2000, 9999)
    first = {service: {old: limit, f"{old}_mode": "fast"}, "title": old}
    second = {"host": host, "pools": [{old: port, "owner": old}, {"size": limit}]}
    spare = {old: port, "note": "kept for later"}
    files = {"app.json": first, "worker.json": second, "spare.json": spare}
    expected = {
        "app.json": {service: {new: limit, f"{old}_mode": "fast"}, "title": old},
        "worker.json": {"host": host, "pools": [{new: port, "owner": old}, {"size": limit}]},
    }
    goal = (
        f'Rename the key "{old}" to "{new}" in app.json and in worker.json, at any depth. Only '
        "keys that are exactly this word change: no values, no longer keys, and no other file."
    )
    texts = {path: json.dumps(value, indent=2) + "\n" for path, value in files.items()}
    return FilesTask(goal, texts, expected, ("spare.json",))


@dataclass(frozen=True)
class Sum:
    """A question and the one number that answers it."""

    prompt: str
    answer: int


def burst_task(rng: Random) -> list[Sum]:
    """Return five small sums with different results: all right by chance once in 100,000."""
    burst: dict[int, Sum] = {}
    while len(burst) < 5:
        left, right = rng.randint(2, 19), rng.randint(2, 19)
        prompt = f"What is {left} + {right}? Answer with the number only."
        burst.setdefault(left + right, Sum(prompt, left + right))
    return list(burst.values())

"""What can be compared: a run, a JSON report or a lock, as people name it, `#model` included."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.runs.journal import RunFolder
from pytest_agentlimit.runs.lock import parse_lock
from pytest_agentlimit.runs.sides import (
    Report,
    Side,
    sides_of_lock,
    sides_of_report,
    sides_of_run,
)
from pytest_agentlimit.runs.store import find_run
from pytest_agentlimit.text import one_line


class Source(NamedTuple):
    """Where measurements come from, and the models in it."""

    label: str
    """The id of a run, or a file as it was typed."""
    sides: list[Side]
    wanted: str
    """The model behind `#`, empty when none was chosen."""


def read_source(text: str, root: Path) -> Source:
    """Return the models of "latest", "RUN", "report.json", "agentlimit.lock.json#MODEL" …

    Files are looked for first, then runs of the project at `root`. Raises UsageProblem, one
    readable line, for what is not there or cannot be understood.
    """
    place, wanted = text, ""
    if not Path(text).exists():
        place, _, wanted = text.partition("#")
    path = Path(place).expanduser()
    if path.is_file():
        return Source(place, _sides_of_file(path), wanted)
    data = RunFolder.open(find_run(place, root)).load()
    return Source(data.manifest.run_id, sides_of_run(data), wanted)


def two_sides(one: Source, other: Source) -> tuple[Side, Side]:
    """Return the two models to compare: chosen with `#`, the only one, or of the same name.

    Models of one name get the label of their source behind it, so that sentences can tell them.
    Raises UsageProblem, with the names there are, when it is not clear which are meant.
    """
    a, b = _chosen(one, other), _chosen(other, one)
    if a.name != b.name:
        return a, b
    if one.label == other.label:
        raise UsageProblem(
            f"both sides are {one_line(a.name, 60)} of {one_line(one.label)}; name two runs, or "
            "two models of one: RUN#MODEL"
        )
    return replace(a, name=f"{a.name} ({one.label})"), replace(b, name=f"{b.name} ({other.label})")


def _chosen(source: Source, other: Source) -> Side:
    by_name = {side.name: side for side in source.sides}
    names = ", ".join(one_line(name, 60) for name in list(by_name)[:10]) or "no model"
    where = one_line(source.label)
    if source.wanted:
        if source.wanted in by_name:
            return by_name[source.wanted]
        raise UsageProblem(f"{where} holds no {one_line(source.wanted, 60)}; it has {names}")
    if len(by_name) == 1:
        return source.sides[0]
    theirs = [other.wanted] if other.wanted else [side.name for side in other.sides]
    if len(theirs) == 1 and theirs[0] in by_name and source.label != other.label:
        return by_name[theirs[0]]
    raise UsageProblem(f"{where} has {names}: choose one, {where}#MODEL")


def _sides_of_file(path: Path) -> list[Side]:
    where = one_line(str(path), 300)
    try:
        content = path.read_bytes()
        found = json.loads(content)
    except OSError as error:
        raise UsageProblem(
            f"{where} cannot be read ({one_line(error.strerror or str(error))})"
        ) from None
    except (ValueError, RecursionError):
        raise UsageProblem(
            f"{where} is no JSON, or was cut off; give a run, a JSON report or a lock"
        ) from None
    if isinstance(found, dict) and "lock_version" in found:
        return sides_of_lock(parse_lock(content, where))
    if not isinstance(found, dict) or not {"schema_version", "models"} <= found.keys():
        raise UsageProblem(
            f"{where} is neither a JSON report nor a lock of pytest-agentlimit; write one with "
            "--agent-report=json:FILE or agentlimit lock RUN"
        )
    if found["schema_version"] != 1:
        raise UsageProblem(
            f"{where} has schema version {one_line(str(found['schema_version']), 40)}, and this "
            "pytest-agentlimit reads version 1; compare it with the version that wrote it"
        )
    try:
        return sides_of_report(Report.model_validate_json(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = one_line(" → ".join(map(str, first["loc"])), 120)
        raise UsageProblem(
            f"the report {where} is damaged ({place}: {one_line(first['msg'], 120)}); "
            "write it again: agentlimit report RUN --as json"
        ) from None

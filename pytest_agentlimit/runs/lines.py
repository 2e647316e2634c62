"""Journal lines read back: whatever can be understood is kept, the rest is named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from pytest_agentlimit.chat.messages import Frozen
from pytest_agentlimit.runs.energy import EnergyUse
from pytest_agentlimit.runs.expected import bare_nodeid, expected_trial
from pytest_agentlimit.runs.records import (
    ExpectedTrial,
    Manifest,
    RunData,
    RungRecord,
    TrialRecord,
)

UNFINISHED = (
    "the run has no end: it was interrupted or killed, and trials may be missing; "
    "read it as the part of a run that it is"
)

_DAMAGED = "of the journal is damaged and was left out"


class _Trial(Frozen):
    kind: Literal["trial"]
    record: TrialRecord


class _Expected(Frozen):
    kind: Literal["expected"]
    nodeids: tuple[str, ...]


class _Note(Frozen):
    kind: Literal["note"]
    text: str


class _Finished(Frozen):
    kind: Literal["finished"]
    duration_s: float
    notes: tuple[str, ...] = ()
    energy: dict[str, EnergyUse] = Field(default_factory=dict)


class _Rung(Frozen):
    kind: Literal["rung"]
    nodeid: str
    rung: RungRecord


_Line = Annotated[_Trial | _Expected | _Note | _Finished | _Rung, Field(discriminator="kind")]
_LINE: TypeAdapter[_Trial | _Expected | _Note | _Finished | _Rung] = TypeAdapter(_Line)


def split_lines(journal: bytes) -> tuple[list[str], bool]:
    """Return the lines of a journal file, and whether it ends inside one.

    Bytes that are not UTF-8 become replacement characters: a line that still parses is kept.
    """
    lines = journal.decode("utf-8", "replace").split("\n")
    last = lines.pop()
    if last:
        lines.append(last)
    return lines, bool(last)


def is_damage(note: str) -> bool:
    """Return whether a note of a run is about a line that made no sense."""
    return note.endswith(_DAMAGED)


def read_lines(manifest: Manifest, lines: Iterable[str]) -> RunData:
    """Return the run that the lines tell of; lines that make no sense are named in `notes`.

    A run without a `finished` line says so. Parts of a resumed run add up.
    """
    records: list[TrialRecord] = []
    expected: dict[str, ExpectedTrial] = {}
    notes: list[str] = []
    rungs: dict[str, dict[int, RungRecord]] = {}
    names = [entry.name for entry in manifest.models]
    duration, finished = 0.0, False
    energy: dict[str, EnergyUse] = {}
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = _LINE.validate_json(text)
        except ValidationError:
            notes.append(f"line {number} {_DAMAGED}")
            continue
        if isinstance(line, _Trial):
            records.append(line.record)
        elif isinstance(line, _Rung):
            rungs.setdefault(line.nodeid, {})[line.rung.number] = line.rung
        elif isinstance(line, _Expected):
            trials = (expected_trial(nodeid, names) for nodeid in line.nodeids)
            expected |= {trial.nodeid: trial for trial in trials}
        elif isinstance(line, _Note):
            notes.append(line.text)
        else:
            energy = {} if finished else line.energy
            duration, finished = duration + line.duration_s, True
            notes += line.notes
    if not finished:
        notes.append(UNFINISHED)
    climbed = {bare_nodeid(record.nodeid) for record in records if record.climbed}
    return RunData(
        manifest=manifest,
        records=tuple(records),
        expected=tuple(expected.values()),
        duration_s=duration,
        energy=energy,
        rungs={
            nodeid: tuple(found[number] for number in sorted(found))
            for nodeid, found in rungs.items()
            if nodeid not in climbed
        },
        notes=tuple(dict.fromkeys(notes)),
    )

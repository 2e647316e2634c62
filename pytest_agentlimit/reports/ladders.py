"""Ladders in words: a table of ceilings, what must be known of them, and a curve for each climb."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_agentlimit.measure.score import wilson
from pytest_agentlimit.reports import numbers
from pytest_agentlimit.reports.cells import pad
from pytest_agentlimit.reports.facts import Fact, Tone
from pytest_agentlimit.reports.head_to_head import Column, SideRow, SideTable
from pytest_agentlimit.runs.names import check_name
from pytest_agentlimit.runs.schema import LadderPart, LevelPart
from pytest_agentlimit.text import one_line

BAR = 20
"""Cells of a bar for a level that every trial passed."""
MOST_LINES = 12
"""Lines of an example; of a longer one the middle is left out."""
_MODE_LIMIT = 24
_ANSWERS = {"pass": "yes", "fail": "no", "inconclusive": "not shown", None: "not shown"}
_TONES: dict[str | None, Tone] = {"pass": "good", "fail": "bad", "inconclusive": "odd"}
_COLUMNS = (
    Column("ladder", "left"),
    Column("ceiling", "right"),
    Column("90 %", "right"),
    Column("shape", "left"),
    Column("trials", "right"),
    Column("steps", "right"),
    Column("fails by", "left"),
)


@dataclass(frozen=True)
class LadderBlock:
    """One climb in full, for reports that have the room."""

    title: str
    facts: tuple[Fact, ...]
    curve: tuple[str, ...]
    """A line a level that was tried, below a header; columns line up, nothing in it is untrusted.

    Empty without a trial.
    """
    failure: str
    """The first failure above the ceiling; untrusted, printable, one line; may be empty."""
    example: tuple[str, ...]
    """What was said and called in it, line by line; untrusted and printable."""


@dataclass(frozen=True)
class LaddersView:
    """All climbs of one model."""

    table: SideTable
    facts: tuple[Fact, ...]
    """What the ceilings mean, and what is odd about any."""
    levels: tuple[Fact, ...]
    """The counts of each level, for those who ask for more."""
    blocks: tuple[LadderBlock, ...]


def of_ladders(parts: Sequence[LadderPart]) -> tuple[LaddersView, ...]:
    """Return the climbs of a model in words; nothing when there are none."""
    if not parts:
        return ()
    climbs = Counter(part.id for part in parts)
    names = [_name(part, several=climbs[part.id] > 1) for part in parts]
    pairs = list(zip(names, parts, strict=True))
    same = len({part.reliability for part in parts}) == 1
    return (
        LaddersView(
            table=SideTable(_COLUMNS, tuple(_row(name, part) for name, part in pairs)),
            facts=(
                _meaning(parts[0].reliability if same else None, parts[0].interval),
                *(fact for name, part in pairs for fact in _told(name, part, same)),
            ),
            levels=tuple(_counts(name, part) for name, part in pairs),
            blocks=tuple(_block(name, part) for name, part in pairs),
        ),
    )


def ceiling_words(part: LadderPart) -> str:
    """Return "ceiling 6 (90 %: 4–8)", "not even 1 (90 %: 0–2)" or "at least 4: yes (…)"."""
    if part.ceiling is None:
        return f"ceiling {numbers.NOT_MEASURED}"
    found = f"ceiling {part.ceiling}" if part.ceiling else _not_even(part)
    if part.at_least is not None:
        found = f"at least {part.at_least}: {_ANSWERS[part.verdict]}"
    return f"{found} ({100 * part.interval:g} %: {_interval(part)})"


def _name(part: LadderPart, *, several: bool) -> str:
    return check_name(part.id) + (f", trial {part.trial}" if several else "")


def _row(name: str, part: LadderPart) -> SideRow:
    texts = (
        name,
        _cell(part),
        numbers.NOTHING if part.ceiling is None else _interval(part),
        numbers.NOTHING if part.p_cliff is None or part.at_least is not None else part.shape,
        str(part.trials),
        str(part.steps),
        one_line(part.first_failure_mode or numbers.NOTHING, _MODE_LIMIT),
    )
    return SideRow(one_line(part.id.partition("::")[0]) if "::" in part.id else "", texts)


def _cell(part: LadderPart) -> str:
    if part.ceiling is None:
        return numbers.NOT_MEASURED
    if part.at_least is not None:
        return f"≥ {part.at_least}: {_ANSWERS[part.verdict]}"
    if part.ended == "open":
        return f"{part.ceiling} so far"
    if _is_top(part):
        return f"{part.ceiling} (top)"
    return str(part.ceiling) if part.ceiling else _not_even(part)


def _not_even(part: LadderPart) -> str:
    return f"not even {part.levels[0].level}"


def _interval(part: LadderPart) -> str:
    return f"{part.low}–{part.high}"


def _is_top(part: LadderPart) -> bool:
    return part.ceiling == part.levels[-1].level


def _meaning(reliability: float | None, interval: float) -> Fact:
    often = (
        "with its reliability" if reliability is None else f"{100 * reliability:g} % of the time"
    )
    said = f"highest level passed {often}, as all below"
    return Fact("ceiling", (said, f"{100 * interval:g} % interval"))


def _told(name: str, part: LadderPart, same: bool) -> list[Fact]:
    """Return what a reader must know of one climb beside its row, if anything."""
    said = [] if same else [f"reliability {part.reliability:g}"]
    said += _remarks(part)
    if not said:
        return []
    return [Fact("ladder", (f"{name}: {said[0]}", *said[1:]), _tone(part))]


def _tone(part: LadderPart) -> Tone:
    odd = part.ended != "certain" or part.audit.startswith("not monotone")
    return _TONES.get(part.verdict, "odd" if odd else "plain")


def _remarks(part: LadderPart) -> list[str]:
    found = []
    if part.ended == "open":
        made = f"after {numbers.count(part.trials, 'trial')}, known only so far"
        found.append(f"cut short {made if part.trials else 'before any trial counted'}")
    elif part.ended == "cap":
        found.append(f"not certain after {numbers.count(part.trials, 'trial')}, its most")
    if part.audit.startswith("not monotone"):
        found.append(f"{one_line(part.audit)}: it fails there, whatever it does above")
    if part.doubtful:
        levels = ", ".join(map(str, part.doubtful))
        found.append(f"level {levels}: neither shown to hold nor to fail")
    if _is_top(part) and part.at_least is None:
        found.append(f"the ladder ends at {part.ceiling}: the ceiling may lie higher")
    if part.infra:
        ended = numbers.count(part.infra, "trial")
        found.append(f"{ended} ended by infrastructure, not counted")
    return found


def _counts(name: str, part: LadderPart) -> Fact:
    tried = [f"{one.level}: {one.passes}/{one.trials}" for one in part.levels if one.trials]
    first, *rest = tried or ["none was tried"]
    return Fact("levels", (f"{name}: {first}", *rest))


def _block(name: str, part: LadderPart) -> LadderBlock:
    return LadderBlock(
        title=f"{name}: {ceiling_words(part)}",
        facts=tuple(_facts(part)),
        curve=_curve(part.levels),
        failure=part.first_failure or "",
        example=_shortened([line for line in (part.example or "").split("\n") if line.strip()]),
    )


def _facts(part: LadderPart) -> list[Fact]:
    parts = [one_line(part.name), f"reliability {part.reliability:g}", _shape(part)]
    if part.unit:
        parts.insert(1, f"levels count {one_line(part.unit)}")
    parts.append(f"n = {numbers.count(part.trials, 'trial')}, {numbers.count(part.steps, 'step')}")
    parts.append(f"audit: {one_line(part.audit)}")
    found = [Fact("climb", tuple(parts))]
    if part.modes:
        found.append(Fact("fails by", tuple(_failures(part))))
    remarks = _remarks(part)
    return [*found, Fact("note", tuple(remarks))] if remarks else found


def _shape(part: LadderPart) -> str:
    if part.at_least is not None or part.p_cliff is None:
        return f"shape: {'no fall seen' if _is_top(part) else 'not looked for'}"
    return f"shape: {part.shape} (P(cliff) {numbers.chance(part.p_cliff)})"


def _failures(part: LadderPart) -> list[str]:
    modes = ", ".join(f"{one_line(mode, _MODE_LIMIT)} ×{n}" for mode, n in part.modes.items())
    level = next(
        one.level
        for one in part.levels
        if one.level > (part.ceiling or 0) and one.passes < one.trials
    )
    blame = ", ".join(f"{one_line(who, 20)} ×{n}" for who, n in part.blame.items())
    return [f"level {level}: {modes}", f"blame on all levels: {blame}"]


def _curve(levels: Sequence[LevelPart]) -> tuple[str, ...]:
    """Return a bar for each level that was tried, as long as the share that passed."""
    tried = [one for one in levels if one.trials]
    if not tried:
        return ()
    rows = [("level", "", "passed, 95 %", "P50")] + [_level(one) for one in tried]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = (True, False, False, True)
    return tuple("  ".join(map(_pad, row, widths, right)).rstrip() for row in rows)


def _pad(text: str, width: int, right: bool) -> str:
    return pad(text, width, right=right)


def _level(one: LevelPart) -> tuple[str, str, str, str]:
    rate = wilson(one.passes, one.trials)
    length = round(BAR * one.passes / one.trials)
    if 0 < one.passes < one.trials:
        length = min(max(length, 1), BAR - 1)
    return (
        str(one.level),
        "█" * length + "·" * (BAR - length),
        numbers.rate(one.passes, one.trials, rate.low, rate.high),
        numbers.duration(one.p50_ms),
    )


def _shortened(lines: Sequence[str]) -> tuple[str, ...]:
    if len(lines) <= MOST_LINES:
        return tuple(lines)
    head, tail = MOST_LINES // 2, MOST_LINES // 2 - 1
    left_out = f"… {len(lines) - head - tail} lines left out …"
    return (*lines[:head], left_out, *lines[len(lines) - tail :])

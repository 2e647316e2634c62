"""A climb as the report has it: the ceiling, the counts of each level, and how it fails above."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, get_args

from pytest_agentlimit.errors import Blame
from pytest_agentlimit.measure.ceiling import Ceiling
from pytest_agentlimit.measure.ceiling_audit import Audit
from pytest_agentlimit.measure.latency import median
from pytest_agentlimit.runs.ladders import Climb, first_failures, modes_of
from pytest_agentlimit.runs.points import counted
from pytest_agentlimit.runs.records import LadderRecord, RunData, RungRecord
from pytest_agentlimit.runs.schema import LadderPart, LevelPart
from pytest_agentlimit.runs.trials import CheckTrials
from pytest_agentlimit.text import one_line, printable

_NAME_LIMIT = 80
_UNIT_LIMIT = 40
_DETAIL_LIMIT = 400
_EXAMPLE_LIMIT = 4000


def ladder_parts(checks: Iterable[CheckTrials]) -> tuple[LadderPart, ...]:
    """Return the climbs of a model, check by check, one for each trial that began one."""
    return tuple(
        _part(check.plan.check, trial, climb)
        for check in checks
        for trial, climb in check.climbs.items()
    )


def cut_short(data: RunData) -> list[str]:
    """Return one sentence for each climb that a run began and did not bring to a record."""
    return [
        f"{one_line(nodeid)}: {counted(len(rungs), 'trial')} of a climb that was not finished; "
        "--agent-resume goes on with it"
        for nodeid, rungs in data.rungs.items()
    ]


def _part(check: str, trial: int, climb: Climb) -> LadderPart:
    ladder, ceiling = climb
    failed = first_failures(ladder, ceiling)
    modes = modes_of(failed)
    known = ceiling.trials > 0
    return LadderPart(
        id=check,
        trial=trial,
        name=one_line(ladder.name, _NAME_LIMIT),
        unit=one_line(ladder.unit, _UNIT_LIMIT),
        reliability=ladder.reliability,
        ceiling=ceiling.ceiling if known else None,
        low=ceiling.low if known else None,
        high=ceiling.high if known else None,
        shape=ceiling.shape,
        trials=ceiling.trials,
        steps=ceiling.steps,
        first_failure_mode=next(iter(modes), None),
        audit=_audit(ceiling.audit),
        at_least=ladder.at_least,
        verdict=None if ceiling.ended == "open" else ceiling.verdict,
        ended=ceiling.ended,
        p_cliff=None if ceiling.p_cliff is None else _share(ceiling.p_cliff),
        doubtful=ceiling.audit.doubtful,
        infra=sum(rung.outcome == "infra" for rung in ladder.rungs),
        levels=_levels(ladder, ceiling),
        posterior=tuple(map(_share, ceiling.rungs)),
        modes=modes,
        blame=_blame(ladder),
        **_example(failed),
    )


def _audit(audit: Audit) -> str:
    return audit.verdict if audit.dip is None else f"{audit.verdict} at {audit.dip}"


def _levels(ladder: LadderRecord, ceiling: Ceiling) -> tuple[LevelPart, ...]:
    waited: dict[int, list[float]] = {}
    for rung in ladder.rungs:
        if rung.outcome != "infra" and rung.latency_ms is not None:
            waited.setdefault(rung.level, []).append(rung.latency_ms)
    return tuple(
        LevelPart(
            level=tally.level,
            trials=tally.trials,
            passes=tally.passes,
            p50_ms=median(waited[tally.level]) if tally.level in waited else None,
        )
        for tally in ceiling.counts
    )


def _blame(ladder: LadderRecord) -> dict[str, int]:
    blame = Counter(rung.blame for rung in ladder.rungs if rung.outcome == "failed")
    return {name: blame[name] for name in get_args(Blame) if blame[name]}


def _example(failed: list[RungRecord]) -> dict[str, Any]:
    """Return the failure to show: the first that has a transcript, else the first."""
    if not failed:
        return {"first_failure": None, "example": None}
    shown = next((rung for rung in failed if rung.transcript), failed[0])
    return {
        "first_failure": one_line(shown.detail, _DETAIL_LIMIT) or None,
        "example": printable(shown.transcript, _EXAMPLE_LIMIT) or None,
    }


def _share(value: float) -> float:
    """Return a probability; sums of floats may end a little beside 0 or 1."""
    return min(1.0, max(0.0, value))

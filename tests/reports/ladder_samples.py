"""Runs with ladders, for every report to show."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from climb_kit import all_but, climbed, up_to
from report_samples import HOSTILE, run, trial

from pytest_agentlimit.errors import Blame
from pytest_agentlimit.runs.records import LadderRecord, Outcome, RunData, TrialRecord

LIMITS = "example_suites/limits/test_limits.py"


def climb_trial(
    check: str,
    ladder: LadderRecord,
    model: str = "open-claw",
    outcome: Outcome = "passed",
    blame: Blame | None = None,
    **changes: Any,
) -> TrialRecord:
    """The record of a check that climbed."""
    record = trial(f"{LIMITS}::test_{check}", model, outcome=outcome, blame=blame, latency_ms=None)
    return record.model_copy(update={"ladder": ladder, **changes})


@cache
def limits() -> RunData:
    """One model on ladders that end in every way there is."""
    asked = climbed(up_to(3), name="schema", at_least=4)
    return run(
        climb_trial("chain", climbed(up_to(6), infra=(3, 4))),
        climb_trial("ledger", climbed(up_to(0), name="ledger", unit="turns")),
        climb_trial("toolbox", climbed(up_to(64), name="toolbox", unit="tools")),
        climb_trial("dag", climbed(all_but(4, 16), name="dag", unit="functions")),
        climb_trial("fanout", climbed(up_to(8), name="fanout", at_least=4)),
        climb_trial("schema", asked, outcome="failed", message="expected a ceiling of 4"),
        climb_trial("recovery", climbed(up_to(2), name="recovery", most=5), outcome="infra"),
        climb_trial("haystack", climbed(up_to(2), infra=range(99), most=5), outcome="infra"),
    )


@cache
def two_climbers() -> RunData:
    """Two models on the same ladders; one ladder was not climbed in the same way."""
    records = []
    for model, highest in (("gemma4", 12), ("open-claw", 6)):
        records.append(climb_trial("chain", climbed(up_to(highest)), model))
        records.append(climb_trial("ledger", climbed(up_to(0), name="ledger"), model))
        levels = (1, 2, 4, 8) if model == "gemma4" else (1, 2, 3)
        records.append(climb_trial("dag", climbed(up_to(2), levels=levels), model))
    return run(*records)


@cache
def hostile_ladder() -> RunData:
    """A ladder whose every text is hostile."""
    ladder = climbed(
        up_to(6), name=HOSTILE, unit=HOSTILE, mode=HOSTILE, detail=HOSTILE,
        transcript=f"model: {HOSTILE}\n" * 3 + "```\n# head\n<b>\n::error::x\n" * 30,
    )  # fmt: skip
    return run(climb_trial(f"chain[{HOSTILE}]", ladder))


LADDER_SAMPLES: dict[str, Callable[[], RunData]] = {
    maker.__name__: maker for maker in (limits, two_climbers, hostile_ladder)
}

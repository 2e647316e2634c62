"""The `climb` fixture: one ladder is one test item, and each of its trials is kept as it ends."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_agentlimit.errors import ExpectationFailed, UsageProblem
from pytest_agentlimit.ladders.base import RUNGS
from pytest_agentlimit.ladders.climb import Rung
from pytest_agentlimit.ladders.climb import climb as climb_up
from pytest_agentlimit.ladders.trier import Ask, Trier
from pytest_agentlimit.measure.ceiling import Ceiling, CeilingSearch
from pytest_agentlimit.runs.ladders import blame_of, climb_lines
from pytest_agentlimit.runs.records import LadderRecord, RungRecord
from pytest_agentlimit.units import duration_ms

from .worker import RUNG_KEY, STATE_KEY

if TYPE_CHECKING:
    from pytest_agentlimit.endpoints.client import EndpointClient

    from .context import RunContext
    from .recorder import Recorder

TIMEOUT = "10min"
_GRACE_S = 5.0


class Climber:
    """Climbs one ladder for one check; calling it returns the Ceiling."""

    def __init__(
        self,
        item: pytest.Item,
        recorder: Recorder,
        context: RunContext,
        client: EndpointClient,
    ) -> None:
        self._item, self._recorder = item, recorder
        self._context, self._client = context, client
        self._trier: Trier | None = None
        self._search: CeilingSearch | None = None
        self._told = 0
        """Exchanges of this process that belong to trials that are told."""

    def stop(self) -> None:
        """Let no trial ask anything after the test."""
        if self._trier is not None:
            self._trier.stop()

    def __call__(
        self,
        attempt: Ask,
        *,
        levels: Sequence[int] | None = None,
        reliability: float = 0.8,
        at_least: int | None = None,
        shape: Literal["bare", "agent"] | None = None,
        timeout: str = TIMEOUT,
    ) -> Ceiling:
        """Return how far up the ladder the model gets with `reliability` (METHOD 5).

        `attempt` is a ladder, or a function `attempt(agent, level, rng)` that returns True, False
        or an Attempt, and may assert. `levels` rise and default to the ladder's own. With
        `at_least` the climb ends as soon as the question is decided, and ExpectationFailed is
        raised unless the ceiling is shown to be that high. A trial that takes longer than `timeout`
        or than the check's latency budget has failed. Raises UsageProblem for what makes no sense.
        """
        if self._trier is not None:
            raise UsageProblem(
                "a test climbs one ladder: its trials are kept under the name of the test. "
                "Next: write another test for the other ladder"
            )
        search, limit_s = self._prepared(attempt, levels, reliability, at_least, shape, timeout)
        assert self._trier is not None
        ceiling = climb_up(
            search,
            self._trier,
            width=self._ladder.width,
            limit_s=limit_s + self._client.spec.deadlines.total_s + _GRACE_S,
            known=self._known(),
            tell=self._tell,
        )
        if at_least is not None and ceiling.verdict != "pass":
            raise ExpectationFailed(self._missed(ceiling), blame=blame_of(self._ladder))
        return ceiling

    def _prepared(
        self,
        attempt: Ask,
        levels: Sequence[int] | None,
        reliability: float,
        at_least: int | None,
        shape: Literal["bare", "agent"] | None,
        timeout: str,
    ) -> tuple[CeilingSearch, float]:
        """Return the search and the seconds of a trial; the record of the climb begins."""
        plan = self._recorder.plan
        name = str(getattr(attempt, "name", None) or getattr(attempt, "__name__", "ladder"))
        given = getattr(attempt, "levels", RUNGS) if levels is None else levels
        rungs = tuple(given)
        alone = bool(getattr(attempt, "alone", False))
        shape = shape or self._context.shape  # type: ignore[assignment]
        assert shape is not None
        seed = plan.seed if plan.instance_seed is None else plan.instance_seed
        self._recorder.ladder = LadderRecord(
            name=name,
            unit=str(getattr(attempt, "unit", "")),
            levels=(),
            reliability=reliability,
            at_least=at_least,
            seed=seed,
            shape=shape,
            width=1 if alone else self._width,
            alone=alone,
        )
        search = self._search = CeilingSearch(rungs, reliability, seed, at_least=at_least)
        self._grow(levels=rungs)
        limit_s = _seconds(timeout)
        self._trier = Trier(
            attempt,
            self._client,
            name=name,
            model=plan.model,
            shape=shape,
            seed=seed,
            limit_s=limit_s,
            budget_ms=plan.budget_ms,
        )
        return search, limit_s

    @property
    def _width(self) -> int:
        return self._context.model(self._recorder.plan.model).max_inflight

    @property
    def _ladder(self) -> LadderRecord:
        assert self._recorder.ladder is not None
        return self._recorder.ladder

    def _grow(self, **changes: Any) -> None:
        self._recorder.ladder = self._ladder.model_copy(update=changes)

    def _known(self) -> dict[int, Rung]:
        """Return the trials that an earlier part of the run made; they are part of this climb."""
        from pytest_agentlimit.runs.expected import bare_nodeid

        kept = self._context.rungs.get(bare_nodeid(self._item.nodeid), [])
        rungs = [RungRecord.model_validate(rung) for rung in kept]
        self._recorder.earlier_calls += [call for rung in rungs for call in rung.calls]
        self._grow(rungs=tuple(_without_calls(rung) for rung in rungs))
        return {rung.number: _plain(rung) for rung in rungs}

    def _tell(self, rung: Rung) -> None:
        """Keep a trial and say it: on this report it crosses to the controller at once."""
        record = RungRecord(**rung._asdict(), calls=self._recorder.calls(self._told))
        self._told = len(self._recorder.exchanges)
        rungs = (*self._ladder.rungs, _without_calls(record))
        self._grow(rungs=tuple(sorted(rungs, key=lambda one: one.number)))
        report = pytest.TestReport(
            self._item.nodeid,
            self._item.location,
            {},
            "passed",
            None,
            "rung",  # type: ignore[arg-type]  # no phase of pytest's, and so counted by nobody
        )
        report.__dict__[RUNG_KEY] = record.model_dump(mode="json")
        report.__dict__[STATE_KEY] = self._state(rung.level)
        capture = self._item.config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            self._item.ihook.pytest_runtest_logreport(report=report)

    def _state(self, level: int) -> dict[str, Any]:
        """Return how the climb stands, for whoever watches."""
        assert self._search is not None
        now = self._search.result()
        made = sum(rung.outcome != "infra" for rung in self._ladder.rungs)
        ladder = self._ladder
        return {
            "name": ladder.name,
            "unit": ladder.unit,
            "level": level,
            "trials": made,
            "low": now.low,
            "high": now.high,
        }

    def _missed(self, ceiling: Ceiling) -> str:
        unit = f" {self._ladder.unit}" if self._ladder.unit else ""
        said = "was not shown" if ceiling.verdict == "inconclusive" else "is not there"
        return "\n".join(
            [
                f"expected a ceiling of at least {ceiling.at_least}{unit}; it {said}",
                *climb_lines(self._ladder, ceiling),
            ]
        )


def _without_calls(rung: RungRecord) -> RungRecord:
    return rung.model_copy(update={"calls": ()})


def _plain(rung: RungRecord) -> Rung:
    return Rung(**{name: value for name, value in rung if name != "calls"})


def _seconds(timeout: str) -> float:
    try:
        return duration_ms(timeout) / 1000
    except ValueError as error:
        raise UsageProblem(f"climb(timeout=…): {error}") from None

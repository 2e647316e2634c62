"""How far a run is, in one line: rounds, trials, the score so far and the time left.

The score is the one of the final report, over the trials that have been scored so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pytest_agentlimit.measure.latency import median
from pytest_agentlimit.measure.score import WeightedScore
from pytest_agentlimit.reports.cells import cell_width, cut
from pytest_agentlimit.reports.numbers import count, interval, percent
from pytest_agentlimit.runs.expected import bare_nodeid, expected_trial
from pytest_agentlimit.runs.records import SCORED, CheckPlan, ExpectedTrial
from pytest_agentlimit.runs.rules import score_of_evidence
from pytest_agentlimit.runs.trials import Evidence
from pytest_agentlimit.text import one_line

NOT_NEEDED = "not needed"
"""Stands for the outcome of a trial that was left out; it is done and not scored."""
_WORDS = ("failed", "crashed", "infra", "unsupported", "inconclusive", "skipped", NOT_NEEDED)
_TIMED = frozenset({"passed", "failed", "infra"})
"""Outcomes of trials that ran to their end, and so tell how long the others will take."""
_SEPARATOR = " · "
_NAME = 24
_SHORT_NAME = 8
_SHOWN = ("round", "trials", "climb", "score", "outcomes", "others", "left")
_BY_IMPORTANCE = ("trials", "climb", "round", "score", "left", "outcomes", "others")


@dataclass
class _Check:
    """One check on one model so far."""

    plan: CheckPlan | None = None
    """None until a trial has told its weight."""
    left: int = 0
    closed: bool = False
    """A trial was not needed: no later one will be."""
    _scored: dict[str, _Scored] = field(default_factory=dict)
    _passes: int = 0
    _outputs: Counter[tuple[str | None, ...]] = field(default_factory=Counter)

    def take(self, nodeid: str, outcome: str, outputs: tuple[str | None, ...]) -> None:
        """Count a trial, in place of an earlier attempt at it."""
        before = self._scored.pop(nodeid, None)
        if before is not None:
            self._count(before, -1)
        if outcome in SCORED:
            self._scored[nodeid] = _Scored(outcome, outputs)
            self._count(self._scored[nodeid], 1)

    def _count(self, trial: _Scored, sign: int) -> None:
        self._passes += sign * (trial.outcome == "passed")
        if trial.outcome != "crashed":
            self._outputs[trial.outputs] += sign
            if not self._outputs[trial.outputs]:
                del self._outputs[trial.outputs]

    @property
    def evidence(self) -> Evidence | None:
        """What the trials are worth, as `CheckTrials.evidence` has it; None without any."""
        n, finished = len(self._scored), self._outputs.total()
        if not n:
            return None
        known = len(self._outputs) == 1 and all(map(_is_known, self._outputs))
        if not known or finished < 2:
            return Evidence(self._passes, n)
        worth = n - finished + 1
        return Evidence(self._passes * worth / n, worth)


class _Scored(NamedTuple):
    """A trial that counts, as far as the score needs it."""

    outcome: str
    outputs: tuple[str | None, ...]


def _is_known(outputs: tuple[str | None, ...]) -> bool:
    return bool(outputs) and None not in outputs


class Climbing(NamedTuple):
    """A climb that is under way: a trial of it, at `level`, has just ended."""

    name: str
    """The ladder's."""
    level: int
    trials: int
    """That are evidence."""
    low: int
    """The ceiling's 90 % interval so far, in levels."""
    high: int


class Progress:
    """Counts the trials of a run as they finish; constant work for each."""

    def __init__(self, models: Sequence[str]) -> None:
        self.models = tuple(models)
        self.outcomes: Counter[str] = Counter()
        """Of finished trials, the last attempt of each; `not needed` is one of them."""
        self.workers: set[str | None] = set()
        """Who ran the trials: as many run at a time."""
        self._trials: dict[str, ExpectedTrial] = {}
        self._checks: dict[str, dict[str, _Check]] = {name: {} for name in self.models}
        self._finished: dict[str, str] = {}
        self._due: Counter[int] = Counter()
        self._done: Counter[int] = Counter()
        self._ran: Counter[int] = Counter()
        self._rounds: list[int] = []
        """The rounds in their order."""
        self._complete = 0
        """How many of them are complete."""
        self._durations: dict[str, list[float]] = {}
        self._others: dict[str, bool] = {}
        self._climbs: dict[str, Climbing] = {}
        """Under way, by node id; the last is the one that moved last."""

    # what happens

    def expect(self, nodeids: Iterable[str]) -> None:
        """Add the trials among `nodeids`; an id that names no model of the run is none."""
        for nodeid in nodeids:
            trial = expected_trial(nodeid, self.models)
            if trial.model is None or trial.trial is None or trial.nodeid in self._trials:
                continue
            self._trials[trial.nodeid] = trial
            self._due[trial.trial] += 1
            self._checks[trial.model].setdefault(trial.stem, _Check()).left += 1
        self._rounds, self._complete = sorted(self._due), 0
        self._close_rounds()

    def is_trial(self, nodeid: str) -> bool:
        """Return whether `nodeid` is a trial that was expected."""
        return bare_nodeid(nodeid) in self._trials

    def plan(self, nodeid: str, plan: Mapping[str, Any]) -> None:
        """Take the plan of a trial that starts: a CheckPlan as JSON."""
        check = self._check(nodeid)
        if check.plan is None:
            check.plan = CheckPlan.model_validate(plan)

    def finish(self, nodeid: str, record: Mapping[str, Any]) -> None:
        """Take the record of a finished trial, a TrialRecord as JSON; of several the last counts.

        Only what the line needs is kept: a run may have ten thousand records.
        """
        self.plan(nodeid, record["plan"])
        outcome, duration_s = record["outcome"], record["duration_s"]
        outputs = [call["output_digest"] for call in record["calls"]]
        self.workers.add(record["worker"])
        if outcome in _TIMED:
            self._durations.setdefault(record["plan"]["model"], []).append(duration_s)
        self._score(nodeid, outcome, outputs)
        self._count(nodeid, outcome)

    def crash(self, nodeid: str) -> None:
        """Take a trial whose worker died: a failure, where its weight is known."""
        self._score(nodeid, "crashed", [])
        self._count(nodeid, "crashed")

    def leave_out(self, nodeid: str) -> None:
        """Take a trial that did not run because the run was decided without it."""
        self._check(nodeid).closed = True
        self._count(nodeid, NOT_NEEDED)

    def climb(self, nodeid: str, state: Mapping[str, Any]) -> None:
        """Take how a climb stands after one of its trials."""
        bare = bare_nodeid(nodeid)
        self._climbs.pop(bare, None)
        self._climbs[bare] = Climbing(*(state[name] for name in Climbing._fields))

    def other(self, nodeid: str, *, failed: bool) -> None:
        """Take a phase of an ordinary test that ended."""
        self._others[nodeid] = self._others.get(nodeid, False) or failed

    def _check(self, nodeid: str) -> _Check:
        trial = self._trials[bare_nodeid(nodeid)]
        assert trial.model is not None  # expect() keeps no other
        return self._checks[trial.model][trial.stem]

    def _score(self, nodeid: str, outcome: Any, outputs: Sequence[str | None]) -> None:
        check = self._check(nodeid)
        if check.plan is None:
            return
        check.take(bare_nodeid(nodeid), outcome, tuple(outputs))

    def _count(self, nodeid: str, outcome: str) -> None:
        bare = bare_nodeid(nodeid)
        number = self._trials[bare].trial or 0
        self._climbs.pop(bare, None)
        before = self._finished.get(bare)
        if before is None:
            self._done[number] += 1
            self._check(bare).left -= 1
        else:
            self.outcomes[before] -= 1
        self._ran[number] += outcome != NOT_NEEDED
        self._finished[bare] = outcome
        self.outcomes[outcome] += 1
        self._close_rounds()

    def _close_rounds(self) -> None:
        while self._complete < len(self._rounds):
            number = self._rounds[self._complete]
            if self._done[number] < self._due[number] or not self._ran[number]:
                return
            self._complete += 1

    # what can be said

    @property
    def total(self) -> int:
        """Expected trials."""
        return len(self._trials)

    @property
    def done(self) -> int:
        """Trials that are over, whatever came out."""
        return len(self._finished)

    @property
    def rounds(self) -> int:
        """The number of the last round, 0 without trials."""
        return self._rounds[-1] if self._rounds else 0

    @property
    def complete_rounds(self) -> int:
        """The last round that is over with all before it, and that was needed; 0 at first."""
        return self._rounds[self._complete - 1] if self._complete else 0

    @property
    def climbing(self) -> Climbing | None:
        """The climb under way that moved last, None when there is none."""
        return next(reversed(self._climbs.values()), None)

    @property
    def others(self) -> tuple[int, int]:
        """Ordinary tests that have run, and how many of them failed."""
        return len(self._others), sum(self._others.values())

    def scores(self) -> dict[str, WeightedScore]:
        """Return the score so far of each model that has one; linear in the checks."""
        found = {}
        for name, checks in self._checks.items():
            seen = [
                (check.plan.weight, evidence)
                for check in checks.values()
                if check.plan is not None and (evidence := check.evidence) is not None
            ]
            score = score_of_evidence(seen)
            if score is not None:
                found[name] = score
        return found

    def time_left_s(self) -> float | None:
        """Return about how many seconds the rest takes, None before two trials have told.

        From the median trial of each model so far, shared out over the workers seen; trials of a
        check that is decided take no time.
        """
        timed = [seconds for those in self._durations.values() for seconds in those]
        left = {
            name: sum(check.left for check in checks.values() if not check.closed)
            for name, checks in self._checks.items()
        }
        if len(timed) < 2 or not any(left.values()):
            return None
        pace = {name: median(self._durations.get(name) or timed) for name in left if left[name]}
        work = sum(pace[name] * left[name] for name in pace)
        return max(work / max(1, len(self.workers)), *pace.values(), 0.0)


def progress_line(
    progress: Progress, width: int, *, ended: int | None = None, time_left: bool = True
) -> str:
    """Return how far a run is, in one line of at most `width` cells.

    `ended` names the round that is over; without it the line says which one is under way. What
    does not fit is said shorter, then left out, the least important first.
    """
    known = _Known(progress.scores(), progress.time_left_s() if time_left else None)
    parts = _parts(progress, known, ended, short=False)
    line = _joined(parts, _SHOWN)
    if cell_width(line) <= width:
        return line
    parts = _parts(progress, known, ended, short=True)
    kept: tuple[str, ...] = ()
    for name in _BY_IMPORTANCE:
        if cell_width(_joined(parts, (*kept, name))) <= width:
            kept += (name,)
    return _joined(parts, kept) or cut(parts["trials"], width)


def _joined(parts: Mapping[str, str], names: Sequence[str]) -> str:
    return _SEPARATOR.join(parts[name] for name in _SHOWN if name in names and parts[name])


class _Known(NamedTuple):
    """What is worth computing only once for a line."""

    scores: dict[str, WeightedScore]
    left_s: float | None


def _parts(progress: Progress, known: _Known, ended: int | None, *, short: bool) -> dict[str, str]:
    seconds = known.left_s
    done, total = progress.done, count(progress.total, "trial")
    number, failed = progress.others
    return {
        "round": _round(progress, ended, "/" if short else " of "),
        "trials": f"{done}/{total}" if short else f"{done} of {total}",
        "climb": climb_words(progress.climbing, short=short) if progress.climbing else "",
        "score": _score(known.scores, short, several=len(progress.models) > 1),
        "outcomes": ", ".join(f"{n} {word}" for word in _WORDS if (n := progress.outcomes[word])),
        "others": _others(number, failed),
        "left": "" if seconds is None else f"{'~' if short else 'about '}{_rough(seconds)} left",
    }


def climb_words(climb: Climbing, *, short: bool = False) -> str:
    """Return "chain: level 8, trial 14, ceiling 4–12", or less of it."""
    name = cut(one_line(climb.name), _SHORT_NAME if short else _NAME)
    ceiling = f"{climb.low}–{climb.high}"
    if short:
        return f"{name} {climb.level}, #{climb.trials}, {ceiling}"
    return f"{name}: level {climb.level}, trial {climb.trials}, ceiling {ceiling}"


def _round(progress: Progress, ended: int | None, of: str) -> str:
    if progress.rounds < 2:
        return ""
    if ended is None and progress.done == progress.total:
        return f"{progress.complete_rounds}{of}{progress.rounds} rounds"
    number = progress.complete_rounds + 1 if ended is None else ended
    return f"round {min(number, progress.rounds)}{of}{progress.rounds}"


def _score(scores: Mapping[str, WeightedScore], short: bool, *, several: bool) -> str:
    found = []
    for name, score in scores.items():
        shown = f"{percent(score.value)} ({interval(score.low, score.high, 0)})"
        label = cut(one_line(name), _SHORT_NAME if short else _NAME)
        found.append(f"{label} {shown}" if several else shown)
    return f"score {'' if short else 'so far '}{', '.join(found)}" if found else ""


def _others(number: int, failed: int) -> str:
    if not number:
        return ""
    return count(number, "other test") + (f" ({failed} failed)" if failed else "")


def _rough(seconds: float) -> str:
    """Return a guess at a duration as a person would say it: "40 s", "2 min", "1 h 05 min"."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"

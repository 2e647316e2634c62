"""Context truth: what really fits, measured by prompts of growing size (PROTOCOLS R21)."""

from __future__ import annotations

import math

from pytest_agentlimit.endpoints.probing import fixes
from pytest_agentlimit.endpoints.probing.needle import ANSWER, Needle, Outcome, Point
from pytest_agentlimit.endpoints.probing.probe import (
    Bench,
    Fix,
    Found,
    fault,
    ok,
    unknown,
)
from pytest_agentlimit.endpoints.probing.wire import OutOfBudget

MOST_REQUESTS = 8
NOTHING_CLAIMED = 16_384
"""Tokens that are tried when nobody says how large the context is."""
_FIRST_UNITS = 40
_FIRST_SHARE = 0.5
"""Of the claim, for a first prompt that fits also where the claim is small."""
_TOP = 0.95
"""Of a claim or limit, for the prompt that has to fit."""
_BEYOND, _FAR_BEYOND = 1.08, 1.2
"""For a prompt that cannot fit; the second is told from a truncated one by any tokeniser."""
_CLOSE = 1.1
_HONEST = 0.98
"""Servers round their context; a claim this close to it is honest."""
_QUICK_S = 5.0
"""A largest prompt that takes longer than this is not asked for before an overflow."""
_WORTH = 1.5
"""By this much a prompt has to be larger than one that fits, if it cannot be as large as wanted."""
_SHARE = 1 / 6
"""Of the whole time: for a refusal, which costs an honest server nothing, and for a prompt that
only confirms a stated limit.
"""


def measure(bench: Bench) -> Found:
    """What is declared or advertised really fits; an overflow is a loud error.

    At most eight prompts, each with a word at its head that the model is asked for. Where a prompt
    as large as the claim would take long, an overflow is asked for first: an honest server refuses
    it at once, with its limit.
    """
    return _Meter(bench).run()


class _Meter:
    """Which prompts to ask for, and what they show."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        claims = (bench.spec.context_window, bench.facts["context_advertised"])
        self._claimed = min((claim for claim in claims if claim), default=None)
        self._aim = self._claimed or NOTHING_CLAIMED
        self._needle = Needle(bench)
        self._most_s = _SHARE * bench.wire.budget.total_s
        self._left = False
        """Whether a prompt was left to the server unanswered: it may be busy with it."""

    def run(self) -> Found:
        needle = self._needle
        self._bench.facts["context_estimated"] = not needle.counted
        first = needle.ask(min(_FIRST_UNITS, needle.units(_FIRST_SHARE * self._aim)))
        beyond = first
        if first.limit:
            first = needle.ask(needle.units(_FIRST_SHARE * first.limit))
        if first.outcome != "fits":
            return unknown("the model says nothing to a short prompt with a word to remember")
        needle.calibrate(first)
        if beyond.limit:
            return self._stated(first, beyond)
        try:
            if self._cost_s(self._top(self._aim)) > _QUICK_S:
                return self._sparing(first)
            return self._thorough(first)
        except OutOfBudget as limit:
            return self._at_least(str(limit))

    def _thorough(self, low: Point, high: Point | None = None) -> Found:
        """Return the verdict from a prompt as large as the claim, and from `high` beyond it."""
        top = self._needle.ask(self._top(self._aim))
        if top.outcome != "fits":
            return self._judged(*self._bisected(low, top))
        return self._fits(top, high)

    def _sparing(self, low: Point) -> Found:
        """Return the verdict from an overflow first: it costs nothing where it is refused."""
        units = self._needle.units(_FAR_BEYOND * self._aim)
        beyond = self._needle.ask(units, self._most_s)
        self._left = beyond.outcome == "hang"
        if beyond.limit or self._seen(beyond) or beyond.outcome == "fits":
            return self._beyond(low, beyond)
        top = self._top(self._aim)
        if self._cost_s(top) < self._bench.wire.left_s:
            return self._thorough(low, beyond)
        self._largest(low, top)
        return self._at_least(f"to read {self._aim} takes longer than the time that is left")

    def _fits(self, top: Point, beyond: Point | None = None) -> Found:
        """Return the verdict on a claim that holds; one prompt more shows what lies beyond."""
        needle, facts = self._needle, self._bench.facts
        facts["context_measured"] = top.tokens
        if self._claimed is None:
            return ok(f"at least {top.tokens} tokens fit{needle.how}")
        if top.units > _FIRST_UNITS:
            needle.calibrate(top, exactly=True)
        try:
            beyond = beyond or needle.ask(needle.units(_BEYOND * self._aim))
        except OutOfBudget:
            return ok(f"{top.tokens} tokens fit{needle.how}")
        return self._beyond(top, beyond)

    def _beyond(self, low: Point, beyond: Point) -> Found:
        """Return the verdict from a prompt larger than the claim; `low` fits."""
        if beyond.limit:
            return self._stated(low, beyond)
        if self._seen(beyond) and beyond.tokens < _HONEST * self._aim:
            return self._judged(low, beyond)
        known = self._seen(beyond) or beyond.outcome == "fits"
        measured = beyond.tokens if known else low.tokens
        facts = self._bench.facts
        facts["context_measured"] = measured
        facts["overflow"] = None if beyond.outcome == "fits" or self._left else beyond.outcome
        if self._claimed is None and beyond.outcome == "fits":
            return ok(f"at least {measured} tokens fit{self._needle.how}")
        return ok(f"{measured} tokens fit{self._needle.how}; beyond: {_SHOWN[beyond.outcome]}")

    def _stated(self, low: Point, high: Point) -> Found:
        """Return the verdict from the limit that a refusal states, and from what is seen to fit."""
        limit = high.limit or 0
        units = self._needle.units(_TOP * limit - self._bench.tokens(ANSWER))
        largest = high if units >= high.units else self._largest(low, units)
        if largest.outcome == "hang":
            hung = self._hung(largest)
            if hung.verdict == "fault":
                return hung
        elif largest.outcome != "fits" and self._needle.counted:
            # What is stated is not true: only what is seen counts.
            return self._judged(*self._bisected(low, largest._replace(limit=None)))
        facts = self._bench.facts
        facts["context_measured"], facts["overflow"] = limit, "loud"
        seen = f"prompts of up to {facts['context_fits']} tokens{self._needle.how} were seen to fit"
        message = f"the server refuses more than {limit} tokens with a loud error; {seen}"
        if self._claimed is None or limit >= _HONEST * self._aim:
            return ok(message)
        larger = fixes.larger_context(self._bench, self._claimed)
        message = f"{self._aim} are claimed, and {message}"
        return fault("context_smaller", message, blame="config", fix=larger)

    def _largest(self, low: Point, units: int) -> Point:
        """Return a prompt of `units`, or as large as can be read in a share of the whole time.

        It is `low` when nothing worth its while can be asked.
        """
        most = int(self._most_s / self._needle.unit_s) if self._needle.unit_s else units
        wanted = min(units, most)
        small = wanted < units and wanted < _WORTH * low.units
        if small or wanted < _CLOSE * low.units or self._needle.asked >= MOST_REQUESTS:
            return low
        try:
            return self._needle.ask(wanted)
        except OutOfBudget:
            return low

    def _bisected(self, low: Point, high: Point) -> tuple[Point, Point]:
        """Return the largest prompt that fitted and the smallest that did not."""
        while self._open(low, high):
            try:
                middle = self._needle.ask(round(math.sqrt(low.units * high.units)))
            except OutOfBudget:
                break
            low, high = (middle, high) if middle.outcome == "fits" else (low, middle)
        return low, high

    def _open(self, low: Point, high: Point) -> bool:
        """Return True while another prompt would tell more."""
        known = high.limit is not None or self._seen(high)
        done = known or high.outcome == "hang" or high.units <= _CLOSE * low.units
        return not done and self._needle.asked < MOST_REQUESTS

    def _seen(self, high: Point) -> bool:
        """Return True when the server's own count shows how much of a prompt was left."""
        return high.outcome == "silent" and self._needle.counted

    def _judged(self, low: Point, high: Point) -> Found:
        """Return the verdict from the largest prompt that fits and one that does not."""
        if high.limit:
            return self._stated(low, high)
        facts, how = self._bench.facts, self._needle.how
        measured = high.tokens if self._seen(high) else low.tokens
        known = "context_at_least" if high.outcome == "hang" else "context_measured"
        facts[known], facts["overflow"] = measured, high.outcome
        where = f"from {measured} tokens on{how}"
        claim = f"{self._aim} are claimed" if self._claimed else "no context is declared"
        larger = fixes.larger_context(self._bench, self._claimed or NOTHING_CLAIMED)
        if high.outcome == "loud":
            if self._claimed is None:
                return ok(f"{measured} tokens fit{how}; beyond: {_SHOWN['loud']}")
            message = f"{claim}, and {measured} fit{how}"
            return fault("context_smaller", message, blame="config", fix=larger)
        if high.outcome == "silent":
            message = f"the head of a prompt is dropped without an error {where}; {claim}"
            return fault("silent_truncation", message, blame="config", fix=larger)
        if high.outcome == "empty":
            return fault("empty_on_overflow", f"empty replies {where}; {claim}", fix=larger)
        if high.outcome == "broken":
            return fault("breaks_on_long", f"the server breaks {where}; {claim}", fix=larger)
        return self._hung(high)

    def _hung(self, high: Point) -> Found:
        """Return a fault when a prompt had all the time that its size explains."""
        size = f"a prompt of {high.tokens} tokens{self._needle.how}"
        if self._left or high.patience_s < self._needle.patience(high.units):
            return unknown(f"{size} was not answered in {high.seconds:.1f} s: slow, or hanging")
        fix = Fix(sentence="Look at the server's log; warm it up at this length, or send less")
        message = f"{size} hangs: no answer in {high.seconds:.1f} s"
        return fault("hangs_on_long", message, fix=fix)

    def _at_least(self, why: str) -> Found:
        tokens = self._bench.facts["context_at_least"] = self._bench.facts["context_fits"]
        return unknown(f"at least {tokens} tokens fit; {why}")

    def _top(self, tokens: int) -> int:
        return self._needle.units(_TOP * tokens - ANSWER)

    def _cost_s(self, units: int) -> float:
        """Return the seconds that a prompt takes, about."""
        return self._needle.unit_s * units


_SHOWN: dict[Outcome, str] = {
    "fits": "more fits",
    "loud": "a loud error, as it should be",
    "silent": "the head is dropped without an error",
    "empty": "an empty reply",
    "broken": "the server breaks",
    "hang": "no answer in time",
}

"""Context truth: what really fits, measured by prompts of growing size (PROTOCOLS R21)."""

from __future__ import annotations

import math
import secrets
from typing import Literal, NamedTuple

from pytest_agentlimit.chat.messages import ChatReply
from pytest_agentlimit.endpoints.probing import fixes
from pytest_agentlimit.endpoints.probing.probe import (
    Bench,
    Fix,
    Found,
    fault,
    ok,
    unknown,
)
from pytest_agentlimit.endpoints.probing.talk import empty, user
from pytest_agentlimit.endpoints.probing.wire import OutOfBudget
from pytest_agentlimit.errors import (
    DeadlineExceeded,
    EndpointError,
    HTTPFailure,
    StreamFailure,
)

Outcome = Literal["fits", "loud", "silent", "empty", "broken", "hang"]

MOST_REQUESTS = 8
NOTHING_CLAIMED = 16_384
"""Tokens that are tried when nobody says how large the context is."""
_CLOSE = 1.1
_FIRST_UNITS = 40
_UNIT = "The sea is calm and the wind is low today. "
_CHARACTERS_PER_TOKEN = 4
_QUESTION = 16
"""Tokens that the frame of a prompt has more than the greeting it is compared with, about."""
_TRUNCATED, _TRUNCATED_EXACTLY = 0.9, 0.97
"""A prompt counted as less than this share of its size has lost a part; the second holds when the
size is known from a large prompt.
"""
_HONEST = 0.98
"""Servers round their context; a claim this close to it is honest."""
_SLOW_FACTOR = 8
_ANSWER = 16


class Point(NamedTuple):
    """One prompt: its size in units and in tokens, what became of it, and the stated limit."""

    units: int
    tokens: int
    outcome: Outcome
    limit: int | None = None
    seconds: float = 0.0
    patience_s: float = 0.0
    """How long an answer was waited for."""


def measure(bench: Bench) -> Found:
    """What is declared or advertised really fits; an overflow is a loud error."""
    return _Meter(bench).run()


class _Meter:
    """At most eight prompts, each with a word at its head that the model is asked for."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        claims = (bench.spec.context_window, bench.facts["context_advertised"])
        self._claimed = min((claim for claim in claims if claim), default=None)
        self._aim = self._claimed or NOTHING_CLAIMED
        usage = bench.replies["text"].usage
        self._base = (usage.input_tokens or 0) + _QUESTION
        self._truncated = _TRUNCATED
        self._counted = usage.input_tokens is not None
        self._per_unit = len(_UNIT) / _CHARACTERS_PER_TOKEN
        self._asked = 0
        self._recalls = False
        self._unit_s = 0.0
        self._least_s = bench.patience_s(bench.request(max_tokens=_ANSWER, messages=()))

    def run(self) -> Found:
        self._bench.facts["context_estimated"] = not self._counted
        first = self._ask(_FIRST_UNITS)
        if first.outcome != "fits":
            return unknown("the model says nothing to a short prompt with a word to remember")
        self._unit_s = first.seconds / first.units
        if self._counted:
            self._per_unit = max(1.0, (first.tokens - self._base) / _FIRST_UNITS)
        try:
            top = self._ask(self._units(0.95 * self._aim))
        except OutOfBudget as limit:
            self._bench.facts["context_at_least"] = first.tokens
            return unknown(f"at least {first.tokens} tokens fit; {limit}")
        if top.outcome == "fits":
            return self._fits(top)
        return self._judged(*self._bisected(first, top))

    def _bisected(self, low: Point, high: Point) -> tuple[Point, Point]:
        """Return the largest prompt that fitted and the smallest that did not."""
        while self._open(low, high):
            try:
                middle = self._ask(round(math.sqrt(low.units * high.units)))
            except OutOfBudget:
                break
            low, high = (middle, high) if middle.outcome == "fits" else (low, middle)
        return low, high

    def _open(self, low: Point, high: Point) -> bool:
        """Return True while another prompt would tell more."""
        known = high.limit is not None or self._seen(high)
        done = known or high.outcome == "hang" or high.units <= _CLOSE * low.units
        return not done and self._asked < MOST_REQUESTS

    def _fits(self, top: Point) -> Found:
        """Return the verdict on a claim that holds; one prompt more shows what lies beyond."""
        facts = self._bench.facts
        facts["context_measured"] = top.tokens
        if self._claimed is None:
            return ok(f"at least {top.tokens} tokens fit{self._how}")
        if self._counted and top.units > _FIRST_UNITS:
            self._per_unit = max(1.0, (top.tokens - self._base) / top.units)
            self._truncated = _TRUNCATED_EXACTLY
        try:
            beyond = self._ask(self._units(1.08 * self._aim))
        except OutOfBudget:
            return ok(f"{top.tokens} tokens fit{self._how}")
        limit = beyond.limit or (beyond.tokens if self._seen(beyond) else None)
        if limit is not None and limit < _HONEST * self._aim:
            return self._judged(top, beyond)
        facts["overflow"] = None if beyond.outcome == "fits" else beyond.outcome
        more = beyond.tokens if beyond.outcome == "fits" else top.tokens
        facts["context_measured"] = measured = limit or more
        return ok(f"{measured} tokens fit{self._how}; beyond: {_BEYOND[beyond.outcome]}")

    def _seen(self, high: Point) -> bool:
        """Return True when the server's own count shows how much of a prompt was left."""
        return high.outcome == "silent" and self._counted

    def _judged(self, low: Point, high: Point) -> Found:
        facts = self._bench.facts
        measured = high.limit or (high.tokens if self._seen(high) else low.tokens)
        known = "context_at_least" if high.outcome == "hang" else "context_measured"
        facts[known], facts["overflow"] = measured, high.outcome
        where = f"from {measured} tokens on{self._how}"
        claim = f"{self._aim} are claimed" if self._claimed else "no context is declared"
        larger = fixes.larger_context(self._bench, self._claimed or NOTHING_CLAIMED)
        if high.outcome == "loud":
            if self._claimed is None:
                return ok(f"{measured} tokens fit{self._how}; beyond: {_BEYOND['loud']}")
            message = f"{claim}, and {measured} fit{self._how}"
            return fault("context_smaller", message, blame="config", fix=larger)
        if high.outcome == "silent":
            message = f"the head of a prompt is dropped without an error {where}; {claim}"
            return fault("silent_truncation", message, blame="config", fix=larger)
        if high.outcome == "empty":
            return fault("empty_on_overflow", f"empty replies {where}; {claim}", fix=larger)
        if high.outcome == "broken":
            return fault("breaks_on_long", f"the server breaks {where}; {claim}", fix=larger)
        return self._hung(high)

    def _patience(self, units: int) -> float:
        """Return the seconds in which a prompt must be answered, from the time a short one took."""
        return max(self._least_s, self._unit_s * units * _SLOW_FACTOR)

    def _hung(self, high: Point) -> Found:
        """Return a fault when a prompt had all the time that its size explains."""
        patience = self._patience(high.units)
        size = f"a prompt of {high.tokens} tokens{self._how}"
        if high.patience_s < patience:
            return unknown(f"{size} was not answered in {high.seconds:.1f} s: slow, or hanging")
        fix = Fix(sentence="Look at the server's log; warm it up at this length, or send less")
        message = f"{size} hangs: no answer in {high.seconds:.1f} s"
        return fault("hangs_on_long", message, fix=fix)

    @property
    def _how(self) -> str:
        return "" if self._counted else " (estimated: 4 characters a token)"

    def _units(self, tokens: float) -> int:
        return max(_FIRST_UNITS, int((tokens - self._base - _ANSWER) / self._per_unit))

    def _expected(self, units: int) -> int:
        return self._base + round(units * self._per_unit)

    def _ask(self, units: int) -> Point:
        """Return what becomes of a prompt of `units` sentences."""
        self._asked += 1
        word = f"k{secrets.randbelow(9000) + 1000}"
        turn = user(
            f"The secret word is {word}. Remember it.\n{_UNIT * units}\n"
            "What is the secret word? Answer with the word alone."
        )
        request = self._bench.request(max_tokens=_ANSWER, messages=(turn,), stream=False)
        wire = self._bench.wire
        begun, left, patience = wire.seconds, wire.left_s, self._patience(units)
        try:
            reply = self._bench.ask(f"context {units}", request, patience)
        except (HTTPFailure, StreamFailure, DeadlineExceeded) as error:
            if self._asked == 1:
                raise
            point = Point(units, self._expected(units), _failure(error), fixes.stated_limit(error))
        else:
            point = self._point(units, reply, word)
        return point._replace(seconds=wire.seconds - begun, patience_s=min(patience, left))

    def _point(self, units: int, reply: ChatReply, word: str) -> Point:
        expected, counted = self._expected(units), reply.usage.input_tokens
        tokens = expected if counted is None else counted
        first = self._asked == 1
        if first:
            self._recalls = word in reply.text + reply.thinking
        elif counted is not None and counted < self._truncated * expected:
            return Point(units, counted, "silent")
        if reply.stop_reason == "context_overflow":
            return Point(units, tokens, "loud")
        # A model that ends its reply at once has generated the mark of the end: one token.
        if empty(reply) and not reply.usage.output_tokens:
            return Point(units, tokens, "empty")
        forgot = self._recalls and word not in reply.text + reply.thinking
        if forgot and counted is None:
            return Point(units, tokens, "silent")
        return Point(units, tokens, "fits")


_BEYOND: dict[Outcome, str] = {
    "fits": "more fits",
    "loud": "a loud error, as it should be",
    "silent": "the head is dropped without an error",
    "empty": "an empty reply",
    "broken": "the server breaks",
    "hang": "no answer in time",
}


def _failure(error: EndpointError) -> Outcome:
    if isinstance(error, DeadlineExceeded):
        return "hang"
    overflow = error.kind == "context_overflow" or "(context_overflow)" in str(error)
    return "loud" if overflow or fixes.stated_limit(error) else "broken"

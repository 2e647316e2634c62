"""One prompt of a wanted size, with a word at its head, and what becomes of it (PROTOCOLS R21)."""

from __future__ import annotations

import secrets
from typing import Literal, NamedTuple

from pytest_agentlimit.chat.messages import ChatReply
from pytest_agentlimit.endpoints.probing import fixes
from pytest_agentlimit.endpoints.probing.probe import Bench
from pytest_agentlimit.endpoints.probing.talk import empty, user
from pytest_agentlimit.errors import (
    DeadlineExceeded,
    EndpointError,
    HTTPFailure,
    StreamFailure,
)

Outcome = Literal["fits", "loud", "silent", "empty", "broken", "hang"]

ANSWER = 16
"""max_tokens of an answer."""
_UNIT = "The sea is calm and the wind is low today. "
_CHARACTERS_PER_TOKEN = 4
_QUESTION = 16
"""Tokens that the frame of a prompt has more than the greeting it is compared with, about."""
_TRUNCATED, _TRUNCATED_EXACTLY = 0.9, 0.97
"""A prompt counted as less than this share of its size has lost a part; the second holds when the
size is known from a large prompt.
"""
_PLAUSIBLE = 1.25
"""A refused prompt may be smaller than the stated limit by this much: sizes are estimates."""
_SLOW_FACTOR = 8


class Point(NamedTuple):
    """One prompt: its size in units and in tokens, what became of it, and the stated limit."""

    units: int
    tokens: int
    outcome: Outcome
    limit: int | None = None
    seconds: float = 0.0
    patience_s: float = 0.0
    """How long an answer was waited for."""


class Needle:
    """Asks prompts of so many units; sizes are the server's own counts where it counts."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        usage = bench.replies["text"].usage
        self._base = (usage.input_tokens or 0) + _QUESTION
        self._per_unit = len(_UNIT) / _CHARACTERS_PER_TOKEN
        self._truncated = _TRUNCATED
        self._recalls: bool | None = None
        self._least_s = bench.patience_s(bench.request(max_tokens=ANSWER, messages=()))
        self.counted = usage.input_tokens is not None
        self.asked = 0
        self.unit_s = 0.0
        """Seconds that the server takes to read a unit, about: of the last prompt that fitted."""

    @property
    def how(self) -> str:
        """How sizes are known, for the end of a sentence."""
        return "" if self.counted else " (estimated: 4 characters a token)"

    def units(self, tokens: float) -> int:
        """Return how many units make a prompt of `tokens`."""
        return max(1, int((tokens - self._base) / self._per_unit))

    def patience(self, units: int) -> float:
        """Return the seconds in which a prompt must be answered, from the time of shorter ones."""
        return max(self._least_s, self.unit_s * units * _SLOW_FACTOR)

    def calibrate(self, fitted: Point, *, exactly: bool = False) -> None:
        """Take the size of a unit from a prompt that fitted; `exactly` from a large one."""
        if self.counted:
            self._per_unit = max(1.0, (fitted.tokens - self._base) / fitted.units)
            self._truncated = _TRUNCATED_EXACTLY if exactly else _TRUNCATED

    def ask(self, units: int, seconds: float | None = None) -> Point:
        """Return what becomes of a prompt of `units` sentences, waited for `seconds` at most.

        A first prompt that fails without a stated limit raises: nothing is known to fit then.
        """
        self.asked += 1
        word = f"k{secrets.randbelow(9000) + 1000}"
        turn = user(
            f"The secret word is {word}. Remember it.\n{_UNIT * units}\n"
            "What is the secret word? Answer with the word alone."
        )
        request = self._bench.request(max_tokens=ANSWER, messages=(turn,), stream=False)
        wire = self._bench.wire
        begun, left, patience = wire.seconds, wire.left_s, seconds or self.patience(units)
        try:
            reply = self._bench.ask(f"context {units}", request, patience)
        except (HTTPFailure, StreamFailure, DeadlineExceeded) as error:
            limit = self._limit(error, units)
            if self._recalls is None and limit is None:
                raise
            point = Point(units, self._expected(units), _failure(error), limit)
        else:
            point = self._point(units, reply, word)
            if point.outcome == "fits":
                self._fitted(point, reply)
        return point._replace(seconds=wire.seconds - begun, patience_s=min(patience, left))

    def _fitted(self, point: Point, reply: ChatReply) -> None:
        self.unit_s = reading_s(reply) / point.units
        facts = self._bench.facts
        facts["context_fits"] = max(facts["context_fits"] or 0, point.tokens)

    def _expected(self, units: int) -> int:
        return self._base + round(units * self._per_unit)

    def _limit(self, error: EndpointError, units: int) -> int | None:
        limit = fixes.stated_limit(error)
        return limit if limit and limit <= _PLAUSIBLE * self._expected(units) else None

    def _point(self, units: int, reply: ChatReply, word: str) -> Point:
        expected, counted = self._expected(units), reply.usage.input_tokens
        tokens = expected if counted is None else counted
        recalled = word in reply.text + reply.thinking
        if self._recalls is None:
            self._recalls = recalled
        elif counted is not None and counted < self._truncated * expected:
            return Point(units, counted, "silent")
        if reply.stop_reason == "context_overflow":
            return Point(units, tokens, "loud")
        # A model that ends its reply at once has generated the mark of the end: one token.
        if empty(reply) and not reply.usage.output_tokens:
            return Point(units, tokens, "empty")
        if self._recalls and not recalled and counted is None:
            return Point(units, tokens, "silent")
        return Point(units, tokens, "fits")


def reading_s(reply: ChatReply) -> float:
    """Return the seconds before a reply was begun, or all it took where the server does not say."""
    server = reply.timing.server
    return reply.timing.total_s - ((server.predicted_s if server else None) or 0.0)


def _failure(error: EndpointError) -> Outcome:
    if isinstance(error, DeadlineExceeded):
        return "hang"
    overflow = error.kind == "context_overflow" or "(context_overflow)" in str(error)
    return "loud" if overflow or fixes.stated_limit(error) else "broken"

"""A circuit breaker: an endpoint that fails is left alone for a while, then tried with one request.

What costs a client nothing but an error (refused, 5xx, 429, a leaked call) is tried three times.
What costs its patience, a wait for nothing or a reply that breaks off, opens the circuit at once:
agent programs repeat a failed request without a pause, and that second request must reach the
fallback instead of waiting for the same silence again, until the program's own time is up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from pytest_agentlimit.bridge.errors import Unusable
from pytest_agentlimit.endpoints.fallback import moves_on, overflowed
from pytest_agentlimit.errors import EndpointError, HTTPFailure

CHEAP_IN_A_ROW = 3
PAUSE_S = 30.0
LONGEST_PAUSE_S = 300.0
"""More than this is granted to no server, whatever its Retry-After says."""

_COSTLY = frozenset({"hung", "stalled", "slow", "connect_timeout"})


class Ticket(NamedTuple):
    """A request that was let through; only the results of the present `era` count."""

    era: int
    probe: bool


class Breaker:
    """Closed, open for a while, then half open: one request is a probe, and its result decides.

    After `enter` come `succeeded` or `failed`, when there is a result, and `left` in any case. For
    one thread; `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._in_a_row = 0
        self._until: float | None = None  # None: closed
        self._probing = False
        self._era = 0

    @property
    def admits(self) -> bool:
        """True when a request may go: the circuit is closed, or it is time for a probe."""
        return self._until is None or (not self._probing and self._clock() >= self._until)

    def enter(self) -> Ticket:
        """Return the ticket of a request that goes, whether it was admitted or not."""
        probe = self._until is not None
        self._probing = probe
        return Ticket(self._era, probe)

    def succeeded(self, ticket: Ticket) -> None:
        """Take a whole reply: it closes the circuit."""
        if ticket.era == self._era:
            self._in_a_row = 0
            self._turn(None)

    def failed(self, ticket: Ticket, error: EndpointError, *, begun: bool) -> None:
        """Take a failure; `begun`: a part of the reply had reached the client.

        What is the request's fault, or the model's, says nothing about the endpoint.
        """
        unlucky = isinstance(error, Unusable) and error.kind != "leaked_call"
        others = not moves_on(error) or overflowed(error) or unlucky
        if others or ticket.era != self._era:
            return
        self._in_a_row += 1
        pause_s = _asked_for(error)
        costly = begun or error.kind in _COSTLY
        if ticket.probe or costly or pause_s or self._in_a_row >= CHEAP_IN_A_ROW:
            self._turn(self._clock() + min(pause_s or PAUSE_S, LONGEST_PAUSE_S))

    def left(self, ticket: Ticket) -> None:
        """Take the end of a request: without a result, the next one is the probe."""
        if ticket.probe and ticket.era == self._era:
            self._probing = False

    def _turn(self, until: float | None) -> None:
        if until is not None or self._until is not None:
            self._era += 1
        self._until = until
        self._probing = False


def _asked_for(error: EndpointError) -> float:
    """Return for how many seconds a server wants no requests; 0 when it did not say."""
    busy = isinstance(error, HTTPFailure) and error.status in (429, 503)
    return getattr(error, "retry_after_s", None) or 0.0 if busy else 0.0

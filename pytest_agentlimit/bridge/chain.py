"""Who answers a request: the upstream, or one of its fallbacks, in order.

After which failure the next is asked is said in `endpoints/fallback.py`; here is who is passed
over, and what is written down of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pytest_agentlimit.bridge.breaker import Breaker
from pytest_agentlimit.bridge.capture import AttemptRecord
from pytest_agentlimit.endpoints.fallback import moves_on, overflowed
from pytest_agentlimit.endpoints.literals import short_id
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.endpoints.upstream import Upstream
from pytest_agentlimit.errors import AgentLimitError, EndpointError

_LONGEST_NAME = 80


class Member:
    """One endpoint: its connections, its breaker, and a `name` that fits into a header."""

    def __init__(self, name: str, spec: EndpointSpec, clock: Callable[[], float]) -> None:
        self.name = name
        self.spec = spec
        self.upstream = Upstream(spec)
        self.breaker = Breaker(clock)


class Members:
    """A primary and its fallbacks, for one event loop; closed with `aclose`.

    Raises UsageProblem for an address or headers that nothing can be sent with.
    """

    def __init__(
        self, specs: Sequence[EndpointSpec], clock: Callable[[], float] = time.monotonic
    ) -> None:
        named = zip(_names(specs), specs, strict=True)
        self.all = tuple(Member(name, spec, clock) for name, spec in named)

    @property
    def primary(self) -> Member:
        """The one that is asked first."""
        return self.all[0]

    @property
    def several(self) -> bool:
        """True when there are fallbacks."""
        return len(self.all) > 1

    def likely(self) -> list[Member]:
        """Return all of them in order, those whose circuit is open at the end."""
        return sorted(self.all, key=lambda member: not member.breaker.admits)

    async def aclose(self) -> None:
        """Close the connections to all of them."""
        await asyncio.gather(*(member.upstream.aclose() for member in self.all))


class Round:
    """The way of one request through a chain; `attempts` says how it went so far.

    `last` is the name of who was asked last. `sent` tells whether the client has had a part of a
    reply, which ends the round.
    """

    def __init__(self, members: Members, sent: Callable[[], bool]) -> None:
        self.attempts: list[AttemptRecord] = []
        self.asked = 0
        self._members = members
        self._sent = sent
        self._overflow = 0
        self._place = 0
        self.last = ""

    def __iter__(self) -> Iterator[Member]:
        """Yield who is to be asked; the others are noted as passed over."""
        # Nobody is refused without asking: behind open circuits there may be life again.
        anybody = not any(member.breaker.admits for member in self._members.all)
        for place, member in enumerate(self._members.all):
            self._place = place
            window = member.spec.context_window
            if window is not None and window <= self._overflow:
                self.attempts.append(_passed_over(member, "context_smaller"))
            elif not (anybody or member.breaker.admits):
                self.attempts.append(_passed_over(member, "circuit_open"))
            else:
                self.asked += 1
                self.last = member.name
                yield member

    @property
    def others_left(self) -> bool:
        """True when somebody may be asked after the one who was asked last."""
        later = self._members.all[self._place + 1 :]
        return any(member.breaker.admits for member in later)

    @contextmanager
    def asking(self, member: Member) -> Iterator[None]:
        """Note what becomes of the block, which asks `member`, here and in its breaker."""
        ticket = member.breaker.enter()
        began = time.perf_counter()
        kind: str | None = "cancelled"
        try:
            yield
            kind = None
            member.breaker.succeeded(ticket)
        except EndpointError as failure:
            kind = failure.kind
            member.breaker.failed(ticket, failure, begun=self._sent())
            if overflowed(failure):
                self._overflow = max(self._overflow, member.spec.context_window or 0)
            raise
        except AgentLimitError:
            kind = "config"
            raise
        finally:
            member.breaker.left(ticket)
            seconds = time.perf_counter() - began
            self.attempts.append(AttemptRecord(name=member.name, kind=kind, seconds=seconds))

    def goes_on(self, failure: AgentLimitError) -> bool:
        """Return True when the next may be asked after `failure`."""
        endpoints = isinstance(failure, EndpointError) and moves_on(failure)
        return endpoints and not self._sent()

    def told(self) -> str:
        """Return how many were asked, and who failed last, for the end of an error message."""
        if not self._members.several:
            return ""
        members = len(self._members.all)
        return f" ({self.asked} of {members} endpoints asked, {self.last} failed last)"


def _passed_over(member: Member, kind: str) -> AttemptRecord:
    return AttemptRecord(name=member.name, kind=kind, seconds=0.0)


def _names(specs: Sequence[EndpointSpec]) -> list[str]:
    """Return a name for each, no two alike."""
    told: list[str] = []
    for spec in specs:
        name = shown = short_id(spec.name)[:_LONGEST_NAME]
        number = 1
        while shown in told:
            number += 1
            shown = f"{name}-{number}"
        told.append(shown)
    return told

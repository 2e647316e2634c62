"""The line to an endpoint under diagnosis: every request counted, and none longer than allowed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pytest_agentlimit.chat.messages import ChatReply, ChatRequest
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.spec import Deadlines

_LEAST_S = 0.2
"""With less time left than this, a request is not sent."""


@dataclass(frozen=True)
class Budget:
    """How long a diagnosis may take, in seconds, and how many requests it may send."""

    total_s: float = 60.0
    list_s: float = 5.0
    """For each request that generates nothing."""
    first_s: float = 30.0
    """For the first request that generates: the model may have to be loaded."""
    call_s: float = 20.0
    cold_s: float = 3.0
    """A first call that is slower than the second by this much is a cold start."""
    quick_requests: int = 12
    full_requests: int = 36


class OutOfBudget(Exception):
    """The time or the requests of a diagnosis are used up."""


class Wire:
    """An endpoint's client with every request counted and held to what is left of the budget."""

    def __init__(self, client: EndpointClient, budget: Budget, limit: int) -> None:
        self._client = client
        self._own = client.spec
        self._started = time.monotonic()
        self.budget = budget
        self.limit = limit
        self.requests = 0
        self.hurried = False
        """Whether the last request had less time than it was meant to have."""
        self.spec = client.spec

    @property
    def seconds(self) -> float:
        """How long the diagnosis has taken."""
        return time.monotonic() - self._started

    @property
    def left_s(self) -> float:
        """How many seconds are left."""
        return self.budget.total_s - self.seconds

    def get_json(
        self, path: str, *, from_root: bool = False, body: dict[str, Any] | None = None
    ) -> Any:
        """Return the JSON of a route, as EndpointClient.get_json."""
        self.take(self.budget.list_s)
        return self._client.get_json(path, from_root=from_root, body=body)

    def send(self, request: ChatRequest, seconds: float | None = None) -> ChatReply:
        """Return the reply to `request`, asked for within `seconds` at most."""
        self.take(self.budget.call_s if seconds is None else seconds)
        return self._client.send(request)

    def send_counted(self, request: ChatRequest) -> ChatReply:
        """Return the reply to a request that `take` has counted; from any thread."""
        return self._client.send(request)

    def take(self, seconds: float, count: int = 1) -> None:
        """Count `count` requests and bound the client's; OutOfBudget when there is no room."""
        if self.left_s < _LEAST_S:
            raise OutOfBudget(f"the {self.budget.total_s:g} s for this diagnosis are used up")
        if self.requests + count > self.limit:
            raise OutOfBudget(f"the {self.limit} requests for this diagnosis are used up")
        self.requests += count
        self.hurried = self.left_s < seconds
        self._bound(min(seconds, self.left_s))

    def release(self) -> None:
        """Give the client its own deadlines back."""
        self._client.spec = self._own

    def _bound(self, seconds: float) -> None:
        own = self._own.deadlines
        limits = Deadlines(
            connect_s=min(own.connect_s, seconds),
            first_byte_s=min(own.first_byte_s, seconds),
            between_chunks_s=min(own.between_chunks_s, seconds),
            total_s=min(own.total_s, seconds),
        )
        bounded = self._own.model_copy(update={"deadlines": limits, "retries": 0})
        self._client.spec = self.spec = bounded

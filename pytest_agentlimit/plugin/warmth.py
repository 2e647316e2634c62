"""When a run warms an endpoint up, and what is said of it (METHOD 4.4).

A client that a conftest.py makes is left alone: it may play a recording.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pluggy

    from pytest_agentlimit.endpoints.client import EndpointClient
    from pytest_agentlimit.endpoints.spec import EndpointSpec
    from pytest_agentlimit.endpoints.warmup import Warmed, WarmUp

    from .context import ModelUnderTest, RunContext

IDLE_S = 300.0
"""Without a call for so long, a model may have been unloaded (Ollama does it by then)."""


class IdleWatch:
    """Knows for how long this process has called no model; other processes are not seen."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._used: dict[str, float] = {}

    def used(self, name: str) -> None:
        """Note that a model has just been called."""
        self._used[name] = self._clock()

    def is_long(self, name: str) -> bool:
        """Return whether the model has been idle for five minutes."""
        return self._clock() - self._used.get(name, self._began) >= IDLE_S


def warm_all(
    context: RunContext, nodeids: Iterable[str], hook: pluggy.HookRelay
) -> dict[str, WarmUp]:
    """Warm up each model that has a trial among `nodeids`; return what was seen of each."""
    from pytest_agentlimit.endpoints.warmup import warm_up
    from pytest_agentlimit.runs.expected import expected_trial

    candidates = [model for model in context.models if model.can_be_cold]
    if not candidates or replaced(hook):
        return {}
    names = [model.name for model in context.models]
    asked = {expected_trial(nodeid, names).model for nodeid in nodeids}
    seen = {}
    for model in candidates:
        if model.name in asked:
            seen[model.name] = warm_up(context.spec(model.name), _connect(context, model))
            context.idle.used(model.name)
    return seen


def warm_again(
    context: RunContext, name: str, client: EndpointClient, hook: pluggy.HookRelay
) -> float | None:
    """Return the seconds of a call that ends five idle minutes, None when none was needed.

    The call belongs to no trial. One that fails is None too: the trial will meet the same failure.
    """
    if not context.model(name).can_be_cold or not context.idle.is_long(name) or replaced(hook):
        return None
    from pytest_agentlimit.endpoints.warmup import call_once
    from pytest_agentlimit.errors import AgentLimitError

    try:
        return call_once(client).timing.total_s
    except AgentLimitError:
        return None


def warm_up_note(name: str, seen: WarmUp) -> str:
    """Return what a warm-up saw in one sentence; every number in it is of a single call."""
    from pytest_agentlimit.text import one_line

    said = f"{one_line(name, 80)}: "
    base = seen.lengths[0]
    if base.first_s is None:
        return f"{said}the warm-up failed, so the first trial may be slow: {base.error}"
    said += f"{'cold start' if seen.cold else 'warm-up call'} {_short(base.first_s)}"
    if seen.cold and seen.load_s is not None:
        said += f", of which {_short(seen.load_s)} for loading the model"
    said += " (one call, not in any latency)"
    pairs = [_pair(length) for length in seen.lengths if length.second_s is not None]
    if pairs:
        said += f"; first/second call at a prompt length: {', '.join(pairs)}"
    if seen.compiles_per_length:
        said += "; the server compiles per length: a trial of another length may pay for it"
    return said + _trouble(seen.lengths)


def _trouble(lengths: tuple[Warmed, ...]) -> str:
    """Return what the last length came to, when that was no reply."""
    last = lengths[-1]
    if last.error is None:
        return ""
    answered = [length for length in lengths if length.first_s is not None]
    before = f"answers {answered[-1].tokens} tokens in {_short(answered[-1].first_s)}; "
    return f"; {before}{last.tokens} tokens: {last.error}"


def _pair(length: Warmed) -> str:
    return f"{length.tokens} tokens {_short(length.first_s)}/{_short(length.second_s)}"


def _short(seconds: float | None) -> str:
    from pytest_agentlimit.reports import numbers

    return numbers.NOTHING if seconds is None else numbers.duration(1000 * seconds)


def _connect(
    context: RunContext, model: ModelUnderTest
) -> Callable[[EndpointSpec], EndpointClient]:
    """Return what makes clients that wait their turn, and whose calls nobody records."""
    from pytest_agentlimit.endpoints.client import EndpointClient
    from pytest_agentlimit.endpoints.inflight import turnstile_for

    def connect(spec: EndpointSpec) -> EndpointClient:
        line = turnstile_for(spec, model.max_inflight, context.board.lock_folder)
        return EndpointClient(spec, turnstile=line)

    return connect


def replaced(hook: pluggy.HookRelay) -> bool:
    """Return whether a hook of the project makes the clients: they may play a recording."""
    return bool(hook.pytest_agentlimit_make_client.get_hookimpls())

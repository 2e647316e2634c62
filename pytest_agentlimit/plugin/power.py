"""The energy of a run, where this machine can tell it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_agentlimit.endpoints.energy import MIN_WINDOW_S, EnergyMeter, best_meter, power_w
from pytest_agentlimit.endpoints.outgoing import is_loopback
from pytest_agentlimit.runs.energy import EnergyUse

if TYPE_CHECKING:
    from .context import RunContext


class Power:
    """Measures one window: from before the first trial to after the last.

    Only for a run of one model, served by this machine: with several, the counters mix them.
    """

    def __init__(
        self,
        context: RunContext,
        *,
        meter_for: Callable[..., EnergyMeter | None] = best_meter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._context = context
        self._meter_for = meter_for
        self._sleep = sleep
        self._meter: EnergyMeter | None = None

    def start(self) -> None:
        """Begin, after a moment of idleness that a counter needs to know what idle costs."""
        if self._meter is not None or len(self._context.models) != 1:
            return
        spec = self._context.spec(self._context.models[0].name)
        local = spec.kind == "embedded" or is_loopback(urlsplit(spec.base_url).hostname or "")
        self._meter = self._meter_for(spec, local)
        if self._meter is None:
            return
        idle_w = None
        if self._meter.tells_idle:
            self._meter.start()
            self._sleep(1.05 * MIN_WINDOW_S)
            idle_w = power_w(self._meter.stop())
        self._meter.start(idle_w)

    def stop(self) -> dict[str, EnergyUse]:
        """Return what was used, by model; empty when it was not measured."""
        reading = None if self._meter is None else self._meter.stop()
        if reading is None:
            return {}
        use = EnergyUse(
            joules=reading.joules,
            source=reading.source,
            idle_w=reading.idle_w,
            window_s=reading.window_s,
        )
        return {self._context.models[0].name: use}

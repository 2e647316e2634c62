"""The energy that this machine spent over a window of time (METHOD 8).

A GPU or the processor counts it; a configured power makes an estimate of it, labelled so. What
none of them can tell is None: not measured.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pytest_agentlimit.endpoints.nvml import open_devices
from pytest_agentlimit.endpoints.spec import EndpointSpec

Source = Literal["nvml", "rapl", "estimate from watts"]

MIN_WINDOW_S = 2.0
"""Shorter windows are not measured: counters move in steps, and idle power is noisy."""
SAMPLE_S = 20.0
"""Seconds between looks at a counter that wraps: the smallest range, 65 kJ, lasts for that long
at 3 kW."""
_POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class EnergyReading:
    """What one window cost."""

    joules: float
    """Above idle when `idle_w` is set, else all of it."""
    source: Source
    idle_w: float | None
    """The idle power that was taken off, watts."""
    window_s: float


class EnergyMeter(Protocol):
    """Measures one window at a time: `start`, then `stop`.

    For energy above idle, measure a window of at least MIN_WINDOW_S without work first, and start
    the next one with its `power_w`.
    """

    tells_idle: bool
    """Whether idle power can be told from the rest; an estimate cannot."""

    def start(self, idle_w: float | None = None) -> None:
        """Begin a window; `idle_w` watts of it will not count. A window under way is dropped."""
        ...

    def stop(self) -> EnergyReading | None:
        """Return the reading since `start`; None when it is not measured.

        So it is under MIN_WINDOW_S, when a counter failed, and when no more was used than idle.
        """
        ...


def power_w(reading: EnergyReading | None) -> float | None:
    """Return the mean power of a window in watts, to be the idle power of the next one."""
    return None if reading is None else reading.joules / reading.window_s


class _Meter:
    """A meter over `total_j`, the joules used since some moment; None when it cannot be told."""

    def __init__(
        self,
        source: Source,
        total_j: Callable[[], float | None],
        clock: Callable[[], float],
        *,
        tells_idle: bool = True,
    ) -> None:
        self._source: Source = source
        self._total_j = total_j
        self._clock = clock
        self.tells_idle = tells_idle
        self._began: tuple[float, float | None, float | None] | None = None

    def start(self, idle_w: float | None = None) -> None:
        """Begin a window (see EnergyMeter)."""
        self._began = (self._clock(), self._total_j(), idle_w if self.tells_idle else None)

    def stop(self) -> EnergyReading | None:
        """Return the reading since `start` (see EnergyMeter)."""
        if self._began is None:
            return None
        (since_s, before_j, idle_w), self._began = self._began, None
        after_j, window_s = self._total_j(), self._clock() - since_s
        if before_j is None or after_j is None or window_s < MIN_WINDOW_S:
            return None
        joules = after_j - before_j - (idle_w or 0.0) * window_s
        return EnergyReading(joules, self._source, idle_w, window_s) if joules > 0 else None


class _Zones:
    """The RAPL counters of a machine, added up over their wraps."""

    def __init__(self, ranges: dict[Path, int]) -> None:
        self._ranges = ranges
        self._last: dict[Path, int] = {}
        self._total_uj = 0
        self._lock = threading.Lock()

    def total_j(self) -> float | None:
        """Return the joules since the first call, None when a counter cannot be read."""
        with self._lock:
            for zone, size in self._ranges.items():
                now = _number(zone / "energy_uj")
                if now is None:
                    return None
                step = now - self._last.get(zone, now)
                self._total_uj += step if step >= 0 else step + size
                self._last[zone] = now
            return self._total_uj / 1e6


class _RaplMeter(_Meter):
    """A meter that looks at its counters often enough not to miss a wrap."""

    def __init__(self, zones: _Zones, clock: Callable[[], float], sample_s: float) -> None:
        super().__init__("rapl", zones.total_j, clock)
        self._sample_s = sample_s
        self._done: threading.Event | None = None

    def start(self, idle_w: float | None = None) -> None:
        """Begin a window and the looking."""
        self._rest()
        super().start(idle_w)
        self._done = threading.Event()
        threading.Thread(target=self._look, args=(self._done,), daemon=True).start()

    def stop(self) -> EnergyReading | None:
        """End both."""
        self._rest()
        return super().stop()

    def _rest(self) -> None:
        if self._done is not None:
            self._done.set()
            self._done = None

    def _look(self, done: threading.Event) -> None:
        while not done.wait(self._sample_s):
            self._total_j()


def nvml_meter(clock: Callable[[], float] = time.monotonic) -> EnergyMeter | None:
    """Return a meter of all NVIDIA GPUs of this machine, None when they do not count energy."""
    devices = open_devices()
    if devices is None or devices.energy_j() is None:
        return None
    return _Meter("nvml", devices.energy_j, clock)


def rapl_meter(
    root: Path = _POWERCAP,
    clock: Callable[[], float] = time.monotonic,
    sample_s: float = SAMPLE_S,
) -> EnergyMeter | None:
    """Return a meter of the processors and their memory, None when a counter cannot be read.

    On most systems only root can read them. Counted are the zones `package-*` and `dram`: the
    others are parts of a package, or hold all of them.
    """
    ranges: dict[Path, int] = {}
    for zone in sorted(root.glob("intel-rapl:*")):
        name = _text(zone / "name")
        if name is None or not (name.startswith("package-") or name == "dram"):
            continue
        size = _number(zone / "max_energy_range_uj")
        if size is None or _number(zone / "energy_uj") is None:
            return None
        ranges[zone] = size
    return _RaplMeter(_Zones(ranges), clock, sample_s) if ranges else None


def estimate(watts: float, clock: Callable[[], float] = time.monotonic) -> EnergyMeter:
    """Return a meter that takes the machine to draw `watts` all the time; knows no idle power."""
    return _Meter("estimate from watts", lambda: watts * clock(), clock, tells_idle=False)


def best_meter(spec: EndpointSpec, local: bool) -> EnergyMeter | None:
    """Return the best meter there is for an endpoint; None when its energy is not measured.

    A counter comes before an estimate. `local` says that the endpoint is on this machine: energy
    spent elsewhere is not measured. An embedded model runs on the processor, a null model nowhere.
    """
    if not local or spec.kind == "null":
        return None
    counter = (None if spec.kind == "embedded" else nvml_meter()) or rapl_meter()
    if counter is not None or spec.watts is None:
        return counter
    return estimate(spec.watts)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.isdigit() else None

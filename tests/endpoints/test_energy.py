from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from nvml_kit import Gpu, fake_pynvml

from pytest_agentlimit.endpoints import energy
from pytest_agentlimit.endpoints.energy import (
    EnergyMeter,
    EnergyReading,
    best_meter,
    estimate,
    nvml_meter,
    power_w,
    rapl_meter,
)
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.testing import FakeClock

RANGE_UJ = 262_143_328_850


class Powercap:
    """A powercap tree as the kernel lays it out."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def zone(self, zone: str, name: str, energy_uj: int = 0) -> Path:
        folder = self.root / zone
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        self.set(zone, energy_uj)
        return folder

    def set(self, zone: str, energy_uj: int) -> None:
        (self.root / zone / "energy_uj").write_text(f"{energy_uj}\n")


@pytest.fixture
def powercap(tmp_path: Path) -> Powercap:
    return Powercap(tmp_path)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1000.0)


def metered(meter: EnergyMeter | None) -> EnergyMeter:
    assert meter is not None
    return meter


# rapl


def test_packages_and_dram_are_added_and_their_parts_are_not(
    powercap: Powercap, clock: FakeClock
) -> None:
    zones = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "uncore",
        "intel-rapl:0:2": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    for zone, name in zones.items():
        powercap.zone(zone, name, 5_000_000)
    meter = metered(rapl_meter(powercap.root, clock))
    meter.start()
    clock.advance(10)
    for number, zone in enumerate(zones):
        powercap.set(zone, 5_000_000 + 10**number * 1_000_000)
    assert meter.stop() == EnergyReading(1 + 1000 + 10_000, "rapl", None, 10)


def test_a_counter_that_wraps_goes_on(powercap: Powercap, clock: FakeClock) -> None:
    powercap.zone("intel-rapl:0", "package-0", RANGE_UJ - 40_000_000)
    meter = metered(rapl_meter(powercap.root, clock))
    meter.start()
    clock.advance(5)
    powercap.set("intel-rapl:0", 60_000_000)
    reading = meter.stop()
    assert reading is not None
    assert reading.joules == pytest.approx(100)


def test_two_wraps_in_one_window_are_both_seen(powercap: Powercap, clock: FakeClock) -> None:
    folder = powercap.zone("intel-rapl:0", "package-0", 0)
    looked = threading.Event()
    meter = metered(rapl_meter(powercap.root, clock, sample_s=0.001))
    zones: Any = meter

    def seen() -> float | None:
        found = total()
        looked.set()
        return found

    total = zones._total_j
    zones._total_j = seen
    meter.start()
    for value in (RANGE_UJ - 10, 20, RANGE_UJ - 10, 20):
        staged = folder / "staged"  # renamed into place: a counter is never seen half written
        staged.write_text(f"{value}\n")
        staged.rename(folder / "energy_uj")
        for _ in range(2):  # the first may have looked just before
            looked.clear()
            assert looked.wait(10)
    clock.advance(100)
    reading = meter.stop()
    assert reading is not None
    assert reading.joules == pytest.approx((2 * RANGE_UJ + 20) / 1e6)


@pytest.mark.parametrize("broken", ["energy_uj", "max_energy_range_uj"])
@pytest.mark.parametrize("content", [None, "", "x"])
def test_a_counter_that_cannot_be_read_makes_no_meter(
    powercap: Powercap, broken: str, content: str | None
) -> None:
    powercap.zone("intel-rapl:0", "package-0")
    folder = powercap.zone("intel-rapl:1", "package-1")
    (folder / broken).unlink()
    if content is not None:
        (folder / broken).write_text(content)
    assert rapl_meter(powercap.root) is None


def test_a_machine_without_rapl_has_no_meter(powercap: Powercap) -> None:
    assert rapl_meter(powercap.root) is None
    assert rapl_meter(powercap.root / "none") is None
    powercap.zone("intel-rapl:2", "psys")
    assert rapl_meter(powercap.root) is None


def test_a_counter_that_fails_on_the_way_measures_nothing(
    powercap: Powercap, clock: FakeClock
) -> None:
    folder = powercap.zone("intel-rapl:0", "package-0")
    meter = metered(rapl_meter(powercap.root, clock))
    meter.start()
    clock.advance(10)
    (folder / "energy_uj").unlink()
    assert meter.stop() is None


def test_no_thread_is_left(powercap: Powercap, clock: FakeClock) -> None:
    powercap.zone("intel-rapl:0", "package-0")
    meter = metered(rapl_meter(powercap.root, clock))
    before = set(threading.enumerate())
    meter.start()
    meter.start()
    meter.stop()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


# windows and idle power


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    device = Gpu(millijoules=7_000_000)
    monkeypatch.setitem(sys.modules, "pynvml", fake_pynvml(device))
    return device


def spend(meter: EnergyMeter, gpu: Gpu, clock: FakeClock, watts: float, seconds: float, **start):
    meter.start(**start)
    clock.advance(seconds)
    assert gpu.millijoules is not None
    gpu.millijoules += int(1000 * watts * seconds)
    return meter.stop()


def test_idle_power_is_taken_off(gpu: Gpu, clock: FakeClock) -> None:
    meter = metered(nvml_meter(clock))
    idle = spend(meter, gpu, clock, 30, 2)
    assert idle == EnergyReading(60, "nvml", None, 2)
    busy = spend(meter, gpu, clock, 250, 10, idle_w=power_w(idle))
    assert busy == EnergyReading(2200, "nvml", 30, 10)


def test_a_short_window_is_not_measured(gpu: Gpu, clock: FakeClock) -> None:
    meter = metered(nvml_meter(clock))
    assert spend(meter, gpu, clock, 300, 1.9) is None
    assert spend(meter, gpu, clock, 300, 2.0) is not None
    assert power_w(None) is None


def test_no_more_than_idle_is_not_measured(gpu: Gpu, clock: FakeClock) -> None:
    meter = metered(nvml_meter(clock))
    assert spend(meter, gpu, clock, 30, 10, idle_w=30) is None
    assert spend(meter, gpu, clock, 29, 10, idle_w=30) is None


def test_a_meter_that_was_not_started_has_no_reading(gpu: Gpu, clock: FakeClock) -> None:
    meter = metered(nvml_meter(clock))
    assert meter.stop() is None
    assert spend(meter, gpu, clock, 30, 10) is not None
    assert meter.stop() is None


def test_a_device_that_fails_on_the_way_measures_nothing(gpu: Gpu, clock: FakeClock) -> None:
    meter = metered(nvml_meter(clock))
    meter.start()
    clock.advance(10)
    gpu.millijoules = None
    assert meter.stop() is None


def test_all_gpus_count_or_none(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    one, other = Gpu(millijoules=0), Gpu(millijoules=0)
    monkeypatch.setitem(sys.modules, "pynvml", fake_pynvml(one, other))
    meter = metered(nvml_meter(clock))
    meter.start()
    clock.advance(4)
    one.millijoules, other.millijoules = 4000, 8000
    assert meter.stop() == EnergyReading(12, "nvml", None, 4)
    monkeypatch.setitem(sys.modules, "pynvml", fake_pynvml(one, Gpu(millijoules=None)))
    assert nvml_meter() is None


@pytest.mark.parametrize("module", [None, fake_pynvml(driver=False), fake_pynvml()])
def test_without_nvml_there_is_no_meter(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert nvml_meter() is None


def test_configured_watts_are_an_estimate_and_know_no_idle_power(clock: FakeClock) -> None:
    meter = estimate(65, clock)
    meter.start(idle_w=20)
    clock.advance(100)
    assert meter.stop() == EnergyReading(6500, "estimate from watts", None, 100)


# which meter


def spec_of(kind: str, **changes: Any) -> EndpointSpec:
    data = {"name": "m", "kind": kind, "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    return EndpointSpec.model_validate({**data, **changes})


def source_of(meter: EnergyMeter | None) -> str | None:
    found: Any = meter
    return None if found is None else found._source


@pytest.mark.parametrize(
    ("kind", "local", "gpu_here", "rapl_here", "watts", "source"),
    [
        ("remote", True, True, True, 65.0, "nvml"),
        ("remote", True, False, True, 65.0, "rapl"),
        ("remote", True, False, False, 65.0, "estimate from watts"),
        ("remote", True, False, False, None, None),
        ("remote", False, True, True, 65.0, None),
        ("embedded", True, True, True, None, "rapl"),
        ("embedded", True, True, False, 65.0, "estimate from watts"),
        ("embedded", True, True, False, None, None),
        ("null", True, True, True, 65.0, None),
    ],
)
def test_a_counter_of_the_right_device_comes_before_an_estimate(
    powercap: Powercap,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    local: bool,
    gpu_here: bool,
    rapl_here: bool,
    watts: float | None,
    source: str | None,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_pynvml(Gpu()) if gpu_here else None)
    if rapl_here:
        powercap.zone("intel-rapl:0", "package-0")
    monkeypatch.setattr(energy, "rapl_meter", lambda: rapl_meter(powercap.root))
    assert source_of(best_meter(spec_of(kind, watts=watts), local)) == source

"""A pynvml of our own, with devices that can be changed."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Gpu:
    free: int = 0
    total: int = 0
    millijoules: int | None = 0
    """None for a device that does not count."""


def fake_pynvml(*gpus: Gpu, driver: bool = True) -> types.ModuleType:
    """The functions of pynvml that this package calls; without a `driver` none works."""
    module = types.ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    def answering(answer: Callable[..., object]) -> Callable[..., object]:
        def asked(*handles: Gpu) -> object:
            found = answer(*handles) if driver else None
            if found is None:
                raise NVMLError("not here")
            return found

        return asked

    module.__dict__.update(
        NVMLError=NVMLError,
        nvmlInit=answering(lambda: True),
        nvmlDeviceGetCount=answering(lambda: len(gpus)),
        nvmlDeviceGetHandleByIndex=lambda number: gpus[number],
        nvmlDeviceGetMemoryInfo=answering(lambda gpu: gpu),
        nvmlDeviceGetTotalEnergyConsumption=answering(lambda gpu: gpu.millijoules),
    )
    return module

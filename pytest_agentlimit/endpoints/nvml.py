"""The NVIDIA devices of this machine, when the extra `energy` is installed and a driver answers."""

from __future__ import annotations

from typing import Any


class Devices:
    """Open NVML devices; a question that no device answers is answered with None."""

    def __init__(self, library: Any, handles: list[Any]) -> None:
        self._library = library
        self._handles = handles

    def memory(self) -> tuple[int, int, int] | None:
        """Return bytes free, bytes in all and the number of devices, over all devices."""
        found = self._asked("nvmlDeviceGetMemoryInfo")
        if not found:
            return None
        return sum(one.free for one in found), sum(one.total for one in found), len(found)

    def energy_j(self) -> float | None:
        """Return the joules that the devices have used since their driver was loaded.

        None unless every device counts: those before Volta do not.
        """
        found = self._asked("nvmlDeviceGetTotalEnergyConsumption")
        return sum(found) / 1000 if len(found) == len(self._handles) else None

    def _asked(self, question: str) -> list[Any]:
        answers = []
        for handle in self._handles:
            try:
                answers.append(getattr(self._library, question)(handle))
            except self._library.NVMLError:
                continue
        return answers


def open_devices() -> Devices | None:
    """Return the devices of this machine; None without the extra, a driver or a device."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(number)
            for number in range(pynvml.nvmlDeviceGetCount())
        ]
    except pynvml.NVMLError:
        return None
    return Devices(pynvml, handles) if handles else None

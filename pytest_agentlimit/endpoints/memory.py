"""How much memory there is for a model on this machine: VRAM when NVML tells it, else RAM."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, NamedTuple

from pytest_agentlimit.endpoints.nvml import open_devices

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


class Memory(NamedTuple):
    """Memory at hand, in bytes; `devices` is the number of GPUs whose memory is added up."""

    kind: Literal["VRAM", "RAM"]
    free: int
    total: int
    devices: int = 0


def memory_at_hand(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> Memory | None:
    """Return the memory a model can have here, None when the system does not tell.

    Of RAM, what programs can have without swapping counts as free, and the limit of a container
    counts as all there is.
    """
    devices = open_devices()
    vram = devices.memory() if devices else None
    if vram is not None:
        free, total, count = vram
        return Memory("VRAM", free, total, count)
    ram = _from_meminfo(meminfo) or _from_sysconf()
    return _within(ram, cgroup) if ram else None


def _from_meminfo(path: Path) -> Memory | None:
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    sizes = {name: 1024 * int(kib) for name, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.M)}
    if "MemAvailable" not in sizes or "MemTotal" not in sizes:
        return None
    return Memory("RAM", sizes["MemAvailable"], sizes["MemTotal"])


def _from_sysconf() -> Memory | None:
    """Return what POSIX tells; where it does not tell what is free, all of it is."""
    try:
        page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    return Memory("RAM", page * pages, page * pages) if page > 0 and pages > 0 else None


def _within(ram: Memory, cgroup: Path) -> Memory:
    """Return `ram` bounded by a container's limit (cgroup 2); cached files count as free."""
    try:
        limit = int((cgroup / "memory.max").read_text())  # "max" without a limit
        used = int((cgroup / "memory.current").read_text())
        stat = (cgroup / "memory.stat").read_text()
    except (OSError, ValueError):
        return ram
    if limit >= ram.total:
        return ram
    cached = sum(map(int, re.findall(r"^(?:in)?active_file (\d+)$", stat, re.M)))
    return Memory("RAM", max(0, min(ram.free, limit - used + cached)), limit)

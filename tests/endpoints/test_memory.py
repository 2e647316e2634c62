from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from nvml_kit import Gpu, fake_pynvml

from pytest_agentlimit.endpoints.memory import Memory, memory_at_hand

GIB = 1 << 30
MEMINFO = """\
MemTotal:       16777216 kB
MemFree:          524288 kB
MemAvailable:    8388608 kB
HugePages_Total:       0
"""


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text(MEMINFO)
    return path


def write_limit(folder: Path, limit: str, used: int, cached: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    stat = f"anon 1\nfile 99\ninactive_file {cached}\nactive_file 1024\nslab 7\n"
    (folder / "memory.stat").write_text(stat)
    return folder


def test_ram_is_what_programs_can_have(meminfo: Path, tmp_path: Path) -> None:
    assert memory_at_hand(meminfo, tmp_path / "none") == Memory("RAM", 8 * GIB, 16 * GIB)


def test_a_container_has_its_limit_and_files_in_its_cache_do_not_count(
    meminfo: Path, tmp_path: Path
) -> None:
    group = write_limit(tmp_path, str(4 * GIB), 3 * GIB + 1024, 2 * GIB)
    assert memory_at_hand(meminfo, group) == Memory("RAM", 3 * GIB, 4 * GIB)


@pytest.mark.parametrize("limit", ["max", str(64 * GIB), "?"])
def test_a_container_without_a_tighter_limit_has_all(
    meminfo: Path, tmp_path: Path, limit: str
) -> None:
    group = write_limit(tmp_path, limit, GIB, 0)
    assert memory_at_hand(meminfo, group) == Memory("RAM", 8 * GIB, 16 * GIB)


def test_a_full_container_has_nothing_free(meminfo: Path, tmp_path: Path) -> None:
    group = write_limit(tmp_path, str(GIB), 2 * GIB, 0)
    assert memory_at_hand(meminfo, group) == Memory("RAM", 0, GIB)


@pytest.mark.parametrize("text", [None, "", "MemTotal: 16777216 kB\n"])
def test_without_meminfo_posix_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "m").write_text(text)
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 20}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert memory_at_hand(tmp_path / "m", tmp_path) == Memory("RAM", 4 * GIB, 4 * GIB)
    monkeypatch.setattr(os, "sysconf", lambda name: -1)
    assert memory_at_hand(tmp_path / "m", tmp_path) is None


def test_vram_comes_first_and_adds_up(
    meminfo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = (Gpu(20 * GIB, 24 * GIB), Gpu(10 * GIB, 16 * GIB))
    monkeypatch.setitem(sys.modules, "pynvml", fake_pynvml(*gpus))
    assert memory_at_hand(meminfo, tmp_path) == Memory("VRAM", 30 * GIB, 40 * GIB, 2)


@pytest.mark.parametrize("broken", [fake_pynvml(driver=False), fake_pynvml()])
def test_without_a_driver_or_a_device_ram_counts(
    meminfo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: object
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    found = memory_at_hand(meminfo, tmp_path)
    assert found is not None
    assert found.kind == "RAM"

from __future__ import annotations

import fnmatch
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
SOURCES = {"pytest_agentlimit": ROOT / "pytest_agentlimit"} | {
    "pytest_agentlimit.example_suites": ROOT / "example_suites"
}


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_every_package_is_shipped() -> None:
    found = set()
    for name, folder in SOURCES.items():
        for init in folder.rglob("__init__.py"):
            parts = init.parent.relative_to(folder).parts
            found.add(".".join([name, *parts]))
    assert found == set(SETUPTOOLS["packages"])


@pytest.mark.parametrize("package", SOURCES)
def test_every_data_file_is_shipped(package: str) -> None:
    patterns = SETUPTOOLS["package-data"][package]
    folder = SOURCES[package]
    data = [path for path in tracked() if path.is_relative_to(folder) and path.suffix != ".py"]
    assert data
    for path in data:
        name = path.relative_to(folder).as_posix()
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name


def test_the_version_is_one() -> None:
    from pytest_agentlimit import __version__

    assert PYPROJECT["project"]["version"] == __version__


def test_no_file_names_a_registry_or_a_machine() -> None:
    homes = "|".join(("root", "work", "home/[a-z]"))
    address = re.compile(
        rf"https?://[^\s\"']*/(?:simple|packages|registry)/|index[-]url|/(?:{homes})/".encode()
    )
    for path in tracked():
        if path.is_file():
            assert not address.search(path.read_bytes()), path


def test_no_file_is_large() -> None:
    assert not [path for path in tracked() if path.is_file() and path.stat().st_size > 1_000_000]


def test_public_names_are_what_they_say() -> None:
    import pytest_agentlimit

    for name in pytest_agentlimit.__all__:
        assert getattr(pytest_agentlimit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pytest_agentlimit.nothing

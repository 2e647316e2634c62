"""Runs the anthropic SDK's own tests of messages against our bridge: `make conformance`.

Arguments: a folder to work in, which is made, and reused the next time. The SDK's source is taken
from the package index in the version that is installed here, with the packages its tests need, in
a virtual environment of their own. Exits with pytest's own code.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
from importlib.metadata import version
from pathlib import Path

from pytest_agentlimit.bridge.serve import Bridge
from pytest_agentlimit.testing import ScriptedEndpoint, say

SUITE = "tests/api_resources/test_messages.py"
NEEDS = [
    "pytest",
    "pytest-asyncio",
    "pytest-xdist",
    "respx",
    "time-machine",
    "dirty-equals",
    "inline-snapshot",
    "http-snapshot[httpx]",
]


def pip(python: str | Path, *arguments: str | Path) -> None:
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *map(str, arguments)], check=True)


def prepared(folder: Path) -> tuple[Path, Path]:
    """Return the suite's source folder and the Python that can run it."""
    release = version("anthropic")
    source, python = folder / f"anthropic-{release}", folder / "venv" / "bin" / "python"
    ready = folder / f"ready-{release}"
    if ready.exists():
        return source, python
    folder.mkdir(parents=True, exist_ok=True)
    wanted = ["--no-deps", "--no-binary", "anthropic", "--dest", folder, f"anthropic=={release}"]
    pip(sys.executable, "download", *wanted)
    archive = folder / f"anthropic-{release}.tar.gz"
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    venv.create(folder / "venv", with_pip=True)
    pip(python, "install", f"{archive}[aiohttp]", *NEEDS)
    ready.touch()
    return source, python


def main(folder: Path) -> int:
    source, python = prepared(folder)
    with ScriptedEndpoint([say("Hello.")]) as upstream, Bridge(upstream.endpoint()) as bridge:
        environ = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
        environ |= {"TEST_API_BASE_URL": bridge.url}
        command = [python, "-m", "pytest", SUITE, "-n", "2", "-p", "no:cacheprovider", "-q"]
        code = subprocess.run(command, cwd=source, env=environ).returncode
        print(f"the bridge asked its upstream {len(upstream.chat_requests)} times")
        return code or not upstream.chat_requests


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]).resolve()))

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import httpcore  # noqa: F401
import pytest

from pytest_agentlimit.endpoints import catalog

# httpx imports httpcore on first use and remembers its exceptions for ever. When that first use is
# in an inner in-process run, pytester forgets the module afterwards, and nothing matches any more.

pytest_plugins = ["pytester"]

# pytester gives every test a home of its own; the weights stay where they were fetched to.
os.environ[catalog.MODELS_DIR_VARIABLE] = str(catalog.models_dir())


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine a developer works on may steer a test."""
    for name in ("AGENTLIMIT_MODEL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OLLAMA_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    for name in list(os.environ):
        # GITHUB_: else our own CI gets a job summary from every test
        if name.startswith(("GITHUB_", "OPENCLAW_", "CLAWDBOT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENCLAW_HOME", os.devnull)  # nobody's own config is read


@pytest.fixture(autouse=True)
def outer_heap_left_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """An inner run collects garbage five times at its end: not through all of the outer run."""
    inner = "pytester" in request.fixturenames
    if inner:
        gc.freeze()
    yield
    if inner:
        gc.unfreeze()


@pytest.fixture
def smollm2() -> Path:
    """The weights of the embedded model; `make test` fetches them first."""
    path = catalog.find("smollm2")
    assert path is not None, "the embedded model is not there: run `agentlimit pull smollm2`"
    return path

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_agentlimit.endpoints.openclaw import (
    Listed,
    OpenClawConfig,
    find_spec,
    listed,
    open_config,
)
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import UsageProblem

SECRET = "sk-proj-abcdefghijklmnop1234"


def written(folder: Path, config: object, name: str = "openclaw.json") -> Path:
    """Write a config, text as it is and anything else as JSON."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    return path


def opened(
    folder: Path, config: object, environ: Mapping[str, str] | None = None
) -> OpenClawConfig:
    path = written(folder, config)
    found = open_config(str(path), folder, environ or {})
    assert found is not None
    return found


def spec_of(
    folder: Path, config: object, name: str, environ: Mapping[str, str] | None = None
) -> EndpointSpec:
    spec = find_spec(opened(folder, config, environ), name)
    assert spec is not None
    return spec


def problem_of(
    folder: Path, config: object, name: str = "p/m", environ: Mapping[str, str] | None = None
) -> str:
    with pytest.raises(UsageProblem) as caught:
        find_spec(opened(folder, config, environ), name)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("openclaw.json")
    return message


def rows_or_one(
    folder: Path, config: object, environ: Mapping[str, str] | None = None
) -> list[Listed]:
    """What `agentlimit models` shows: every name, or one row for a config that is no config."""
    try:
        return list(listed(opened(folder, config, environ)))
    except UsageProblem as error:
        return [Listed("openclaw", None, str(error))]


def one_model(model: Mapping[str, Any] | None = None, **provider: Any) -> dict[str, Any]:
    """A config with the model p/m."""
    table = {"baseUrl": "http://127.0.0.1:8000/v1", "api": "openai-completions", **provider}
    table.setdefault("models", [{"id": "m", "name": "M", **(model or {})}])
    return {"models": {"providers": {"p": table}}}

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

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


# The configs of two public guides, as they stand there.

TEMPLATE = """
{
  "models": {
    "mode": "merge",
    "providers": {
      "PROVIDER_NAME": {
        "baseUrl": "http://127.0.0.1:11434/v1",
        "apiKey": "local",
        "api": "openai-completions",
        "authHeader": false,
        "models": [
          {
            "id": "model-id",
            "name": "Display Name",
            "reasoning": false,
            "input": ["text"],
            "cost": { "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0 },
            "contextWindow": 32768,
            "maxTokens": 8192
          }
        ]
      }
    }
  },
  "agents": {
    "defaults": {
      "model": {
        "primary": "PROVIDER_NAME/model-id",
        "fallbacks": ["anthropic/claude-opus-4-5"]
      }
    }
  }
}
"""
GUIDE = """
{
  "models": {
    "mode": "merge",
    "providers": {
      "tinygrad": {
        "baseUrl": "http://127.0.0.1:11435/v1",
        "apiKey": "tinygrad",
        "api": "openai-completions",
        "authHeader": false,
        "models": [
          {
            "id": "qwen2.5:14b",
            "name": "Qwen2.5-14B (TinyGrad Q4)",
            "reasoning": false,
            "input": ["text"],
            "cost": { "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0 },
            "contextWindow": 4096,
            "maxTokens": 2048
          }
        ]
      }
    }
  },
  "agents": {
    "defaults": {
      "model": { "primary": "tinygrad/qwen2.5:14b", "fallbacks": ["anthropic/claude-opus-4-5"] }
    }
  }
}
"""
SPARK = """
{
  // vLLM on the machine under the desk
  models: {
    providers: {
      'local-llm': {
        baseUrl: "http://127.0.0.1:8000/v1",
        apiKey: "${LOCAL_LLM_API_KEY}",
        api: "openai-completions",
        models: [
          {
            id: "Qwen/Qwen3-30B-A3B-Instruct-2507",
            name: "Qwen3",
            contextWindow: 131072,
            maxTokens: 8192,
          },
        ],
      },
    },
  },
  agents: {
    defaults: { model: { primary: "anthropic/claude-opus-4-6" } },
    list: [
      { id: "rain" },
      { id: "test-local", model: "local-llm/Qwen/Qwen3-30B-A3B-Instruct-2507" },
    ],
  },
}
"""

# Any config at all

KEYS = st.sampled_from(
    [
        "models",
        "providers",
        "agents",
        "defaults",
        "entries",
        "list",
        "model",
        "primary",
        "fallbacks",
        "id",
        "baseUrl",
        "apiKey",
        "api",
        "headers",
        "request",
        "params",
        "extra_body",
        "contextWindow",
        "maxTokens",
        "alias",
        "p",
        "p/m",
        "mode",
        "env",
        "vars",
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["p/m", "m", "openai-completions", "http://h/v1", "${A}", "x" * 30, "", "/"]),
    st.text(max_size=8),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=25,
)
quick = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

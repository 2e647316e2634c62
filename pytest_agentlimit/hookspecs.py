"""Hooks for your conftest.py. Each docstring is a conftest that can be pasted as it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_agentlimit.endpoints.client import EndpointClient
    from pytest_agentlimit.endpoints.spec import EndpointSpec
    from pytest_agentlimit.endpoints.timing import Exchange
    from pytest_agentlimit.runs.schema import RulePart, RunSummary


@pytest.hookspec
def pytest_agentlimit_models(config: pytest.Config) -> dict[str, str]:  # type: ignore[empty-body]
    """Return further model names: what `--agent-model=NAME` stands for, as a literal.

    ::

        def pytest_agentlimit_models(config):
            return {"lab": "ollama+http://127.0.0.1:11434#qwen3:30b"}
    """


@pytest.hookspec(firstresult=True)
def pytest_agentlimit_make_client(
    spec: EndpointSpec, on_exchange: Callable[[Exchange], None]
) -> EndpointClient | None:
    """Return the client of an endpoint, or None for the usual one.

    A client that does not report to `on_exchange` is not measured.

    ::

        from pytest_agentlimit import Endpoint


        def pytest_agentlimit_make_client(spec, on_exchange):
            tagged = spec.model_copy(update={"headers": {"x-team": "agents"}})
            return Endpoint(tagged, on_exchange=on_exchange)
    """


@pytest.hookspec
def pytest_agentlimit_redact(text: str) -> str | None:
    """Return `text` without what must not be stored; called for every failure message.

    It holds for the journal and every report. What pytest itself prints of a failure on the
    terminal is not passed through it.

    ::

        def pytest_agentlimit_redact(text):
            return text.replace("ACME Corp", "[customer]")
    """


@pytest.hookspec
def pytest_agentlimit_gate(summary: RunSummary) -> list[RulePart]:  # type: ignore[empty-body]
    """Return further gate rules; a failed one fails the run when a gate was asked for.

    ::

        from pytest_agentlimit.runs.schema import RulePart


        def pytest_agentlimit_gate(summary):
            spent = sum(model.usage.output_tokens or 0 for model in summary.models)
            verdict = "pass" if spent < 50_000 else "fail"
            rule = {"rule": "tokens", "verdict": verdict, "observed": spent, "limit": 50_000}
            return [RulePart(**rule, message=f"{spent} output tokens of 50,000")]
    """


@pytest.hookspec
def pytest_agentlimit_update_report(report: dict[str, Any]) -> None:
    """Change the JSON report before it is written; what you add should be under a key of yours.

    ::

        import os


        def pytest_agentlimit_update_report(report):
            report["build"] = os.environ.get("BUILD_NUMBER")
    """

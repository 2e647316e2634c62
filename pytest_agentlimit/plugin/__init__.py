"""The pytest plugin: hooks only. Nothing heavier than pytest is imported until a model is named."""

from __future__ import annotations

import pytest

from .context import CONTEXT, RunContext
from .fixtures import agent, agent_rng, agentlimit_trial, climb, endpoint, harness, workspace
from .markers import DESCRIPTIONS
from .options import add_options
from .settings import read_settings
from .worker import TrialRunner, worker_context

__all__ = ["agent", "agent_rng", "agentlimit_trial", "climb", "endpoint", "harness", "workspace"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of DESIGN 3."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks of hookspecs.py."""
    from pytest_agentlimit import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Register markers, then the roles this process plays."""
    for description in DESCRIPTIONS:
        config.addinivalue_line("markers", description)
    if hasattr(config, "workerinput"):
        context = worker_context(config)
    else:
        settings = read_settings(config)
        context = RunContext(0, settings.trials, settings.shape)
        if settings.models or settings.resume:
            from .controller import start_controller

            context = start_controller(config, settings)
    config.stash[CONTEXT] = context
    config.pluginmanager.register(TrialRunner(context), "agentlimit-trials")

"""What can be wrong with the models that an OpenClaw config chooses: aliases, fallbacks, names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytest_agentlimit.endpoints.openclaw_config import OpenClawConfig
from pytest_agentlimit.endpoints.openclaw_problem import ConfigProblem, named
from pytest_agentlimit.endpoints.openclaw_references import Reference, referenced, references
from pytest_agentlimit.endpoints.openclaw_schema import CHOICE, key_problems
from pytest_agentlimit.endpoints.openclaw_values import joined, sampling, substituted
from pytest_agentlimit.errors import UsageProblem


def choice_problems(config: OpenClawConfig) -> Iterator[ConfigProblem]:
    """Yield what is wrong with the models of the defaults and of each agent."""
    place, defaults = config.defaults_place, config.defaults
    yield from _chosen(config, config.default_agent, defaults.get("model"), f"{place}.model")
    yield from _settings_problems(config, place, defaults)
    for agent, (where, table) in config.placed_agents.items():
        yield from _chosen(config, agent, table.get("model"), f"{where}.model")


def _chosen(config: OpenClawConfig, agent: str, model: Any, place: str) -> Iterator[ConfigProblem]:
    if model is None:
        return
    yield from key_problems(CHOICE, model, place)
    try:
        seen = config.of_agent(agent)
        named_there = references(seen, model, place)
    except ConfigProblem as problem:
        yield problem
        return
    except UsageProblem as error:
        yield ConfigProblem("unreadable", place, str(error))
        return
    primary = ""
    for reference in named_there:
        found, missing = _resolved(seen, reference)
        if missing:
            yield missing
        if reference is named_there[0]:
            primary = found
        elif found and found == primary:
            what = "the fallback is the primary model: when that fails, nothing carries on"
            yield ConfigProblem("fallback_is_primary", reference.place, what, "name another model")


def _resolved(config: OpenClawConfig, reference: Reference) -> tuple[str, ConfigProblem | None]:
    """Return the full name of a model, or what is wrong; a missing variable is said elsewhere."""
    if substituted(reference.written, config.variables)[1]:
        return "", None
    try:
        return referenced(config, reference).name, None
    except ConfigProblem as problem:
        return "", problem


def _settings_problems(
    config: OpenClawConfig, place: str, defaults: dict[str, Any]
) -> Iterator[ConfigProblem]:
    """Yield what is wrong with the aliases, and with the sampling settings of all agents."""
    layers = [(f"{place}.params", defaults.get("params"))]
    table = defaults.get("models")
    first: dict[str, str] = {}
    for name, settings in (table if isinstance(table, dict) else {}).items():
        if not isinstance(settings, dict):
            continue
        where = joined(f"{place}.models", name)
        layers.append((f"{where}.params", settings.get("params")))
        if isinstance(alias := settings.get("alias"), str) and alias:
            yield from _alias_problems(config, name, alias, f"{where}.alias", first)
    for layer in layers:
        try:
            sampling([layer], "openai-completions", None)
        except ConfigProblem as problem:
            yield problem


def _alias_problems(
    config: OpenClawConfig, name: str, alias: str, place: str, first: dict[str, str]
) -> Iterator[ConfigProblem]:
    before = first.setdefault(alias.lower(), name)
    if before != name:
        what = f"the alias {named(alias)!r} is also that of {named(before)}"
        yield ConfigProblem("alias_clash", place, what, "give one of them another alias")
    others = {found.name for found in config.models.values() if alias in (found.name, found.model)}
    if others - {name}:
        what = f"the alias {named(alias)!r} is also the id of {named(min(others - {name}))}"
        step = "give it another alias"
        yield ConfigProblem("alias_clash", place, what, step, severity="warning")

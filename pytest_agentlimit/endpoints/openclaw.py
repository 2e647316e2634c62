"""Models of an OpenClaw config, by the names OpenClaw has for them (PROTOCOLS 1).

OpenClaw is not run: its file is read, and what it says of a model becomes an endpoint as it stands.
What is wrong with a model is found when that model is asked for, so that one broken entry takes
no other with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pytest_agentlimit.endpoints.literals import short_id
from pytest_agentlimit.endpoints.openclaw_config import OpenClawConfig, open_config
from pytest_agentlimit.endpoints.openclaw_endpoint import Found, endpoint
from pytest_agentlimit.endpoints.openclaw_references import (
    Reference,
    built_in,
    lookup,
    nameless,
    referenced,
    references,
)
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

__all__ = [
    "AGENT",
    "PRIMARY",
    "Listed",
    "OpenClawConfig",
    "fallback_chain",
    "find_spec",
    "listed",
    "names",
    "open_config",
]

PRIMARY = "openclaw:primary"
"""The name of the default agent's model, after --agent-model."""
AGENT = "agent:"


class Listed(NamedTuple):
    """One name a config offers: its endpoint, or why it cannot be used."""

    name: str
    spec: EndpointSpec | None
    problem: str = ""


class _Chain(NamedTuple):
    """A primary model and what follows when it fails, for one agent."""

    references: list[Reference]
    agent: Mapping[str, Any]


def names(config: OpenClawConfig) -> list[str]:
    """Return every name that `find_spec` knows, models first; some may not be usable."""
    special = [PRIMARY] if "model" in config.defaults else []
    special += [f"{AGENT}{name}" for name in config.agents]
    known = list(dict.fromkeys([*config.models, *_built_in_references(config)]))
    return [*known, *special]


def listed(config: OpenClawConfig) -> Iterator[Listed]:
    """Yield every name with its endpoint or its problem; a nameless entry goes by its provider."""
    for provider, problem in nameless(config):
        yield Listed(f"{provider}/", None, str(problem))
    for name in names(config):
        try:
            yield Listed(name, find_spec(config, name))
        except UsageProblem as error:
            yield Listed(name, None, str(error))


def find_spec(config: OpenClawConfig, name: str) -> EndpointSpec | None:
    """Return the endpoint `name` stands for in the config, None when the config does not know it.

    Knows `openclaw:primary`, `agent:ID`, `provider/model`, an alias and a bare model id. Raises
    UsageProblem with the path in the config for a model that cannot be used, and for a bare id that
    two providers have.
    """
    config = _seen_by(config, name)
    chain = _chain(config, name)
    if chain is not None:
        return _linked(config, chain, chain.references[0], name)
    found = lookup(config, name)
    if found is None and name in _built_in_references(config):
        found = built_in(config, name)
    if found is None:
        return None
    rule = f"models.providers.{found.provider}"
    if found.name != name and found.model != name:
        rule = f"alias {name} = {found.name}"
    return _spec(config, found, name, rule, {})


def fallback_chain(config: OpenClawConfig, name: str) -> list[EndpointSpec]:
    """Return the endpoint of `name` and, for an agent or the primary, its fallbacks in order.

    As configured, repetitions too; any other model stands alone. [] when the config does not know
    `name`; UsageProblem when one of the chain cannot be used.
    """
    config = _seen_by(config, name)
    chain = _chain(config, name)
    if chain is None:
        spec = find_spec(config, name)
        return [] if spec is None else [spec]
    first, *others = chain.references
    return [
        _linked(config, chain, first, name),
        *(_linked(config, chain, other, other.text) for other in others),
    ]


def _seen_by(config: OpenClawConfig, name: str) -> OpenClawConfig:
    """Return the config with what the agent behind `name` has of its own."""
    if name == PRIMARY:
        return config.of_agent(config.default_agent)
    agent = name.removeprefix(AGENT)
    return config.of_agent(agent) if agent != name and agent in config.agents else config


def _linked(config: OpenClawConfig, chain: _Chain, reference: Reference, name: str) -> EndpointSpec:
    found = referenced(config, reference)
    return _spec(config, found, name, f"{reference.place} = {found.name}", chain.agent)


def _spec(
    config: OpenClawConfig, found: Found, name: str, rule: str, agent: Mapping[str, Any]
) -> EndpointSpec:
    """Return the endpoint, its complaints prefixed by the file."""
    layers = list(_params(config, found.name, agent))
    try:
        spec = endpoint(found, config.variables, layers)
    except UsageProblem as error:
        raise UsageProblem(f"{config.file}: {error}") from None
    source = f"OpenClaw config {config.file}, {one_line(rule)}"
    return spec.model_copy(update={"name": short_id(name), "source": source})


def _params(
    config: OpenClawConfig, model: str, agent: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the `params` that hold for a model, the weakest first."""
    for place, owner in (("agents.defaults", config.defaults), ("agent", agent)):
        models = owner.get("models")
        settings = models.get(model) if isinstance(models, dict) else None
        of_model = settings.get("params") if isinstance(settings, dict) else None
        both = [(f"{place}.params", owner.get("params")), (f"{place}.models.{model}", of_model)]
        yield from both if owner is config.defaults else reversed(both)


def _chain(config: OpenClawConfig, name: str) -> _Chain | None:
    """Return the chain that a name of an agent or of the primary stands for."""
    if name == PRIMARY:
        if config.defaults.get("model") is None:
            raise config.problem("agents.defaults.model", "is not there, so nothing is primary")
        return _Chain(references(config, config.defaults["model"], "agents.defaults.model"), {})
    agent = config.agents.get(name.removeprefix(AGENT)) if name.startswith(AGENT) else None
    if agent is None:
        return None
    if agent.get("model") is None:
        inherited = _chain(config, PRIMARY)
        return inherited and _Chain(inherited.references, agent)
    return _Chain(references(config, agent["model"], f"{name}.model"), agent)


def _built_in_references(config: OpenClawConfig) -> list[str]:
    """Return the models of built-in providers that the config names somewhere."""
    settings = [("agents.defaults.model", config.defaults.get("model"))]
    settings += [
        (f"{AGENT}{key}.model", agent.get("model")) for key, agent in config.agents.items()
    ]
    texts = []
    for place, model in settings:
        try:
            texts += [one.text for one in references(config, model, place)]
        except UsageProblem:
            continue  # said when that place is asked for
    return [text for text in texts if text not in config.models and built_in(config, text)]

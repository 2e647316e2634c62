"""Models as a config refers to them: by `provider/model`, by alias, by a bare id."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

from pytest_agentlimit.endpoints.openclaw_config import OpenClawConfig
from pytest_agentlimit.endpoints.openclaw_endpoint import BUILT_IN, Found
from pytest_agentlimit.endpoints.openclaw_problem import ConfigProblem, Severity, named
from pytest_agentlimit.endpoints.openclaw_values import joined, substituted


class Reference(NamedTuple):
    """A model as the config names it, with its variables filled in, and the path of that place."""

    text: str
    place: str
    written: str
    """As it stands in the file: what a variable holds may be a secret."""


def references(config: OpenClawConfig, model: Any, place: str) -> list[Reference]:
    """Return primary and fallbacks of a `model` setting: text, or {primary, fallbacks}."""
    if isinstance(model, str):
        return [_reference(config, model, place)]
    table = model if isinstance(model, dict) else {}
    fallbacks = table.get("fallbacks", [])
    texts = [table.get("primary"), *(fallbacks if isinstance(fallbacks, list) else [None])]
    if not all(isinstance(text, str) and text for text in texts):
        what = 'must be "provider/model" or {primary: "…", fallbacks: ["…"]}'
        raise config.problem(place, what)
    places = [f"{place}.primary", *(f"{place}.fallbacks[{i}]" for i in range(len(texts) - 1))]
    return [_reference(config, text, where) for text, where in zip(texts, places, strict=True)]


def _reference(config: OpenClawConfig, text: str, place: str) -> Reference:
    return Reference(substituted(text, config.variables)[0], place, text)


def referenced(config: OpenClawConfig, reference: Reference) -> Found:
    """Return the model that a place of the config names; ConfigProblem when there is none."""
    text, place, written = reference
    found = lookup(config, text, place=place) or built_in(config, text)
    if found is not None:
        return found
    near = difflib.get_close_matches(text, list(config.models), 3, 0.5)
    what = f"no provider offers {named(written)!r}"
    if near:
        what = f"{what}. Did you mean {' or '.join(named(name) for name in near)}?"
    step = "" if near else "add that provider under models.providers, with baseUrl and models"
    raise config.problem(
        place, what, step, code="unknown_model", severity=_severity(config, text, bool(near))
    )


def _severity(config: OpenClawConfig, text: str, near: bool) -> Severity:
    """Return how sure it is that a model is not there: OpenClaw brings providers along."""
    provider, slash, _ = text.partition("/")
    table = config.providers.get(provider)
    custom = isinstance(table, dict) and bool({"baseUrl", "baseURL"} & set(table))
    return "error" if near or custom or not slash else "warning"


def lookup(
    config: OpenClawConfig, text: str, *, place: str = "", alias: bool = True
) -> Found | None:
    """Return the configured model that `text` names, by OpenClaw's own order.

    ConfigProblem, at `place`, for a bare id that several providers have.
    """
    if text in config.models:
        return config.models[text]
    if alias and text.lower() in config.aliases:
        target = config.aliases[text.lower()]
        return lookup(config, target, alias=False) or built_in(config, target)
    same = [found for found in config.models.values() if found.model == text]
    if len(same) > 1:
        full = " or ".join(named(found.name) for found in same)
        what = f"the model id {named(text)!r} is in {len(same)} providers"
        raise config.problem(place, what, f"write {full}", code="ambiguous_model")
    return same[0] if same else _unlisted(config, text)


def _unlisted(config: OpenClawConfig, text: str) -> Found | None:
    """Return a model of a provider that lists none, or whose list is broken; None otherwise."""
    provider, _, model = text.partition("/")
    if not model or provider not in config.providers:
        return None
    table = config.providers[provider]
    entries = table.get("models") if isinstance(table, dict) else None
    if isinstance(entries, list) and entries:
        return None
    return Found(provider, model, table, {}, "models")


def built_in(config: OpenClawConfig, text: str) -> Found | None:
    """Return a model of a provider that OpenClaw brings along, so that the config need not."""
    models = config.part(config.data, "models", "models")
    provider, _, model = text.partition("/")
    if not model or provider not in BUILT_IN or models.get("mode") == "replace":
        return None
    return Found(provider, model, config.providers.get(provider, {}), {}, "models")


def nameless(config: OpenClawConfig) -> Iterator[tuple[str, ConfigProblem]]:
    """Yield what no name stands for, with its provider: no object, no model, no id."""
    for provider, table in config.providers.items():
        place = joined("models.providers", provider)
        if not isinstance(table, dict):
            yield provider, config.problem(place, "must be an object, {…}")
            continue
        entries = table.get("models") or []
        if not isinstance(entries, list):
            yield provider, config.problem(f"{place}.models", "must be a list")
        elif not entries:
            what = f"lists no model; name one as {named(provider)}/MODEL"
            yield provider, config.problem(place, what, code="no_models", severity="warning")
        else:
            for index, entry in enumerate(entries):
                where = f"{place}.models[{index}]"
                if not isinstance(entry, dict):
                    yield provider, config.problem(where, "must be an object with an id")
                elif not isinstance(entry.get("id"), str) or not entry["id"]:
                    what = "must be an object with an id"
                    yield provider, config.problem(where, what, code="missing_key")

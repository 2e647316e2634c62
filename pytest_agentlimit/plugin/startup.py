"""What happens once, before any trial: names become endpoints that are known to answer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentlimit.endpoints.preflight import require_usable
from pytest_agentlimit.endpoints.resolve import resolve
from pytest_agentlimit.endpoints.warmup import wants_warm_up
from pytest_agentlimit.errors import UsageProblem

from .context import ModelUnderTest
from .settings import Settings

if TYPE_CHECKING:
    from pytest_agentlimit.endpoints.embedded import EmbeddedServer
    from pytest_agentlimit.endpoints.spec import EndpointSpec

    from .harnesses import HarnessUnderTest


_LOOKS = 4
_BETWEEN_LOOKS_S = 1.0


@dataclass
class Endpoints:
    """The endpoints of a run; embedded servers are ours to stop."""

    models: list[ModelUnderTest] = field(default_factory=list)
    servers: dict[str, EmbeddedServer] = field(default_factory=dict)

    def stop(self) -> list[str]:
        """Stop the embedded servers; return a note for each that had died on its own."""
        notes = []
        for name, server in self.servers.items():
            died = server.death()
            if died:
                notes.append(f"the embedded server of {name} died during the run: {died}")
            server.stop()
        self.servers.clear()
        return notes


def resolve_all(
    settings: Settings, root: Path, aliases: Iterable[dict[str, str]]
) -> list[EndpointSpec]:
    """Return one endpoint per name asked for, with distinct names; raises UsageProblem.

    `aliases` map further names to literals (the hook `pytest_agentlimit_models`).
    """
    literals = {name: literal for table in aliases for name, literal in table.items()}
    specs: list[EndpointSpec] = []
    for typed in settings.models:
        spec = resolve(
            literals.get(typed, typed),
            root=root,
            environ=os.environ,
            agent_config=settings.config,
        )
        if typed in literals:
            spec = spec.model_copy(update={"name": typed, "source": "conftest.py"})
        for way in _in_each_way(_with_options(spec, settings), settings.tools):
            if any(way.name == other.name for other in specs):
                raise UsageProblem(
                    f"two of the models would both be called {way.name!r} in test ids and "
                    "reports. Give one of them a name of its own in [tool.agentlimit.models.NAME]"
                )
            specs.append(way)
    return specs


def _in_each_way(spec: EndpointSpec, ways: tuple[str, ...]) -> list[EndpointSpec]:
    """Return `spec` with tools offered in each of `ways`; of two, the emulated one says so."""
    made = []
    for way in ways:
        name = f"{spec.name}-emulated" if way == "emulate" and len(ways) > 1 else spec.name
        made.append(spec.model_copy(update={"tools": way, "name": name}))
    return made or [spec]


def harness_under_test(settings: Settings, root: Path) -> HarnessUnderTest | None:
    """Return the agent program that was asked for; raises UsageProblem when nobody knows it."""
    if settings.harness is None:
        return None
    from .harnesses import find_harness

    return find_harness(settings.harness, root)


def models_under_test(
    specs: list[EndpointSpec], opened: list[ModelUnderTest], harness: HarnessUnderTest | None
) -> tuple[ModelUnderTest, ...]:
    """Return the models of a run: those that were `opened`, or their names alone."""
    models = tuple(opened) or tuple(
        ModelUnderTest(spec.name, spec.model_dump(mode="json")) for spec in specs
    )
    if harness is None:
        return models
    through = {"harness": harness.label}  # a score is then of the pair
    return tuple(replace(model, fingerprint=model.fingerprint | through) for model in models)


def open_all(specs: list[EndpointSpec], max_inflight: int | None = None) -> Endpoints:
    """Start what is embedded and make sure that every endpoint can be used; raises UsageProblem.

    `max_inflight` wins over what the model's table says.
    """
    endpoints = Endpoints()
    try:
        for spec in specs:
            places = max_inflight or spec.max_inflight or 1
            endpoints.models.append(replace(_open(spec, endpoints), max_inflight=places))
    except BaseException:
        endpoints.stop()
        raise
    return endpoints


def _open(spec: EndpointSpec, endpoints: Endpoints) -> ModelUnderTest:
    known: dict[str, str] = {}
    if spec.kind == "embedded":
        server = _embedded(spec, endpoints)
        place = {"base_url": server.spec.base_url, "model": server.spec.model}
        spec, known = spec.model_copy(update=place), server.identity
    fingerprint = require_usable(spec) | known
    if spec.tools == "emulate":
        # Whether the engine itself knows tools says nothing about a model that is offered none.
        fingerprint = {key: value for key, value in fingerprint.items() if key != "tools"}
        fingerprint["tool_calling"] = "emulated"
    return ModelUnderTest(
        spec.name, spec.model_dump(mode="json"), fingerprint, can_be_cold=wants_warm_up(spec)
    )


def _embedded(spec: EndpointSpec, endpoints: Endpoints) -> EmbeddedServer:
    """Return the server of an embedded model: one for both ways of offering tools to it."""
    from pytest_agentlimit.endpoints.embedded import start_embedded

    for server in endpoints.servers.values():
        if _apart_from_its_way(server.spec) == _apart_from_its_way(spec):
            return server
    endpoints.servers[spec.name] = start_embedded(spec)
    return endpoints.servers[spec.name]


def _apart_from_its_way(spec: EndpointSpec) -> EndpointSpec:
    return spec.model_copy(update={"name": "", "tools": "native", "base_url": ""})


def why_gone(spec: EndpointSpec) -> str | None:
    """Return why an endpoint cannot be called any more, None when it answers anything at all.

    It is given a few seconds, since a server may be restarting.
    """
    from pytest_agentlimit.endpoints.preflight import absence

    for attempt in range(_LOOKS):
        why = absence(spec)
        if why is None:
            return None
        if attempt + 1 < _LOOKS:
            time.sleep(_BETWEEN_LOOKS_S)
    return why


def _with_options(spec: EndpointSpec, settings: Settings) -> EndpointSpec:
    if settings.timeout_s is None:
        return spec
    limit = settings.timeout_s
    old = spec.deadlines
    deadlines = old.model_copy(
        update={
            "connect_s": min(old.connect_s, limit),
            "first_byte_s": min(old.first_byte_s, limit),
            "between_chunks_s": min(old.between_chunks_s, limit),
            "total_s": limit,
        }
    )
    return spec.model_copy(update={"deadlines": deadlines})

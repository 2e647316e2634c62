"""A model's name, as typed, made an endpoint (DESIGN 3, "Naming a model").

The rules are asked in order and the first that knows the name wins; each also notes what it saw,
so that a name nobody knows ends in a list of what there is.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_agentlimit.endpoints import catalog
from pytest_agentlimit.endpoints.discovery import (
    FoundServer,
    Probe,
    default_probes,
    discover,
    shown,
)
from pytest_agentlimit.endpoints.literals import literal_spec, short_id
from pytest_agentlimit.endpoints.model_table import EMBEDDED_URL, spec_from_table
from pytest_agentlimit.endpoints.nulls import NULL_MODELS
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import ModelNotFound, UsageProblem
from pytest_agentlimit.text import one_line

_SHOWN = 40
CONFIG_FILES = ("pyproject.toml", "agentlimit.toml")


@dataclass
class _Search:
    """One name being looked for: where to look, and what was seen on the way."""

    name: str
    root: Path
    environ: Mapping[str, str]
    probes: Sequence[Probe] | None
    agent_config: str | None = None
    seen: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def note(self, place: str, names: Sequence[str], nothing: str) -> None:
        """Remember what a place offers, for the message of a name that is not found."""
        self.names += names
        shown = [one_line(name, 80) for name in names[:_SHOWN]]
        if len(names) > _SHOWN:
            shown.append(f"and {len(names) - _SHOWN} more")
        self.seen.append(f"{place}: {', '.join(shown) or nothing}")


def resolve(
    name: str,
    *,
    root: Path,
    environ: Mapping[str, str],
    probes: Sequence[Probe] | None = None,
    agent_config: str | None = None,
) -> EndpointSpec:
    """Return the endpoint that `name` stands for; `source` says in words which rule knew it.

    `root` holds the config files, and the relative paths in them count from there. `probes`
    replaces the loopback ports that are looked at, `agent_config` the places where OpenClaw's
    config is looked for. Raises ModelNotFound, listing what was looked at
    and the nearest names, or UsageProblem for a name or a config file that cannot work.
    """
    search = _Search(name.strip(), root, environ, probes, agent_config)
    if not search.name:
        raise UsageProblem("the model's name is empty: `agentlimit models` lists what there is")
    for rule in _RULES:
        spec = rule(search)
        if spec is not None:
            return spec
    raise ModelNotFound(_not_found(search))


def config_tables(root: Path) -> dict[str, tuple[str, Any]]:
    """Return the model tables of the config files under `root`: name → (file name, table).

    Raises UsageProblem for a file that is no TOML, and for a name that both files define.
    """
    tables: dict[str, tuple[str, Any]] = {}
    for file in CONFIG_FILES:
        for name, table in tables_in(root / file, "models").items():
            if name in tables:
                raise UsageProblem(
                    f"the model {one_line(name)!r} is in {tables[name][0]} and in {file}: keep one"
                )
            tables[name] = (file, table)
    return tables


def _literal(search: _Search) -> EndpointSpec | None:
    return literal_spec(search.name, search.environ)


def _config(search: _Search) -> EndpointSpec | None:
    tables = config_tables(search.root)
    if search.name in tables:
        where, table = tables[search.name]
        spec = spec_from_table(search.name, table, where=where, folder=search.root)
        return spec.model_copy(update={"name": short_id(search.name)})
    for file in CONFIG_FILES:
        there = (search.root / file).exists()
        names = [name for name, (where, _) in tables.items() if where == file]
        search.note(file, names, "no model tables in it" if there else "no such file")
    return None


def _openclaw(search: _Search) -> EndpointSpec | None:
    """A config that was not asked for is another program's: when it is broken, that is noted."""
    from pytest_agentlimit.endpoints import openclaw

    asked = (
        search.agent_config is not None
        or search.name == openclaw.PRIMARY
        or search.name.startswith(openclaw.AGENT)
    )
    try:
        config = openclaw.open_config(search.agent_config, search.root, search.environ)
        names = openclaw.names(config) if config else []
    except UsageProblem as error:
        if asked:
            raise
        search.seen.append(f"OpenClaw config: {one_line(str(error), 300)}")
        return None
    if config is None:
        search.note("OpenClaw config", [], "none (~/.openclaw/openclaw.json or an older name)")
        return None
    spec = openclaw.find_spec(config, search.name)
    if spec is None:
        search.note(f"OpenClaw config {config.file}", names, "no models in it")
    return spec


def _embedded(search: _Search) -> EndpointSpec | None:
    if search.name in catalog.MODELS:
        return EndpointSpec(
            name=search.name,
            kind="embedded",
            base_url=EMBEDDED_URL,
            model=search.name,
            source="embedded",
            gguf=search.name,
            max_tokens=catalog.MODELS[search.name].max_tokens,
        )
    search.note("embedded models", list(catalog.MODELS), "none")
    return None


def _discovered(search: _Search) -> EndpointSpec | None:
    probes = default_probes(search.environ) if search.probes is None else search.probes
    found = discover(search.environ, probes)
    for server in found:
        model = _model_called(search.name, server)
        if model is not None:
            return EndpointSpec(
                name=short_id(search.name),
                dialect=server.dialect,
                base_url=server.base_url,
                model=model,
                source=f"discovered: {server.label} at {server.address}",
            )
        search.names += server.models
        search.seen.append(shown(server))
    answering = {server.address for server in found}
    silent = [probe for probe in probes if probe.address not in answering]
    if silent:
        places = ", ".join(f"{probe.address} ({probe.label})" for probe in silent)
        search.seen.append(f"nothing answers at {places}")
    return None


_RULES: tuple[Callable[[_Search], EndpointSpec | None], ...] = (
    _literal,
    _config,
    _openclaw,
    _embedded,
    _discovered,
)


def tables_in(path: Path, kind: str) -> dict[str, Any]:
    """Return the tables [tool.agentlimit.`kind`.NAME] of one file; {} when there is none.

    In agentlimit.toml they may be called [`kind`.NAME] too. Raises UsageProblem for a file that
    cannot be read, is no TOML, or has something else there.
    """
    try:
        data: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise UsageProblem(f"{path.name} is not valid TOML: {one_line(str(error))}") from None
    except UnicodeDecodeError as error:
        raise UsageProblem(f"{path.name} is not UTF-8 text ({error.reason})") from None
    except OSError as error:
        raise UsageProblem(f"cannot read {path.name}: {error.strerror}") from None
    tables = _table_at(data, ("tool", "agentlimit", kind), path.name)
    if path.name == "agentlimit.toml":
        tables = {**_table_at(data, (kind,), path.name), **tables}
    return tables


def _table_at(data: Any, keys: tuple[str, ...], file: str) -> dict[str, Any]:
    for key in keys:
        data = data.get(key, {}) if isinstance(data, dict) else data
    if not isinstance(data, dict):
        raise UsageProblem(f"{file}: [{'.'.join(keys)}] must be a table of tables")
    return data


def _model_called(name: str, server: FoundServer) -> str | None:
    """Return the server's id of the model `name`: as typed, tagged :latest, or a path to it."""
    for model in server.models:
        tail = model.rpartition("/")[2].removesuffix(".gguf")
        if name in (model, tail, model.removesuffix(":latest")):
            return model
    return None


def _not_found(search: _Search) -> str:
    # Null models stay out of the list, and are offered to those who misspell one.
    names = {name.lower(): name for name in [*search.names, *(f"null:{n}" for n in NULL_MODELS)]}
    near = difflib.get_close_matches(search.name.lower(), names, 3, 0.6)
    guess = (
        f" Did you mean {' or '.join(one_line(names[key], 80) for key in near)}?" if near else ""
    )
    looked = "\n".join(f"  {line}" for line in search.seen)
    return (
        f"no model is called {one_line(search.name)!r}.{guess}\nLooked at:\n{looked}\n"
        "Name one of these, spell the endpoint out (openai+http://HOST:PORT/v1#MODEL), or add a "
        "[tool.agentlimit.models.NAME] table to pyproject.toml"
    )

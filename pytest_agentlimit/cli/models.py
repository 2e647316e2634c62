"""`agentlimit models`: every name that works after `--agent-model=` right now, and its state."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from pytest_agentlimit.endpoints.spec import EndpointSpec


class _Row(NamedTuple):
    name: str
    what: str
    state: str


def models(
    agent_config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="An OpenClaw config; default: the one it would read."),
    ] = None,
) -> None:
    """List the models that can be used right now; each name works after --agent-model=."""
    rows, notes = _rows(Path.cwd(), agent_config)
    from pytest_agentlimit.cli.table import print_table

    print_table(("name", "what it is", "state"), rows)
    for note in notes:
        typer.echo(note)


def _rows(root: Path, agent_config: str | None) -> tuple[list[_Row], list[str]]:
    rows = [*_configured(root), *_openclaw(root, agent_config), *_embedded()]
    found, notes = _discovered({row.name for row in rows})
    return [*rows, *found, *_nulls()], notes


def _configured(root: Path) -> Iterator[_Row]:
    from pytest_agentlimit.endpoints.model_table import spec_from_table
    from pytest_agentlimit.endpoints.resolve import config_tables
    from pytest_agentlimit.errors import UsageProblem
    from pytest_agentlimit.text import one_line

    for name, (where, table) in config_tables(root).items():
        shown = one_line(name, 80)
        try:
            spec = spec_from_table(name, table, where=where, folder=root)
        except UsageProblem as error:
            yield _Row(shown, where, f"cannot be used: {one_line(str(error), 300)}")
            continue
        yield _usable(shown, where, spec)


def _usable(name: str, where: str, spec: EndpointSpec) -> _Row:
    from pytest_agentlimit.text import one_line

    variable = spec.api_key_env
    missing = bool(variable) and not os.environ.get(variable or "")
    place = spec.gguf or spec.base_url
    what = f"{where}: {one_line(spec.model, 80)} at {one_line(place)}"
    return _Row(name, what, f"needs ${variable}, which is not set" if missing else "configured")


def _openclaw(root: Path, given: str | None) -> Iterator[_Row]:
    from pytest_agentlimit.endpoints.openclaw import listed, open_config
    from pytest_agentlimit.errors import UsageProblem
    from pytest_agentlimit.text import one_line

    where = "OpenClaw config"
    try:
        config = open_config(given, root, os.environ)
        for name, spec, problem in listed(config) if config else ():
            shown, where = one_line(name, 80), config.file if config else where
            if spec is None:
                yield _Row(shown, where, f"cannot be used: {one_line(problem, 300)}")
            else:
                yield _usable(shown, where, spec)
    except UsageProblem as error:
        if given is not None:
            raise
        yield _Row("openclaw:primary", where, f"cannot be used: {one_line(str(error), 300)}")


def _embedded() -> Iterator[_Row]:
    from pytest_agentlimit.endpoints import catalog

    engine = importlib.util.find_spec("xllamacpp") is not None
    for name, model in catalog.MODELS.items():
        if not engine:
            state = 'needs the engine: pip install "pytest-agentlimit[embedded]"'
        elif catalog.find(name) is None:
            state = f"not here yet: agentlimit pull {name}"
        else:
            state = "ready"
        size = f"{model.size / 1e6:.0f} MB"
        yield _Row(name, f"embedded, {size}, {model.licence}", state)


def _discovered(taken: set[str]) -> tuple[list[_Row], list[str]]:
    """Return the models of servers on this machine, and a note for each server without any.

    A name that another model has already is spelt out whole.
    """
    from pytest_agentlimit.endpoints.discovery import discover, shown
    from pytest_agentlimit.text import one_line

    rows, notes = [], []
    for server in discover(os.environ):
        if server.problem or not server.models:
            notes.append(shown(server))
        for model in server.models:
            name = model if model not in taken else f"{server.dialect}+{server.base_url}#{model}"
            taken.add(name)
            rows.append(_Row(one_line(name), f"{server.label} at {server.address}", "answers"))
    return rows, notes


def _nulls() -> Iterator[_Row]:
    from pytest_agentlimit.endpoints.nulls import NULL_MODELS

    for name in NULL_MODELS:
        yield _Row(f"null:{name}", "null model: what it passes proves nothing", "ready")

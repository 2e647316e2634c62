"""`agentlimit doctor`: what is wrong with an endpoint, before its model is blamed for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from pytest_agentlimit.cli import doctor_config
from pytest_agentlimit.cli import drill as drills

if TYPE_CHECKING:
    from pytest_agentlimit.endpoints.openclaw_check import CheckedConfig
    from pytest_agentlimit.endpoints.probing import Diagnosis, ProbeResult
    from pytest_agentlimit.endpoints.spec import EndpointSpec

_MARKS = {"ok": "✓", "fault": "✗", "unknown": "?", "skipped": "–"}
_NAME_WIDTH = 20
_HEALTHY, _PROBLEMS, _ABSENT = 0, 1, 2


class _Patient(NamedTuple):
    """One endpoint to examine, or why there is none under that name."""

    name: str
    spec: EndpointSpec | None
    problem: str = ""
    code: int = _PROBLEMS
    """The exit code when there is a problem instead of an endpoint."""


class _Seen(NamedTuple):
    """What became of one patient."""

    patient: _Patient
    diagnosis: Diagnosis | None
    drilled: drills.Drilled | None = None

    @property
    def code(self) -> int:
        if self.diagnosis is None:
            return self.patient.code
        if not self.diagnosis.reachable:
            return _ABSENT
        if self.drilled is not None and self.drilled.code:
            return _PROBLEMS
        return _PROBLEMS if self.diagnosis.faults else _HEALTHY


def doctor(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Names or literals, as for --agent-model; default: every configured model, and "
            "one model of every server found on this machine.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    fix_hints: Annotated[
        bool, typer.Option("--fix-hints", help="Print the exact config lines or server flags.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="At most 12 short requests; no context is measured.")
    ] = False,
    agent_config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="An OpenClaw config; default: the one it would read."),
    ] = None,
    drill: drills.DrillOption = False,
    fallback: drills.FallbackOption = None,
    drill_budget: drills.BudgetOption = "60s",
) -> None:
    """Say what is wrong with an endpoint, step by step, each with a deadline and a next step.

    What is wrong with an OpenClaw config is said first, when a model comes from one.
    Exit 0 when no fault was seen, 1 with problems, 2 when a model is unreachable or not found.
    """
    wanted = drills.asked(drill, models, fallback, drill_budget, agent_config)
    named = list(_named(models or [], agent_config))
    words = [w for p in named for w in (p.name, p.problem, p.spec and p.spec.source) if w]
    config = doctor_config.checked_config(agent_config, words)
    if config and not as_json:
        for line in doctor_config.config_lines(config, fix_hints):
            typer.echo(line)
    patients = iter(named) if models else _everything(agent_config)
    seen = []
    for patient in patients:
        seen.append(_Seen(*_examined(patient, full=not quick)))
        if not as_json:
            for line in _lines(seen[-1], fix_hints):
                typer.echo(line)
        if wanted and seen[-1].diagnosis and patient.spec:
            say = None if as_json else typer.echo
            drilled = drills.drilled(patient.name, patient.spec, wanted, fix_hints, say)
            seen[-1] = seen[-1]._replace(drilled=drilled)
    ill = [_PROBLEMS] if config and config.errors else []
    code = max([*ill, *(one.code for one in seen)], default=_ABSENT)
    if as_json:
        import json

        typer.echo(json.dumps(_as_json(seen, config, code), indent=2))
    elif not seen and not ill:
        typer.echo(
            "error: no model is configured and no server was found on this machine. Next: name "
            "one, such as openai+http://HOST:PORT/v1#MODEL",
            err=True,
        )
    raise typer.Exit(code)


def _named(names: list[str], agent_config: str | None) -> Iterator[_Patient]:
    from pytest_agentlimit.endpoints.resolve import resolve
    from pytest_agentlimit.errors import ModelNotFound, UsageProblem

    for name in names:
        try:
            spec = resolve(name, root=Path.cwd(), environ=os.environ, agent_config=agent_config)
        except ModelNotFound as error:
            yield _Patient(name, None, str(error), _ABSENT)
        except UsageProblem as error:
            yield _Patient(name, None, str(error))
        else:
            yield _Patient(name, spec)


def _everything(agent_config: str | None) -> Iterator[_Patient]:
    """Yield each endpoint once, whatever number of names it has."""
    known = set()
    for patients in (_configured(), _openclaw(agent_config), _discovered()):
        for patient in patients:
            spec = patient.spec
            key = (spec.base_url, spec.model, spec.gguf) if spec else patient.name
            if key not in known:
                known.add(key)
                yield patient


def _configured() -> Iterator[_Patient]:
    from pytest_agentlimit.endpoints.model_table import spec_from_table
    from pytest_agentlimit.endpoints.resolve import config_tables
    from pytest_agentlimit.errors import UsageProblem

    for name, (where, table) in config_tables(Path.cwd()).items():
        try:
            spec = spec_from_table(name, table, where=where, folder=Path.cwd())
        except UsageProblem as error:
            yield _Patient(name, None, str(error))
        else:
            yield _Patient(name, spec)


def _openclaw(given: str | None) -> Iterator[_Patient]:
    from pytest_agentlimit.endpoints.openclaw import listed, open_config
    from pytest_agentlimit.errors import UsageProblem

    try:
        config = open_config(given, Path.cwd(), os.environ)
        for name, spec, problem in listed(config) if config else ():
            yield _Patient(name, spec, problem or "")
    except UsageProblem:
        return  # said of the config as a whole


def _discovered() -> Iterator[_Patient]:
    """Yield one model of every server: each further one would have to be loaded."""
    from pytest_agentlimit.endpoints.discovery import discover
    from pytest_agentlimit.endpoints.spec import EndpointSpec

    for server in discover(os.environ):
        if server.models:
            spec = EndpointSpec(
                name="found",
                dialect=server.dialect,
                base_url=server.base_url,
                model=server.models[0],
                source=f"discovered: {server.label} at {server.address}",
            )
            yield _Patient(f"{server.label}: {server.models[0]}", spec)
        else:
            what = server.problem or "has no models"
            yield _Patient(f"{server.label} at {server.address}", None, what)


def _examined(patient: _Patient, *, full: bool) -> tuple[_Patient, Diagnosis | None]:
    """Return the patient with its diagnosis; an embedded model is served for as long."""
    from contextlib import ExitStack

    from pytest_agentlimit.endpoints.probing import run_ladder
    from pytest_agentlimit.errors import UsageProblem

    spec = patient.spec
    if spec is None:
        return patient, None
    if spec.kind == "null":
        return patient._replace(problem="a null model has no server that could be ill"), None
    with ExitStack() as stack:
        try:
            if spec.kind == "embedded":
                from pytest_agentlimit.endpoints.embedded import start_embedded

                spec = stack.enter_context(start_embedded(spec)).spec
            return patient._replace(spec=spec), run_ladder(spec, full=full)
        except UsageProblem as error:
            return patient._replace(problem=str(error)), None


def _lines(seen: _Seen, fix_hints: bool) -> Iterator[str]:
    from pytest_agentlimit.reports.context import context_said
    from pytest_agentlimit.reports.numbers import count, seconds
    from pytest_agentlimit.text import one_line

    patient, diagnosis, _ = seen
    name = one_line(patient.name, 80)
    if diagnosis is None or patient.spec is None:
        yield f"{name}\n  {_MARKS['fault']} {one_line(patient.problem, 1000)}"
        return
    spec = patient.spec
    yield f"{name}: {one_line(spec.model, 80)} at {one_line(spec.base_url)} ({spec.dialect})"
    for result in diagnosis.results:
        yield from _step(result, fix_hints)
    faults = len(diagnosis.faults)
    found = count(faults, "problem") if faults else "no fault seen"
    asked = count(diagnosis.requests, "request")
    yield f"  {found} in {asked}, {seconds(diagnosis.seconds)}; {context_said(diagnosis.facts)}"


def _step(result: ProbeResult, fix_hints: bool) -> Iterator[str]:
    from pytest_agentlimit.text import one_line

    blame = f" [{result.code}, blame: {result.blame}]" if result.verdict == "fault" else ""
    indent = " " * (_NAME_WIDTH + 5)
    yield f"  {_MARKS[result.verdict]} {result.name:<{_NAME_WIDTH}} {result.message}{blame}"
    if result.fix is None:
        return
    if result.verdict == "fault":
        yield f"{indent}next: {one_line(result.fix.sentence, 400)}"
    if fix_hints and result.fix.line:
        yield f"{indent}line: {one_line(result.fix.line)}"


def _as_json(seen: list[_Seen], config: CheckedConfig | None, code: int) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "exit_code": code,
        "configs": [doctor_config.config_json(config)] if config else [],
        "models": [_model_json(one) for one in seen],
    }


def _model_json(seen: _Seen) -> dict[str, Any]:
    patient, diagnosis, _ = seen
    spec = patient.spec
    return {
        "name": patient.name,
        "dialect": spec.dialect if spec else None,
        "base_url": spec.base_url if spec else None,
        "model": spec.model if spec else None,
        "state": ("healthy", "problems", "absent")[seen.code],
        "problem": patient.problem or None,
        "results": [
            result.model_dump(mode="json") for result in (diagnosis.results if diagnosis else ())
        ],
        "facts": diagnosis.facts if diagnosis else {},
        "requests": diagnosis.requests if diagnosis else 0,
        "seconds": diagnosis.seconds if diagnosis else 0.0,
        "drill": seen.drilled.as_json() if seen.drilled else None,
    }

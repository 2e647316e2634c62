"""What is wrong with an OpenClaw config as a file, before any server is asked (PROTOCOLS R19)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pytest_agentlimit.chat.messages import Frozen
from pytest_agentlimit.endpoints.openclaw_choices import choice_problems
from pytest_agentlimit.endpoints.openclaw_config import OpenClawConfig, open_config
from pytest_agentlimit.endpoints.openclaw_endpoint import (
    Entry,
    Found,
    ModelTable,
    ProviderTable,
    address_of,
    api_named,
    api_of,
    headers_of,
    key_of,
)
from pytest_agentlimit.endpoints.openclaw_files import config_path, file_of, shown_path
from pytest_agentlimit.endpoints.openclaw_problem import Code, ConfigProblem, Severity, named
from pytest_agentlimit.endpoints.openclaw_references import nameless
from pytest_agentlimit.endpoints.openclaw_rules import (
    address_problems,
    limit_problems,
    missing_window,
)
from pytest_agentlimit.endpoints.openclaw_schema import (
    MODELS,
    key_problems,
    model_keys,
    provider_keys,
)
from pytest_agentlimit.endpoints.openclaw_values import (
    complaints,
    joined,
    sampling,
    substituted,
    unset_variable,
)
from pytest_agentlimit.endpoints.probing.probe import Fix
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

_OURS = ("models.", "agents.", "agent.")


class ConfigFault(Frozen):
    """One thing that is wrong with a config; no value that may be a key is in it."""

    code: Code
    path: str
    """Where it is in the config; "" for the file as a whole."""
    message: str
    severity: Severity
    """`error`: OpenClaw or the endpoint cannot work; `warning`: it does not as one may expect."""
    fix: Fix | None = None
    included: str | None = None
    """The included file that holds it, None when the config itself does."""


class CheckedConfig(NamedTuple):
    """One config file, by its path for messages, and what is wrong with it."""

    file: str
    faults: tuple[ConfigFault, ...]

    @property
    def errors(self) -> int:
        """How many faults keep something from working."""
        return sum(fault.severity == "error" for fault in self.faults)


def check_file(given: str | None, folder: Path, environ: Mapping[str, str]) -> CheckedConfig | None:
    """Return what is wrong with the config that `open_config` would read; None without any.

    A file that cannot be read has one fault, `unreadable`, with line and column for its syntax.
    """
    try:
        config = open_config(given, folder, environ)
    except UsageProblem as error:
        fault = ConfigFault(
            code="unreadable", path="", message=one_line(str(error), 1000), severity="error"
        )
        return CheckedConfig(_file(given, folder, environ), (fault,))
    return None if config is None else CheckedConfig(config.file, check_config(config))


def _file(given: str | None, folder: Path, environ: Mapping[str, str]) -> str:
    try:
        path = config_path(given, folder, environ)
    except UsageProblem:
        path = None
    return one_line(given or "") if path is None else shown_path(path, folder, environ)


def check_config(config: OpenClawConfig) -> tuple[ConfigFault, ...]:
    """Return every fault of a config in the order of its parts, without asking any server."""
    faults: dict[tuple[str, str], ConfigFault] = {}
    for part in (_model_problems, choice_problems, _variable_problems):
        try:
            for problem in part(config):
                faults.setdefault((problem.code, problem.place), _fault(config, problem))
        except ConfigProblem as problem:  # a part that holds others is no object
            faults.setdefault((problem.code, problem.place), _fault(config, problem))
    return tuple(faults.values())


def _fault(config: OpenClawConfig, problem: ConfigProblem) -> ConfigFault:
    fix = None
    if problem.step or problem.line:
        fix = Fix(sentence=problem.step or f"write {problem.line}", line=problem.line)
    file = file_of(config.data, problem.place)
    return ConfigFault(
        code=problem.code,
        path=problem.place,
        message=one_line(problem.what, 400),
        severity=problem.severity,
        fix=fix,
        included=None if file == config.file else file,
    )


def _model_problems(config: OpenClawConfig) -> Iterator[ConfigProblem]:
    yield from key_problems(MODELS, config.data.get("models"), "models")
    yield from (problem for _, problem in nameless(config) if problem.code != "no_models")
    for provider, table in config.providers.items():
        if not isinstance(table, dict):
            continue
        yield from provider_keys(provider, table)
        yield from complaints(ProviderTable, table, joined("models.providers", provider))
        yield from _entries_problems(config, provider, table)


def _entries_problems(
    config: OpenClawConfig, provider: str, table: Mapping[str, Any]
) -> Iterator[ConfigProblem]:
    entries = table.get("models")
    models = [
        Found(provider, _id(entry), table, entry, f"models[{index}]")
        for index, entry in enumerate(entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    ]
    first: dict[str, Found] = {}
    for found in models:
        yield from model_keys(found.entry, found.model_place)
        yield from complaints(ModelTable, found.entry, found.model_place)
        yield from _entry_problems(config, found)
        yield from missing_window(_sound(found))
        before = first.setdefault(substituted(found.model, config.variables)[0], found)
        if before is not found and found.model:
            what = f"the id {named(found.model)!r} is also that of {before.place}"
            place = f"{found.model_place}.id"
            yield ConfigProblem("duplicate_id", place, what, "rename or remove one of them")
    if not models:
        yield from _entry_problems(config, Found(provider, "", table, {}, "models"))


def _id(entry: Mapping[str, Any]) -> str:
    name = entry.get("id")
    return name if isinstance(name, str) else ""


def _entry_problems(config: OpenClawConfig, found: Found) -> Iterator[ConfigProblem]:
    """Yield which rules of an endpoint are broken, then what makes a sound one a bad idea."""
    entry, variables = _sound(found), config.variables
    address, problem = _tried(lambda: address_of(entry, variables))
    if problem and not (problem.code == "no_base_url" and found.table.get("baseUrl") is not None):
        yield problem  # of a baseUrl that is no text, another complaint is told already
    elif address:
        yield from address_problems(entry, api_named(entry), address)
    variable, problem = _tried(lambda: key_of(entry, variables))
    if problem:
        yield problem
    elif variable and entry.provider.api_key is not None and not variables.get(variable):
        yield unset_variable(variable, f"{found.provider_place}.apiKey")
    for rule in (
        lambda: api_of(entry),
        lambda: headers_of(entry, variables),
        lambda: sampling(entry.params, "openai-completions", None),
    ):
        if problem := _tried(rule)[1]:
            yield problem
    yield from limit_problems(entry)


def _tried(rule: Callable[[], Any]) -> tuple[Any, ConfigProblem | None]:
    try:
        return rule(), None
    except ConfigProblem as problem:
        return None, problem


def _sound(found: Found) -> Entry:
    """Return the entry without its wrong keys, so that the rest of it can be looked at."""
    return Entry(
        found,
        ProviderTable.model_validate(_right(ProviderTable, found.table)),
        ModelTable.model_validate(_right(ModelTable, found.entry)),
    )


def _right(model: type[Frozen], table: Mapping[str, Any]) -> dict[str, Any]:
    places = [problem.place for problem in complaints(model, table, "")]
    wrong = {place.partition(".")[0].partition("[")[0] for place in places}
    return {key: value for key, value in table.items() if key not in wrong}


def _variable_problems(config: OpenClawConfig) -> Iterator[ConfigProblem]:
    """Yield each place that names a variable which is not set; elsewhere it is not our concern."""
    for place, text in _texts(config.data, ""):
        for name in substituted(text, config.variables)[1]:
            yield unset_variable(name, place, "error" if place.startswith(_OURS) else "warning")


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, joined(place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, joined(place, index))

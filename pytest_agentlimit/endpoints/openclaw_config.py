"""An OpenClaw config, read: its providers, agents, models and aliases by their names.

Parts are looked at when they are asked for, and each wrong one is a UsageProblem with its path.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_agentlimit.endpoints.openclaw_agents import AgentFiles, merged
from pytest_agentlimit.endpoints.openclaw_endpoint import Found
from pytest_agentlimit.endpoints.openclaw_files import (
    config_path,
    read_config,
    shown_path,
    state_folder,
)
from pytest_agentlimit.endpoints.openclaw_problem import Code, ConfigProblem, Severity
from pytest_agentlimit.endpoints.openclaw_values import joined, substituted
from pytest_agentlimit.text import one_line


class OpenClawConfig:
    """One config file, read; `file` is its path for messages."""

    def __init__(
        self,
        file: str,
        data: Mapping[str, Any],
        environ: Mapping[str, str],
        agent_files: AgentFiles | None = None,
    ) -> None:
        self.file = file
        self.data = data
        self._environ = environ
        self._agent_files = agent_files
        env = data.get("env")
        inline = env if isinstance(env, dict) else {}
        named = inline.get("vars")
        every = inline | (named if isinstance(named, dict) else {})
        self.variables = {k: v for k, v in every.items() if isinstance(v, str)} | dict(environ)
        """The environment, over what the config's own `env` adds to it."""

    @cached_property
    def providers(self) -> dict[str, Any]:
        """Return the providers by id, unchecked."""
        models = self.part(self.data, "models", "models")
        return self.part(models, "providers", "models.providers")

    @cached_property
    def agents(self) -> dict[str, dict[str, Any]]:
        """Return the agents by id: `agents.entries`, and `agents.list` of older configs."""
        return {name: agent for name, (_, agent) in self.placed_agents.items()}

    @cached_property
    def placed_agents(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Return the agents by id, each with its path in the config."""
        agents = self.part(self.data, "agents", "agents")
        older = agents.get("list") or []
        if not isinstance(older, list):
            raise self.problem("agents.list", "must be a list")
        listed = {
            agent["id"]: (f"agents.list[{index}]", agent)
            for index, agent in enumerate(older)
            if isinstance(agent, dict) and isinstance(agent.get("id"), str)
        }
        entries = self.part(agents, "entries", "agents.entries")
        places = {name: joined("agents.entries", name) for name in entries}
        return listed | {n: (place, self.part(entries, n, place)) for n, place in places.items()}

    @property
    def default_agent(self) -> str:
        """The agent that has the primary model: the one marked `default`, the first, or "main"."""
        marked = [name for name, agent in self.agents.items() if agent.get("default") is True]
        return next(iter([*marked, *self.agents]), "main")

    def of_agent(self, agent: str) -> OpenClawConfig:
        """Return the config as `agent` sees it; UsageProblem when its own file cannot be read."""
        models = self.part(self.data, "models", "models")
        if self._agent_files is None or models.get("mode") == "replace":
            return self
        file, providers = self._agent_files.providers(agent)
        if not providers:
            return self
        whole = {**models, "providers": merged(self.providers, providers, self.variables)}
        data = {**self.data, "models": whole}
        return OpenClawConfig(f"{self.file} with {file}", data, self._environ)

    @cached_property
    def defaults_place(self) -> str:
        """Return the path of what holds for all agents: `agent` in the oldest configs."""
        agents = self.part(self.data, "agents", "agents")
        return "agent" if "agent" in self.data and "defaults" not in agents else "agents.defaults"

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Return what holds for all agents."""
        if self.defaults_place == "agent":
            return self.part(self.data, "agent", "agent")
        agents = self.part(self.data, "agents", "agents")
        return self.part(agents, "defaults", "agents.defaults")

    @cached_property
    def models(self) -> dict[str, Found]:
        """Return every listed model, `provider/model` → what was found; the first of two wins."""
        found: dict[str, Found] = {}
        for provider, table in self.providers.items():
            entries = table.get("models") if isinstance(table, dict) else None
            for index, entry in enumerate(entries if isinstance(entries, list) else ()):
                model = entry.get("id") if isinstance(entry, dict) else None
                if isinstance(model, str) and model:
                    model = substituted(model, self.variables)[0]
                    one = Found(provider, model, table, entry, f"models[{index}]")
                    found.setdefault(one.name, one)
        return found

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Return the aliases, in lower case, → `provider/model`."""
        table = self.defaults.get("models")
        return {
            settings["alias"].lower(): name
            for name, settings in (table.items() if isinstance(table, dict) else ())
            if isinstance(settings, dict) and isinstance(settings.get("alias"), str)
        }

    def part(self, table: Mapping[str, Any], key: str, place: str) -> dict[str, Any]:
        """Return the object at `key`, {} when there is none; ConfigProblem for anything else."""
        value = table.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.problem(place, "must be an object, {…}")
        return value

    def problem(
        self,
        place: str,
        what: str,
        step: str = "",
        *,
        code: Code = "bad_value",
        severity: Severity = "error",
    ) -> ConfigProblem:
        """Return a complaint about one place of the config."""
        return ConfigProblem(code, one_line(place), what, step, severity=severity, file=self.file)


def open_config(
    given: str | None, folder: Path, environ: Mapping[str, str]
) -> OpenClawConfig | None:
    """Return the config at `given`, else the one OpenClaw itself would read; None without any.

    `given` is a file or folder, relative to `folder`. UsageProblem, one line, for a file that is
    not there or cannot be read.
    """
    path = config_path(given, folder, environ)
    if path is None:
        return None
    data = read_config(path, folder, environ)
    agent_files = AgentFiles(state_folder(path, environ), folder, environ)
    return OpenClawConfig(shown_path(path, folder, environ), data, environ, agent_files)

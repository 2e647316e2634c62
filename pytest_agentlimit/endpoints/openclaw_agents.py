"""What one agent's own models.json makes of the providers of a config (PROTOCOLS 1.1).

OpenClaw keeps that file beside its config, and an address or a key in it wins over the config's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_agentlimit.endpoints.openclaw_files import read_config, shown_path
from pytest_agentlimit.endpoints.openclaw_values import substituted

_AGENT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
# Words that OpenClaw writes for a key it holds elsewhere; the config says more about that key.
_KEPT_ELSEWHERE = re.compile(r"secretref-|oauth:|ollama-local$|custom-local$")
_WINNING = ("baseUrl", "apiKey")


class AgentFiles:
    """Reads the models.json of agents from the folder of OpenClaw's state."""

    def __init__(self, state: Path, folder: Path, environ: Mapping[str, str]) -> None:
        self._state = state
        self._folder = folder
        self._environ = environ

    def providers(self, agent: str) -> tuple[str, dict[str, Any]]:
        """Return the file's path for messages and the providers in it, ("", {}) without a file.

        UsageProblem for a file that cannot be read.
        """
        name = agent.lower()
        path = self._state / "agents" / name / "agent" / "models.json"
        if not _AGENT_ID.fullmatch(name) or not os.path.exists(path):
            return "", {}
        providers = read_config(path, self._folder, self._environ).get("providers")
        tables = providers if isinstance(providers, dict) else {}
        return shown_path(path, self._folder, self._environ), tables


def merged(
    below: Mapping[str, Any], above: Mapping[str, Any], variables: Mapping[str, str]
) -> dict[str, Any]:
    """Return the providers of a config with those of an agent's file: address and key win."""
    whole = {**above, **below}
    for provider, own in above.items():
        table = below.get(provider)
        if not isinstance(table, dict) or not isinstance(own, dict):
            continue
        won = {key: own[key] for key in _WINNING if _wins(own.get(key), table.get(key), variables)}
        whole[provider] = {**table, **won}
    return whole


def _wins(own: Any, configured: Any, variables: Mapping[str, str]) -> bool:
    if not isinstance(own, str) or not own.strip() or _KEPT_ELSEWHERE.match(own):
        return False
    # Older versions wrote the value of a variable into the file: the variable is the better name.
    same = isinstance(configured, str) and substituted(configured, variables)[0] == own
    return not same

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest


class AgentRun:
    """Runs pytest with a model, and reads what it left behind."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.folder: Path = pytester.path

    def checks(self, source: str, name: str = "test_checks") -> None:
        """Write a file of checks; `import pytest` is there already."""
        self.pytester.makepyfile(**{name: "import pytest\n" + dedent(source)})

    def __call__(self, *args: str) -> pytest.RunResult:
        """Run pytest on what was written, with only the plugins a user of ours would have."""
        return self.pytester.runpytest("--agent-report=json:out.json", *args)

    @property
    def report(self) -> dict[str, Any]:
        """The JSON report of the last run."""
        loaded = json.loads((self.folder / "out.json").read_text())
        assert isinstance(loaded, dict)
        return loaded

    @property
    def journal(self) -> list[dict[str, Any]]:
        """Every line of every journal, in order."""
        lines = []
        for path in sorted(self.folder.glob(".agentlimit/runs/*/journal.jsonl")):
            lines += [json.loads(line) for line in path.read_text().splitlines()]
        return lines

    @property
    def outcomes(self) -> list[str]:
        """Outcomes of the journalled trials, sorted."""
        return sorted(line["record"]["outcome"] for line in self.journal if "record" in line)

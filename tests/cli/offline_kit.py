"""Runs on disk and the command line over them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_agentlimit.cli import main
from pytest_agentlimit.runs.expected import expected_trial
from pytest_agentlimit.runs.journal import RunFolder
from pytest_agentlimit.runs.records import (
    CheckPlan,
    GateSettings,
    Manifest,
    ModelEntry,
    RunData,
    TrialRecord,
)

FILE = "tests/test_agent.py"


class Answer(NamedTuple):
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


class Cli:
    """Runs `agentlimit` in a project folder."""

    def __init__(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.root = root
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        monkeypatch.chdir(root)

    def __call__(self, *arguments: str) -> Answer:
        """Run one command; an error must be one line on stderr and nothing on stdout."""
        self._monkeypatch.setattr("sys.argv", ["agentlimit", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        printed = self._capsys.readouterr()
        return Answer(int(caught.value.code or 0), printed.out, printed.err)

    def refused(self, *arguments: str) -> str:
        """Run a command that cannot work and return its one line."""
        files = sorted(self.root.rglob("*"))
        answer = self(*arguments)
        assert (answer.code, answer.out) == (1, "")
        (line,) = answer.err.splitlines()
        assert line.startswith("error: ")
        assert sorted(self.root.rglob("*")) == files
        return line


def record(check: str, number: int = 1, outcome: str = "passed", **plan: Any) -> TrialRecord:
    """One trial of `test_CHECK` that took 100 ms."""
    name = f"{FILE}::test_{check}"
    bad = outcome not in ("passed", "skipped")
    return TrialRecord.model_validate(
        {
            "plan": CheckPlan(check=name, model="claw", trial=number, seed=number, **plan),
            "nodeid": f"{name}[claw-t{number}]",
            "outcome": outcome,
            "blame": "model" if bad else None,
            "message": "expected a tool call" if bad else None,
            "latency_ms": 100.0,
        }
    )


def passing(trials: int = 20, failed: int = 4) -> list[TrialRecord]:
    """Two checks: `tool_call` always passes, `strict_json` fails `failed` times."""
    return [
        *(record("tool_call", i, line=1) for i in range(1, trials + 1)),
        *(
            record("strict_json", i, "failed" if i <= failed else "passed", line=2)
            for i in range(1, trials + 1)
        ),
    ]


def run_data(records: Iterable[TrialRecord], *, also: Iterable[str] = (), **gate: Any) -> RunData:
    """A run of these records; `also` are node ids that were collected and never reported."""
    records = tuple(records)
    ids = dict.fromkeys([*(found.nodeid for found in records), *also])
    return RunData(
        manifest=Manifest(
            run_id="",
            started="2026-04-01T00:00:00+00:00",
            seed=1,
            plugin_version="0",
            host="a machine",
            models=(ModelEntry(name="claw"),),
            gate=GateSettings(**gate),
        ),
        records=records,
        expected=tuple(expected_trial(one, ["claw"]) for one in ids),
        duration_s=2.0,
    )


def keep(root: Path, data: RunData, run_id: str = "", finish: bool = True) -> RunFolder:
    """Write a run below `root`, as a session that has ended leaves it."""
    folder = RunFolder.create(root, data.manifest, run_id)
    folder.expect(trial.nodeid for trial in data.expected)
    for found in data.records:
        folder.append(found)
    if finish:
        folder.finish(data.duration_s, data.notes)
    folder.close()
    return folder

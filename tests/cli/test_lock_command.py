from __future__ import annotations

from pathlib import Path

import pytest

from pytest_agentlimit.cli import main
from pytest_agentlimit.runs.journal import RunFolder
from pytest_agentlimit.runs.lock import LOCK_NAME, read_lock
from pytest_agentlimit.runs.records import (
    CheckPlan,
    GateSettings,
    Manifest,
    ModelEntry,
    TrialRecord,
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kept_run(
    name: str,
    outcomes: list[str],
    gate: GateSettings | None = None,
    *,
    finish: bool = True,
    expected: int = 0,
) -> str:
    folder = RunFolder.create(
        Path.cwd(),
        Manifest(
            run_id="", started="2026-04-01T00:00:00+00:00", seed=1, plugin_version="0",
            host="a machine", models=(ModelEntry(name="m"),), gate=gate or GateSettings(),
        ),
        name,
    )  # fmt: skip
    for number, outcome in enumerate(outcomes, start=1):
        plan = CheckPlan(check="t.py::test_a", model="m", trial=number, seed=number)
        nodeid = f"t.py::test_a[m-t{number}]"
        folder.append(TrialRecord.model_validate(
            {"plan": plan, "nodeid": nodeid, "outcome": outcome, "latency_ms": 5.0}
        ))  # fmt: skip
    folder.expect(f"t.py::test_a[m-t{number}]" for number in range(1, expected + 1))
    if finish:
        folder.finish(1.0)
    folder.close()
    return name


def agentlimit(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["agentlimit", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_a_run_is_locked_and_one_line_says_so(monkeypatch, capsys):
    kept_run("one", ["passed", "failed"])
    assert agentlimit(monkeypatch, "lock", "one") == 0
    assert capsys.readouterr().out == (f"{LOCK_NAME}: m: 1 check, 1 of 2 trials passed (run one)\n")
    assert read_lock(Path(LOCK_NAME)).run_id == "one"


def test_a_run_that_ended_early_is_locked_with_a_caution(monkeypatch, capsys):
    kept_run("one", ["passed"] * 20, GateSettings(min_score=0.5, early_stop=True), expected=60)
    assert agentlimit(monkeypatch, "lock", "one") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{LOCK_NAME}: m: 1 check")
    assert second.startswith("note: the evidence gate ended the run of m early")


def test_a_second_lock_says_what_it_replaces(monkeypatch, capsys):
    kept_run("one", ["passed", "failed"])
    kept_run("two", ["passed", "passed"])
    assert agentlimit(monkeypatch, "lock", "one", "-o", "deep/my.json") == 0
    assert agentlimit(monkeypatch, "lock", "two", "-o", "deep/my.json") == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.endswith("; replaces run one (m: 1 check changed)")
    assert read_lock(Path("deep/my.json")).run_id == "two"


@pytest.mark.parametrize(
    "content", ["precious = 1\n", '{"lock_version": 9}', '{"lock_version": 1}']
)
def test_a_file_that_is_no_lock_is_never_overwritten(monkeypatch, capsys, content):
    kept_run("one", ["passed"])
    Path("pyproject.toml").write_text(content)
    assert agentlimit(monkeypatch, "lock", "one", "-o", "pyproject.toml") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: nothing was written: pyproject.toml is there")
    assert error.count("\n") == 1
    assert Path("pyproject.toml").read_text() == content


@pytest.mark.parametrize(
    ("outcomes", "finish", "words"),
    [
        (["passed"], False, "is not finished"),
        (["infra"], True, "scored nothing"),
    ],
)
def test_what_cannot_be_locked_leaves_nothing_behind(monkeypatch, capsys, outcomes, finish, words):
    kept_run("one", outcomes, finish=finish)
    assert agentlimit(monkeypatch, "lock", "one") == 1
    assert words in capsys.readouterr().err
    assert not Path(LOCK_NAME).exists()


def test_a_run_that_is_not_there_is_one_line(monkeypatch, capsys):
    kept_run("one", ["passed"])
    assert agentlimit(monkeypatch, "lock", "nothing") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1

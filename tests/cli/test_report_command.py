from __future__ import annotations

import io
import json
import sys
from itertools import count
from pathlib import Path
from xml.etree import ElementTree

import pytest
from offline_kit import Cli, keep, passing, record, run_data

from pytest_agentlimit.reports.writing import KINDS
from pytest_agentlimit.testing import ScriptedEndpoint, say


@pytest.fixture
def kept(cli: Cli) -> Path:
    return keep(cli.root, run_data(passing(), min_score=0.8)).path


def test_a_report_is_what_the_end_of_the_run_printed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly -p no:cacheprovider -p no:asyncio")
    monkeypatch.setenv("COLUMNS", "72")
    numbers = count()
    pytester.makepyfile(
        test_checks="""
        import pytest

        @pytest.mark.weight(3)
        @pytest.mark.latency_budget("8s")
        def test_tool_call(agent):
            assert agent.ask("hi").text == "yes"

        def test_not_so(agent):
            assert agent.ask("hi").text == "no"
        """
    )
    with ScriptedEndpoint(lambda request: say("yes", thinking=str(next(numbers)))) as server:
        result = pytester.runpytest(
            f"--agent-model={server.spec}",
            "--agent-trials=2",
            "--agent-min-score=60",
            "--agent-report=json:end.json",
            "--agent-report=markdown:end.md",
            "--agent-report=term:end.txt",
        )
    start = next(i for i, line in enumerate(result.outlines) if line.strip("= ") == "agentlimit")
    printed = result.outlines[start + 1 :]
    end = next(i for i, line in enumerate(printed) if line.startswith("report written"))
    capsys.readouterr()
    again = Cli(pytester.path, monkeypatch, capsys)
    assert again("report").out.splitlines() == printed[:end]
    for kind, name in (("json", "end.json"), ("markdown", "end.md")):
        assert again("report", "latest", "--as", kind).out == Path(name).read_text()
        again("report", "latest", "--as", kind, "-o", "again")
        assert Path("again").read_text() == Path(name).read_text()
    again("report", "latest", "-o", "again")
    assert Path("again").read_text() == Path("end.txt").read_text()


def test_every_kind_of_report_can_be_had(cli: Cli, kept: Path) -> None:
    shown = {kind: cli("report", kept.name, "--as", kind) for kind in KINDS}
    assert all(answer.code == 0 and answer.out.strip() for answer in shown.values())
    assert json.loads(shown["json"].out)["run"]["id"] == kept.name
    assert ElementTree.fromstring(shown["junit"].out) is not None
    for kind in KINDS:
        assert cli("report", kept.name, "--as", kind, "-o", f"{kind}.out").code == 0
        assert (cli.root / f"{kind}.out").read_text().strip()


def test_a_run_may_be_named_by_folder_or_beginning(cli: Cli, kept: Path) -> None:
    answers = [cli("report", name).out for name in (str(kept), kept.name[:12], "latest")]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0].endswith(f"run kept in .agentlimit/runs/{kept.name}\n")


def test_it_works_from_a_folder_below_the_project(
    cli: Cli, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cli.root / "tests").mkdir()
    monkeypatch.chdir(cli.root / "tests")
    assert "score" in cli("report").out


def test_a_red_run_is_reported_and_exits_0(cli: Cli) -> None:
    keep(cli.root, run_data(passing(), min_score=0.999))
    answer = cli("report")
    assert answer.code == 0
    assert "FAIL" in answer.out


def test_a_report_fits_the_terminal(cli: Cli, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, cli("report").out.splitlines()[:-1])) <= 60


def test_a_terminal_without_unicode_gets_ascii(
    cli: Cli, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert cli("report").code == 0
    stdout.seek(0)
    assert "score" in stdout.read()


def test_what_a_model_wrote_cannot_drive_the_terminal(cli: Cli) -> None:
    bad = record("a\x1b[2J", outcome="failed").model_copy(update={"message": "\x1b]0;x\x07"})
    keep(cli.root, run_data([bad]))
    for kind in KINDS:
        assert "\x1b" not in cli("report", "--as", kind).out


def test_damaged_lines_are_told_and_the_rest_is_reported(cli: Cli, kept: Path) -> None:
    journal = kept / "journal.jsonl"
    lines = journal.read_bytes().splitlines()
    journal.write_bytes(b"\n".join([*lines[:3], b"\xff\x00{", *lines[3:-1], lines[-1][:9]]))
    answer = cli("report")
    assert answer.code == 0
    assert "line 4 of the journal is damaged" in answer.out
    assert "the run has no end" in answer.out
    (model,) = json.loads(cli("report", "--as", "json").out)["models"]
    assert model["completion"]["scored"] == 40


# bad input


def test_without_runs(cli: Cli) -> None:
    assert "there are no runs in" in cli.refused("report")


def test_an_unknown_id(cli: Cli, kept: Path) -> None:
    assert f"the newest is {kept.name}" in cli.refused("report", "nope")


def test_a_damaged_manifest(cli: Cli, kept: Path) -> None:
    (kept / "manifest.json").write_text('{"schema_version": 9}')
    assert "cannot be understood" in cli.refused("report")
    assert (kept / "manifest.json").read_text() == '{"schema_version": 9}'


def test_an_unknown_kind_names_the_nearest(cli: Cli, kept: Path) -> None:
    assert "did you mean markdown?" in cli.refused("report", "--as", "markdwn")


def test_a_file_that_cannot_be_written(cli: Cli, kept: Path) -> None:
    (cli.root / "file").write_text("mine")
    line = cli.refused("report", "-o", "file/out.txt")
    assert "was not written to file/out.txt" in line
    assert "-o FILE" in line
    assert "--agent-report" not in line
    assert (cli.root / "file").read_text() == "mine"

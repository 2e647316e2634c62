from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from offline_kit import Cli, keep, passing, record, run_data

from pytest_agentlimit.runs.journal import RunFolder, runs_folder
from pytest_agentlimit.runs.records import RunData

FIRST, SECOND = "20260401T000000Z-0000000a", "20260402T000000Z-0000000b"


def halves() -> tuple[RunData, RunData]:
    records = passing(trials=4, failed=2)
    return run_data(records[:4], min_score=0.3), run_data(records[4:], min_score=0.3)


@pytest.fixture
def shards(cli: Cli) -> tuple[Path, Path]:
    one, two = halves()
    return keep(cli.root, one, FIRST).path, keep(cli.root, two, SECOND).path


def measured(text: str) -> object:
    report = json.loads(text)
    return report["models"], report["gate"]


def test_shards_become_one_run_and_stay_as_they_are(
    cli: Cli, shards: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = [path.read_bytes() for shard in shards for path in shard.iterdir() if path.is_file()]
    answer = cli("merge", FIRST, SECOND[:10])
    assert answer.code == 0
    assert f"merged from 2 shards: {FIRST}, {SECOND}" in " ".join(answer.out.split())
    last = answer.out.splitlines()[-1]
    path = cli.root / last.removeprefix("run kept in ")
    assert path.parent == runs_folder(cli.root)
    assert path.name not in (FIRST, SECOND)
    merged = cli("report", path.name, "--as", "json").out
    whole = keep(
        tmp_path_factory.mktemp("whole"), run_data(passing(trials=4, failed=2), min_score=0.3)
    )
    assert measured(merged) == measured(cli("report", str(whole.path), "--as", "json").out)
    after = [path.read_bytes() for shard in shards for path in shard.iterdir() if path.is_file()]
    assert after == before


def test_a_downloaded_artefact_is_searched(cli: Cli, shards: tuple[Path, Path]) -> None:
    for number, shard in enumerate(shards):
        shutil.move(shard, cli.root / "download" / f"shard-{number}" / "runs" / shard.name)
    assert cli("merge", "download").code == 0
    (path,) = runs_folder(cli.root).iterdir()
    assert len(RunFolder.open(path).load().records) == 8


def test_a_shard_given_twice_is_one_shard(cli: Cli, shards: tuple[Path, Path]) -> None:
    answer = cli("merge", FIRST, SECOND, ".agentlimit/runs", str(shards[0]))
    assert "merged from 2 shards" in answer.out
    assert "another shard" not in answer.out


@pytest.mark.parametrize("option", ["-o", "--root"])
def test_the_merged_run_may_go_to_another_project(
    cli: Cli, shards: tuple[Path, Path], option: str
) -> None:
    assert cli("merge", FIRST, SECOND, option, "elsewhere").code == 0
    assert len(list(runs_folder(cli.root).iterdir())) == 2
    (path,) = runs_folder(cli.root / "elsewhere").iterdir()
    assert RunFolder.open(path).manifest.run_id == path.name


def test_merging_again_makes_another_run(cli: Cli, shards: tuple[Path, Path]) -> None:
    cli("merge", FIRST, SECOND)
    cli("merge", FIRST, SECOND)
    assert len(list(runs_folder(cli.root).iterdir())) == 4


def test_what_is_missing_is_named(cli: Cli, shards: tuple[Path, Path]) -> None:
    lost = record("other").nodeid
    third = keep(cli.root, run_data([], also=[lost], min_score=0.3)).path
    answer = cli("merge", FIRST, SECOND, third.name)
    assert answer.code == 0
    assert f"1 trial in no shard: {lost}" in " ".join(answer.out.split())


def test_a_shard_that_was_killed_is_merged_with_a_note(cli: Cli, shards: tuple[Path, Path]) -> None:
    journal = shards[1] / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-60])
    answer = " ".join(cli("merge", FIRST, SECOND).out.split())
    assert f"read it as the part of a run that it is (shard {SECOND})" in answer
    assert f"is damaged and was left out (shard {SECOND})" in answer


# bad input


def test_shards_of_different_suites_are_refused(cli: Cli, shards: tuple[Path, Path]) -> None:
    heavier = run_data([record("tool_call", 9, line=1, weight=3.0)], min_score=0.3)
    other = keep(cli.root, heavier).path.name
    line = cli.refused("merge", FIRST, SECOND, other)
    assert f"{FIRST} and {other} are not shards of one run" in line
    assert "weight of tool call (1.0 and 3.0)" in line


def test_runs_with_other_settings_are_refused(cli: Cli, shards: tuple[Path, Path]) -> None:
    other = keep(cli.root, run_data([record("x")], min_score=0.9)).path.name
    assert "gate min_score (0.3 and 0.9)" in cli.refused("merge", FIRST, other)


def test_what_is_no_run_is_refused(cli: Cli, shards: tuple[Path, Path]) -> None:
    assert "no run is called 'nope' among 2" in cli.refused("merge", FIRST, "nope")
    (cli.root / "empty").mkdir()
    assert "no run is in empty" in cli.refused("merge", "empty")
    (shards[1] / "manifest.json").write_text("[]")
    assert "cannot be understood" in cli.refused("merge", FIRST, SECOND)


def test_without_a_shard_it_is_wrong_usage(cli: Cli) -> None:
    assert cli("merge").code == 2


def test_a_place_that_cannot_be_written_is_one_line(cli: Cli, shards: tuple[Path, Path]) -> None:
    (cli.root / "file").write_text("mine")
    assert "the run was not kept" in cli.refused("merge", FIRST, SECOND, "-o", "file")
    assert (cli.root / "file").read_text() == "mine"

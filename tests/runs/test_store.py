from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from run_builders import manifest, nodeid, trial, trials

from pytest_agentlimit.errors import AgentLimitError, UsageProblem
from pytest_agentlimit.runs.journal import RunFolder, runs_folder
from pytest_agentlimit.runs.store import (
    count_runs,
    find_run,
    find_shards,
    list_runs,
    project_root,
    prune,
)

OLD, MIDDLE, NEW = (f"2026040{day}T120000Z-0000000{day}" for day in (1, 2, 3))
NOW = datetime(2026, 4, 3, 13, tzinfo=UTC)
DAY = timedelta(days=1)
Keep = Callable[..., RunFolder]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    def make(run_id: str, *, finish: bool = True, root: Path = tmp_path) -> RunFolder:
        folder = RunFolder.create(root, manifest(min_score=0.5), run_id)
        folder.expect(nodeid("test_a.py::test_a", trial=i) for i in (1, 2))
        for record in trials(["passed", "failed"]):
            folder.append(record)
        if finish:
            folder.finish(1.0)
        folder.close()
        return folder

    return make


@pytest.fixture
def three(keep: Keep) -> list[Path]:
    return [keep(run_id).path for run_id in (MIDDLE, NEW, OLD)]


def left(root: Path) -> list[str]:
    return sorted(path.name for path in runs_folder(root).iterdir())


# find


def test_a_run_is_found_by_what_people_type(tmp_path, three, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("latest", NEW, NEW[:8], f".agentlimit/runs/{NEW}", str(tmp_path / three[1])):
        assert find_run(text, tmp_path).name == NEW


def test_of_two_runs_of_one_second_the_later_written_is_latest(tmp_path, keep):
    for run_id, touched in ((f"{NEW[:-1]}a", 2000), (f"{NEW[:-1]}f", 1000)):
        os.utime(keep(run_id).path / "manifest.json", (touched, touched))
    assert find_run("latest", tmp_path).name.endswith("a")


def test_an_ambiguous_beginning_lists_the_candidates(tmp_path, keep):
    ids = [keep(f"{NEW[:-1]}{digit}").path.name for digit in "abcdef0"]
    with pytest.raises(UsageProblem, match="beginning of 7 runs: .* and 2 more") as caught:
        find_run("2026", tmp_path)
    assert sum(run_id in str(caught.value) for run_id in ids) == 5


def test_an_unknown_id_names_the_nearest_and_how_many_there_are(tmp_path, three):
    with pytest.raises(UsageProblem, match=f"among 3; the nearest are {NEW}"):
        find_run(NEW.replace("03T", "09T"), tmp_path)
    with pytest.raises(UsageProblem, match=f"among 3; the newest is {NEW}"):
        find_run("zzz", tmp_path)


@pytest.mark.parametrize("text", ["latest", NEW, ""])
def test_no_runs_at_all_says_so(tmp_path, text):
    with pytest.raises(UsageProblem, match="there are no runs in .*; "):
        find_run(text, tmp_path)


@pytest.mark.parametrize("text", ["", "\x1b[2J", "a" * 5000, "\0", "*"])
def test_nonsense_is_no_run(tmp_path, three, text):
    with pytest.raises(UsageProblem, match="no run is called") as caught:
        find_run(text, tmp_path)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_an_id_never_leaves_the_runs_folder(tmp_path, three, keep, monkeypatch):
    elsewhere = keep(NEW, root=tmp_path / "other").path
    monkeypatch.chdir(tmp_path / "other")
    # Below the runs folder this would be a run; from here it is a path to nothing.
    inside = os.path.relpath(elsewhere, runs_folder(tmp_path))
    assert (runs_folder(tmp_path) / inside / "manifest.json").exists()
    with pytest.raises(UsageProblem, match="no run is called"):
        find_run(inside, tmp_path)
    assert find_run(f".agentlimit/runs/{NEW}", tmp_path).resolve() == elsewhere


def test_a_folder_without_a_manifest_is_no_run(tmp_path, three):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageProblem, match="holds no manifest.json"):
        find_run(str(tmp_path / "empty"), tmp_path)


def test_a_linked_folder_is_not_one_of_the_runs(tmp_path, three, keep):
    outside = keep(NEW, root=tmp_path / "other").path
    (runs_folder(tmp_path) / "20270101T000000Z-00000000").symlink_to(outside)
    assert find_run("latest", tmp_path).name == NEW
    assert count_runs(tmp_path) == 3


def test_the_project_is_the_nearest_folder_that_keeps_runs(tmp_path, three):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert project_root(deep) == tmp_path
    (tmp_path / "a" / ".agentlimit" / "runs").mkdir(parents=True)
    assert project_root(deep) == tmp_path / "a"


# shards


def test_a_folder_of_artefacts_is_searched_three_deep(tmp_path, keep):
    for number, depth in enumerate(("x", "x/y", "x/y/z")):
        path = keep(f"{NEW[:-1]}{number}").path
        target = tmp_path / "download" / str(number) / depth
        target.parent.mkdir(parents=True)
        shutil.move(path, target)
    found = find_shards(str(tmp_path / "download"), tmp_path)
    assert [path.relative_to(tmp_path / "download").as_posix() for path in found] == [
        "0/x",
        "1/x/y",
    ]
    assert len(find_shards(str(tmp_path / "download" / "2"), tmp_path)) == 1


def test_a_shard_may_be_an_id_and_a_folder_without_runs_is_refused(tmp_path, three):
    assert [path.name for path in find_shards(OLD, tmp_path)] == [OLD]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageProblem, match="no run is in .*empty"):
        find_shards(str(tmp_path / "empty"), tmp_path)
    with pytest.raises(UsageProblem, match="no run is called"):
        find_shards("nowhere", tmp_path)


# list


def test_runs_are_listed_newest_first_with_their_state(tmp_path, three, keep):
    keep("20260404T120000Z-00000004", finish=False)
    rows = list_runs(tmp_path)
    assert [row.id[:8] for row in rows] == ["20260404", "20260403", "20260402", "20260401"]
    assert [row.state for row in rows] == ["unfinished", *["finished"] * 3]
    assert rows[0].gate_asked
    assert rows[0].summary is not None
    assert rows[0].summary.models[0].score.value == 0.5
    assert [row.id for row in list_runs(tmp_path, limit=2)] == [row.id for row in rows[:2]]
    assert count_runs(tmp_path) == 4


def test_damaged_runs_are_listed_and_hide_no_other(tmp_path, three):
    middle, new, old = three
    (new / "manifest.json").write_text("{")
    (middle / "manifest.json").unlink()
    (old / "journal.jsonl").write_bytes((old / "journal.jsonl").read_bytes() + b"\xff{\n{}\n")
    assert [(row.state, row.damaged_lines) for row in list_runs(tmp_path)] == [
        ("damaged", 0),
        ("damaged", 0),
        ("finished", 2),
    ]


def test_a_line_with_impossible_numbers_is_damaged(tmp_path):
    folder = RunFolder.create(tmp_path, manifest(), NEW)
    folder.append(trial(budget_ms=1.0))
    folder.close()
    journal = folder.path / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"budget_quantile":0.95', '"budget_quantile":5'))
    assert [row.damaged_lines for row in list_runs(tmp_path)] == [1]


def test_other_folders_and_files_are_no_runs(tmp_path, three):
    (runs_folder(tmp_path) / "notes").mkdir()
    (runs_folder(tmp_path) / "20260101T000000Z-00000000").write_text("a file")
    assert count_runs(tmp_path) == 3


def test_runs_that_cannot_be_listed_say_why(tmp_path):
    (tmp_path / ".agentlimit").mkdir()
    runs_folder(tmp_path).write_text("a file")
    with pytest.raises(AgentLimitError, match="cannot be listed"):
        list_runs(tmp_path)


# prune


def test_the_newest_stay(tmp_path, three):
    assert prune(tmp_path, now=NOW, keep=1).removed == (MIDDLE, OLD)
    assert left(tmp_path) == [NEW]


def test_what_is_young_stays(tmp_path, three):
    assert prune(tmp_path, now=NOW, older_than=DAY).removed == (MIDDLE, OLD)
    assert left(tmp_path) == [NEW]


def test_with_both_a_run_must_be_beyond_both(tmp_path, three):
    assert prune(tmp_path, now=NOW, keep=2, older_than=DAY).removed == (OLD,)
    assert prune(tmp_path, now=NOW, keep=0, older_than=10 * DAY).removed == ()
    assert left(tmp_path) == [MIDDLE, NEW]


def test_without_a_rule_nothing_is_removed(tmp_path, three):
    with pytest.raises(UsageProblem, match="give --keep=N, --older-than=30d"):
        prune(tmp_path, now=NOW)
    assert len(left(tmp_path)) == 3


def test_a_dry_run_changes_nothing(tmp_path, three):
    before = sorted(tmp_path.rglob("*"))
    assert prune(tmp_path, now=NOW, keep=0, dry_run=True).removed == (NEW, MIDDLE, OLD)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_is_being_written_stays(tmp_path, three):
    writer = RunFolder.resume(three[0])
    for dry_run in (True, False):
        done = prune(tmp_path, now=NOW, keep=1, dry_run=dry_run)
        assert (done.removed, done.busy) == ((OLD,), (MIDDLE,))
    writer.append(trial(number=3))
    writer.close()
    assert len(RunFolder.open(three[0]).load().records) == 3
    assert prune(tmp_path, now=NOW, keep=1).removed == (MIDDLE,)


def test_damaged_runs_can_be_pruned(tmp_path, three):
    for path in three:
        (path / "manifest.json").write_text("{")
    assert prune(tmp_path, now=NOW, keep=0).removed == (NEW, MIDDLE, OLD)
    assert left(tmp_path) == []


def test_links_are_not_followed(tmp_path, three, keep):
    outside = keep(NEW, root=tmp_path / "other").path
    link = runs_folder(tmp_path) / "20200101T000000Z-00000000"
    link.symlink_to(outside)
    (three[0] / "artifacts" / "link").symlink_to(outside)
    (runs_folder(tmp_path) / "notes").mkdir()
    prune(tmp_path, now=NOW, keep=0)
    assert left(tmp_path) == [link.name, "notes"]
    assert RunFolder.open(outside).load().records


@pytest.mark.parametrize("linked", [".agentlimit", ".agentlimit/runs"])
def test_a_linked_runs_folder_is_not_pruned(tmp_path, three, linked):
    project = tmp_path / "project"
    (project / linked).parent.mkdir(parents=True)
    (project / linked).symlink_to(tmp_path / linked)
    with pytest.raises(UsageProblem, match="symbolic link"):
        prune(project, now=NOW, keep=0)
    assert len(left(tmp_path)) == 3


def test_what_cannot_be_removed_is_named_and_the_rest_goes(tmp_path, three, monkeypatch):
    remove = shutil.rmtree

    def fails_once(path: Path) -> None:
        if path.name == MIDDLE:
            raise PermissionError(1, "Operation not permitted")
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", fails_once)
    done = prune(tmp_path, now=NOW, keep=1)
    assert done.removed == (OLD,)
    assert done.failed == (f"{MIDDLE} (Operation not permitted)",)

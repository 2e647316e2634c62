from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest
from run_builders import call, manifest, nodeid, trial, trials

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.runs.journal import RunFolder
from pytest_agentlimit.runs.records import ModelEntry

IDS = [nodeid("test_a.py::test_a", trial=i) for i in (1, 2, 3)]
RECORDS = trials(["passed", "failed", "infra"])
DEV_FULL = Path("/dev/full")


def journal_of(folder: RunFolder) -> Path:
    return folder.path / "journal.jsonl"


def written(root: Path) -> RunFolder:
    folder = RunFolder.create(root, manifest())
    folder.expect(IDS)
    for record in RECORDS:
        folder.append(record)
    folder.finish(12.5, ["a note"])
    return folder


def test_a_run_is_read_back_as_it_was_written(tmp_path):
    folder = written(tmp_path)
    data = RunFolder.open(folder.path).load()
    assert data == folder.load()
    assert data.records == tuple(RECORDS)
    assert [(t.nodeid, t.model, t.trial) for t in data.expected] == [
        (one, "m", i) for i, one in enumerate(IDS, start=1)
    ]
    assert (data.duration_s, data.notes) == (12.5, ("a note",))
    assert data.manifest.models == manifest().models


def test_the_folder_names_the_run_and_ignores_itself_in_git(tmp_path):
    first, second = (RunFolder.create(tmp_path, manifest()) for _ in range(2))
    assert first.path != second.path
    assert first.path.parent == tmp_path / ".agentlimit" / "runs"
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{8}", first.manifest.run_id)
    assert first.path.name == first.manifest.run_id
    assert RunFolder.open(first.path).manifest == first.manifest
    assert (tmp_path / ".agentlimit" / ".gitignore").read_text() == "*\n"
    assert first.artifacts.is_dir()


def test_every_record_is_on_disk_when_append_returns(tmp_path):
    folder = RunFolder.create(tmp_path, manifest())
    for count, record in enumerate(RECORDS, start=1):
        folder.append(record)
        lines = journal_of(folder).read_text().splitlines()
        assert [json.loads(line)["kind"] for line in lines] == ["trial"] * count


def test_a_run_that_was_killed_keeps_its_finished_trials(tmp_path):
    folder = RunFolder.create(tmp_path, manifest())
    folder.expect(IDS)
    for record in RECORDS:
        folder.append(record)
    whole = journal_of(folder).read_bytes()
    journal_of(folder).write_bytes(whole[:-40])
    data = RunFolder.open(folder.path).load()
    assert data.records == tuple(RECORDS[:2])
    assert any("line 4" in note for note in data.notes)
    assert any("no end" in note for note in data.notes)


def test_only_the_newline_of_the_last_line_is_missing(tmp_path):
    folder = written(tmp_path)
    journal_of(folder).write_bytes(journal_of(folder).read_bytes().rstrip(b"\n"))
    assert RunFolder.open(folder.path).load() == folder.load()


@pytest.mark.parametrize(
    "damage", [b"{broken", b"\xff\xfe\x00", b"\0" * 50, b'{"kind":"trial"}', b"[]", b'{"kind":"x"}']
)
def test_a_damaged_line_is_named_and_the_others_are_kept(tmp_path, damage):
    folder = written(tmp_path)
    lines = journal_of(folder).read_bytes().split(b"\n")
    lines[2] = damage
    journal_of(folder).write_bytes(b"\n".join(lines))
    data = RunFolder.open(folder.path).load()
    assert data.records == (RECORDS[0], RECORDS[2])
    assert [note for note in data.notes if "line 3" in note]
    assert len(data.expected) == 3


def test_a_run_can_be_continued_behind_a_torn_line(tmp_path):
    folder = written(tmp_path)
    with journal_of(folder).open("ab") as file:
        file.write(b'{"kind":"trial","rec')
    again = RunFolder.open(folder.path)
    late = trial(number=4)
    again.expect([late.nodeid])
    again.append(late)
    again.finish(2.5)
    data = RunFolder.open(folder.path).load()
    assert data == again.load()
    assert data.records == (*RECORDS, late)
    assert len(data.expected) == 4
    assert data.duration_s == 15.0


def test_expected_ids_may_come_in_parts_and_twice(tmp_path):
    folder = RunFolder.create(tmp_path, manifest())
    folder.expect(IDS[:2])
    folder.expect([f"{IDS[1]}@group", IDS[2]])
    assert [found.nodeid for found in folder.load().expected] == IDS


def test_a_node_id_that_is_not_utf8_does_not_cost_the_others(tmp_path):
    folder = RunFolder.create(tmp_path, manifest())
    folder.expect([*IDS, "bad_\udc80.py::test_x"])
    data = RunFolder.open(folder.path).load()
    assert [found.nodeid for found in data.expected[:3]] == IDS
    assert len(data.expected) == 4


def test_notes_are_kept_printable(tmp_path):
    folder = RunFolder.create(tmp_path, manifest())
    folder.note("worker lost: \x1b[31mgw1\udc80")
    folder.finish(1, ["interrupted\x07"])
    assert RunFolder.open(folder.path).load().notes == (
        "worker lost: \\x1b[31mgw1\\udc80",
        "interrupted\\x07",
    )


def test_the_manifest_can_be_completed_later(tmp_path):
    folder = RunFolder.create(tmp_path, manifest())
    known = ModelEntry(name="m", fingerprint={"engine": "llama.cpp"})
    folder.update_manifest(folder.manifest.model_copy(update={"models": (known,)}))
    assert RunFolder.open(folder.path).manifest.models == (known,)
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "artifacts",
        "manifest.json",
        "writer.lock",
    ]


@pytest.mark.skipif(not DEV_FULL.exists(), reason="needs /dev/full")
def test_a_full_disk_costs_the_copy_and_not_the_run(tmp_path):
    folder = RunFolder.create(tmp_path, manifest())
    journal_of(folder).symlink_to(DEV_FULL)
    folder.expect(IDS)
    for record in RECORDS:
        folder.append(record)
    assert folder.problem is not None
    assert "No space left" in folder.problem
    assert "Free some space" in folder.problem
    assert folder.load().records == tuple(RECORDS)
    assert folder.problem in folder.load().notes

    journal_of(folder).unlink()
    folder.finish(1.0)
    assert folder.problem is None
    assert RunFolder.open(folder.path).load() == folder.load()
    assert folder.load().records == tuple(RECORDS)


def test_half_a_line_is_taken_back_when_the_disk_fills(tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path, manifest())
    folder.append(RECORDS[0])
    real, room = os.write, [25]

    def filling(descriptor, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = real(descriptor, bytes(data[: room[0]]))
        room[0] -= done
        return done

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", filling)
        folder.append(RECORDS[1])
    assert folder.problem is not None
    assert RunFolder.open(folder.path).load().records == (RECORDS[0],)
    folder.append(RECORDS[2])
    assert folder.problem is None
    data = RunFolder.open(folder.path).load()
    assert data.records == tuple(RECORDS)
    assert not [note for note in data.notes if "damaged" in note]


def test_half_a_line_that_cannot_be_taken_back_costs_no_later_line(tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path, manifest())
    real, calls = os.write, []

    def half_once(descriptor, data):
        calls.append(data)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, data[:10] if len(calls) == 1 else data)

    def refused(*_):
        raise OSError(errno.EINVAL, "no")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half_once)
        patched.setattr(os, "ftruncate", refused)
        folder.append(RECORDS[0])
    folder.append(RECORDS[1])
    assert RunFolder.open(folder.path).load().records == tuple(RECORDS[:2])


def test_a_place_that_cannot_be_written_is_told_and_the_run_goes_on(tmp_path):
    (tmp_path / ".agentlimit").write_text("in the way")
    folder = RunFolder.create(tmp_path, manifest())
    folder.append(RECORDS[0])
    assert folder.problem is not None
    assert "Not a directory" in folder.problem or "File exists" in folder.problem
    assert folder.load().records == (RECORDS[0],)
    (tmp_path / ".agentlimit").unlink()
    folder.append(RECORDS[1])
    assert folder.problem is None
    assert RunFolder.open(folder.path).load().records == tuple(RECORDS[:2])


def test_a_journal_deleted_while_the_run_goes_on_is_not_the_end(tmp_path):
    folder = written(tmp_path)
    journal_of(folder).unlink()
    assert folder.load().records == tuple(RECORDS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no run can be read"),
        ("{", "cannot be understood"),
        ('{"schema_version": 2}', "another version"),
    ],
)
def test_what_is_no_run_is_said_with_the_next_step(tmp_path, content, words):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UsageProblem, match=words):
        RunFolder.open(tmp_path)


def test_a_run_in_which_nothing_happened_can_be_opened(tmp_path):
    folder = RunFolder.create(tmp_path, manifest())
    data = RunFolder.open(folder.path).load()
    assert (data.records, data.expected) == ((), ())


def test_ten_thousand_trials_are_kept(tmp_path):
    folder = RunFolder.create(tmp_path, manifest())
    record = trial(calls=[call("d"), call("e")])
    for _ in range(10_000):
        folder.append(record)
    assert len(RunFolder.open(folder.path).load().records) == 10_000

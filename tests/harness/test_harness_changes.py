from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness_kit import WORKS, Stage

from pytest_agentlimit.harness import snapshot as snapshots
from pytest_agentlimit.harness.snapshot import changes, snapshot
from pytest_agentlimit.testing import call, say


def test_changes_are_told_by_what_the_files_hold(stage: Stage) -> None:
    for name in ("changed", "same", "removed", "touched"):
        (stage.workspace / name).write_text(name)
    (stage.workspace / ".git").mkdir()
    command = (
        "echo x > changed; echo -n same > same; rm removed; touch -d 2001-01-01 touched; "
        "mkdir -p new/deep; echo 1 > new/deep/file; ln -s changed link; echo 1 > .git/index"
    )
    run = stage.run(WORKS, [call("bash", cmd=command), say("Done.")])
    assert run.changes.made == ("link", "new/deep/file")
    assert run.changes.changed == ("changed",)
    assert run.changes.removed == ("removed",)


def test_links_are_compared_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "out")
    before = snapshot(root)
    (tmp_path / "out" / "file").write_text("other")
    assert not changes(before, snapshot(root))
    (root / "link").unlink()
    (root / "link").symlink_to(tmp_path)
    assert changes(before, snapshot(root)).changed == ("link",)


def test_too_many_files_are_compared_as_far_as_they_were_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MOST_FILES", 5)
    for number in range(8):
        (tmp_path / f"f{number}").write_text("x")
    before = snapshot(tmp_path)
    assert not before.complete
    (tmp_path / "f0").unlink()  # f5 comes into sight, and is not new
    (tmp_path / "f1").write_text("y")
    (tmp_path / "f11").write_text("new")
    found = changes(before, snapshot(tmp_path))
    assert (found.made, found.changed, found.removed) == (("f11",), ("f1",), ("f0",))


def test_a_workspace_with_too_many_files_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MOST_FILES", 3)
    run = stage.run(WORKS, [call("bash", cmd="touch a b c d e"), say("Done.")])
    assert run.problems == ("the workspace has too many files: only the first were compared",)


def test_odd_entries_are_seen_and_not_opened(tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "big").write_bytes(b"x" * 1_000_001)
    os.close(os.open(os.fsencode(tmp_path) + b"/caf\xe9", os.O_CREAT))
    after = snapshot(tmp_path)
    assert changes(before, after).made == ("big", "caf\\xe9", "fifo")
    os.utime(tmp_path / "big", ns=(1, 1))
    assert changes(after, snapshot(tmp_path)).changed == ("big",)

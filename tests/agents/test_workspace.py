from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from agent_fakes import call

from pytest_agentlimit.agents.calls import carry_out
from pytest_agentlimit.agents.workspace import READ_LIMIT, WRITE_LIMIT, Workspace
from pytest_agentlimit.chat.messages import ToolResult
from pytest_agentlimit.errors import ExpectationFailed, ToolProblem, WorkspaceViolation


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text("hidden")
    return folder


@pytest.fixture
def place(tmp_path: Path, outside: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def use(place: Workspace, name: str, **arguments: object) -> ToolResult:
    return carry_out(call(name, **arguments), place.tools, frozenset())


def every_access(place: Workspace, path: str) -> list[ToolResult]:
    return [
        use(place, "read_file", path=path),
        use(place, "write_file", path=path, content="x"),
        use(place, "edit_file", path=path, old="hidden", new="x"),
        use(place, "list_files", path=path),
        use(place, "grep", pattern="hidden", path=path),
    ]


def test_written_text_is_read_back_exactly(place: Workspace) -> None:
    place.write("a/b/notes.txt", "one\r\ntwo ✓\n")
    assert place.read("a/b/notes.txt") == "one\r\ntwo ✓\n"
    assert (place.path / "a/b/notes.txt").read_bytes() == "one\r\ntwo ✓\n".encode()


def test_writing_replaces_the_whole_content(place: Workspace) -> None:
    place.write("f", "long text")
    place.write("f", "s")
    assert place.read("./f") == "s"


def test_an_absolute_path_inside_is_accepted(place: Workspace) -> None:
    place.write(f"{place.path}/f", "x")
    assert place.read("f") == "x"


def test_a_missing_file_is_a_failed_expectation(place: Workspace) -> None:
    with pytest.raises(ExpectationFailed, match=r"there is no 'no/report\.txt' in the workspace"):
        place.read("no/report.txt")


def test_edit_replaces_the_one_occurrence(place: Workspace) -> None:
    place.write("f", "a b c")
    place.edit("f", "b", "B")
    assert place.read("f") == "a B c"


@pytest.mark.parametrize(
    ("old", "reason"), [("x", "is not in"), ("a", "occurs 2 times"), ("", "is not in")]
)
def test_an_edit_that_is_not_clear_changes_nothing(place: Workspace, old: str, reason: str) -> None:
    place.write("f", "a a")
    with pytest.raises(ToolProblem, match=reason):
        place.edit("f", old, "b")
    assert place.read("f") == "a a"


def test_list_tells_folders_and_links_from_files(place: Workspace) -> None:
    place.write("sub/f", "")
    place.write("a", "")
    (place.path / "link").symlink_to("a")
    assert place.list() == ("a", "link@", "sub/")
    assert place.list("sub") == ("f",)


def test_grep_finds_lines_in_files_and_folders(place: Workspace) -> None:
    place.write("b/x.py", "import os\n  value = 42\n")
    place.write("a.txt", "value: 7\n")
    assert place.grep(r"value\W+\d") == ("a.txt:1: value: 7", "b/x.py:2: value = 42")
    assert place.grep("value", "b/x.py") == ("b/x.py:2: value = 42",)
    assert place.grep("nothing") == ()


def test_grep_skips_what_is_no_text(place: Workspace, outside: Path) -> None:
    (place.path / "binary").write_bytes(b"hidden\0")
    (place.path / "link").symlink_to(outside / "secret.txt")
    (place.path / "folder").symlink_to(outside)
    os.mkfifo(place.path / "pipe")
    assert place.grep("hidden") == ()


def test_grep_with_a_hostile_pattern_ends(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_agentlimit.agents.workspace.GREP_TIME_S", 0.4)
    place.write("f", "a" * 60 + "!")
    with pytest.raises(ToolProblem, match=r"no end after 0\.4 s"):
        place.grep("(a+)+$")


def test_grep_explains_a_bad_pattern(place: Workspace) -> None:
    with pytest.raises(ToolProblem, match="not a regular expression: missing \\)"):
        place.grep("(")


def test_grep_shows_the_first_matches_only(place: Workspace) -> None:
    place.write("f", "x\n" * 500)
    assert len(place.grep("x")) == 200
    assert use(place, "grep", pattern="x").content.endswith("[the first 200 matches]")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../outside/secret.txt",
        "sub/../../outside/secret.txt",
        "..",
        "~/.ssh/id_rsa",
        "a\0b",
        "//etc/passwd",
        "/",
    ],
)
def test_a_path_that_leads_out_is_refused(place: Workspace, outside: Path, path: str) -> None:
    for result in every_access(place, path):
        assert result.is_error
        assert "hidden" not in result.content.partition(";")[0]
        assert str(place.path) not in result.content
    assert (outside / "secret.txt").read_text() == "hidden"
    assert list(place.path.iterdir()) == []


def test_a_violation_is_an_exception_for_a_check(place: Workspace) -> None:
    with pytest.raises(WorkspaceViolation, match="outside of the workspace"):
        place.read("/etc/passwd")


def test_a_sibling_with_the_same_beginning_is_outside(place: Workspace, tmp_path: Path) -> None:
    sibling = tmp_path / "workspace2"
    sibling.mkdir()
    with pytest.raises(WorkspaceViolation):
        place.write(f"{sibling}/f", "x")
    assert list(sibling.iterdir()) == []


@pytest.mark.parametrize("path", ["link", "folder/secret.txt", "loop", "dangling"])
def test_links_are_not_followed(place: Workspace, outside: Path, path: str) -> None:
    (place.path / "link").symlink_to(outside / "secret.txt")
    (place.path / "folder").symlink_to(outside)
    (place.path / "loop").symlink_to("loop")
    (place.path / "dangling").symlink_to(outside / "made")
    for result in every_access(place, path):
        assert result.is_error
        assert "symbolic link" in result.content
    assert sorted(file.name for file in outside.iterdir()) == ["secret.txt"]
    assert (outside / "secret.txt").read_text() == "hidden"


def test_a_link_made_by_the_shell_leads_nowhere(place: Workspace, outside: Path) -> None:
    assert place.shell(f"ln -s {outside}/secret.txt link").ok
    with pytest.raises(WorkspaceViolation, match="symbolic link"):
        place.read("link")
    with pytest.raises(WorkspaceViolation, match="symbolic link"):
        place.write("link", "x")
    assert (outside / "secret.txt").read_text() == "hidden"


def test_a_hard_link_inside_is_a_file_like_any_other(place: Workspace) -> None:
    place.write("f", "x")
    os.link(place.path / "f", place.path / "g")
    assert place.read("g") == "x"


def test_a_fifo_does_not_hang(place: Workspace) -> None:
    os.mkfifo(place.path / "pipe")
    with pytest.raises(ToolProblem, match="not a regular file"):
        place.read("pipe")
    with pytest.raises(ToolProblem, match="not a regular file"):
        place.write("pipe", "x")
    assert stat.S_ISFIFO((place.path / "pipe").stat().st_mode)


def test_a_device_is_refused(place: Workspace) -> None:
    try:
        os.mknod(place.path / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this user cannot make devices")
    with pytest.raises(ToolProblem):
        place.read("zero")


@pytest.mark.parametrize("path", ["n" * 300, "d/" * 3000 + "f"])
def test_a_path_that_is_too_long_gets_a_short_answer(place: Workspace, path: str) -> None:
    for result in every_access(place, path):
        assert result.is_error
        assert len(result.content) < 300


@pytest.mark.parametrize("path", ["", ".", "sub"])
def test_a_folder_is_no_file(place: Workspace, path: str) -> None:
    place.write("sub/f", "x")
    with pytest.raises(ToolProblem):
        place.read(path)
    with pytest.raises(ToolProblem):
        place.write(path, "x")
    assert place.read("sub/f") == "x"


def test_a_file_is_no_folder(place: Workspace) -> None:
    place.write("f", "x")
    for path in ("f/g", "f/g/h"):
        with pytest.raises(ToolProblem):
            place.write(path, "x")
    with pytest.raises(ToolProblem, match="Not a directory"):
        place.list("f")


def test_a_file_too_large_to_read_is_told_with_its_size(place: Workspace) -> None:
    place.write("big", "x" * (READ_LIMIT + 1))
    with pytest.raises(ToolProblem, match=f"has {READ_LIMIT + 1} bytes"):
        place.read("big")


def test_a_text_too_large_to_write_changes_nothing(place: Workspace) -> None:
    place.write("f", "x")
    with pytest.raises(ToolProblem, match="too many"):
        place.write("f", "x" * (WRITE_LIMIT + 1))
    assert place.read("f") == "x"


def test_binary_content_is_shown_as_escapes(place: Workspace) -> None:
    (place.path / "b").write_bytes(b"\x89PNG\0\xff")
    result = use(place, "read_file", path="b")
    assert result.content == r"binary file of 6 bytes, it begins b'\x89PNG\x00\xff'"
    (place.path / "l").write_bytes(b"caf\xe9")
    assert use(place, "read_file", path="l").content == r"caf\xe9"
    assert use(place, "edit_file", path="l", old="caf", new="x").is_error


def test_the_shell_sees_and_changes_the_same_files(place: Workspace) -> None:
    place.write("f", "b\na\n")
    result = use(place, "shell", command="sort f | tee sorted; echo oops >&2; exit 2")
    assert result.content == "exit code 2\na\nb\nstderr:\noops"
    assert not result.is_error
    assert place.read("sorted") == "a\nb\n"


def test_the_shell_is_stopped_in_time(place: Workspace) -> None:
    result = use(place, "shell", command="echo begun; sleep 30", timeout_s=0.3)
    assert result.content == "stopped after 0.3 s\nbegun"


def test_the_tools_are_six_and_described(place: Workspace) -> None:
    names = [item.name for item in place.tools]
    assert names == ["read_file", "write_file", "edit_file", "list_files", "grep", "shell"]
    for item in place.tools:
        assert item.description
        assert all("description" in part for part in item.parameters["properties"].values())
        assert item.parameters["additionalProperties"] is False


def test_a_model_works_through_the_tools(place: Workspace) -> None:
    assert use(place, "list_files").content == "the folder is empty"
    assert use(place, "write_file", path="a.txt", content="hello").content == "wrote 5 characters"
    assert use(place, "edit_file", path="a.txt", old="hello", new="bye").content == "replaced"
    assert use(place, "read_file", path="a.txt").content == "bye"
    assert use(place, "grep", pattern="b.e").content == "a.txt:1: bye"
    assert use(place, "grep", pattern="z").content == "no match"
    assert use(place, "list_files", path=".").content == "a.txt"

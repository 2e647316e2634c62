from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pytest_agentlimit.errors import AgentLimitError, UsageProblem
from pytest_agentlimit.reports.writing import ReportRequest, parse_report_option, write_report


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("json", ReportRequest("json")),
        ("json:out.json", ReportRequest("json", "out.json")),
        ("markdown:a:b.md", ReportRequest("markdown", "a:b.md")),
        ("term", ReportRequest("term")),
    ],
)
def test_an_option_names_a_kind_and_maybe_a_file(text, request_):
    assert parse_report_option(text) == request_


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(UsageProblem, match="did you mean json"):
        parse_report_option("jsn:out.json")
    with pytest.raises(UsageProblem, match="did you mean markdown"):
        parse_report_option("Markdown")
    with pytest.raises(UsageProblem, match="The types are term, json, markdown"):
        parse_report_option("\x1b[31mzzz")


def test_an_empty_file_name_is_refused():
    with pytest.raises(UsageProblem, match="no file after the colon"):
        parse_report_option("json:")


def test_where_a_report_goes(tmp_path):
    assert parse_report_option("json").path(tmp_path) == tmp_path / "agentlimit-report.json"
    assert parse_report_option("markdown").path(tmp_path) == tmp_path / "agentlimit-report.md"
    assert parse_report_option("json:a/b.json").path(tmp_path) == tmp_path / "a" / "b.json"
    assert parse_report_option(f"json:{tmp_path}/x").path(Path("/elsewhere")) == tmp_path / "x"
    assert parse_report_option("term").path(tmp_path) is None


def test_a_report_is_written_with_its_folders(tmp_path):
    dest = tmp_path / "deep" / "er" / "out.json"
    assert write_report("json", dest, "naïve\n") == dest
    assert dest.read_bytes() == "naïve\n".encode()
    assert os.listdir(dest.parent) == ["out.json"]


def test_an_older_report_is_replaced(tmp_path):
    dest = tmp_path / "out.json"
    dest.write_text("a much longer old report")
    write_report("json", dest, "new")
    assert dest.read_text() == "new"


def test_a_report_is_as_readable_as_any_other_file(tmp_path):
    (tmp_path / "other").write_text("")
    write_report("json", tmp_path / "out.json", "x")
    assert (tmp_path / "out.json").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    write_report("json", tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(AgentLimitError, match=r"not written to .*: it is a folder"):
        write_report("json", tmp_path, "x")


def test_a_file_in_the_way_of_a_folder_is_one_readable_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AgentLimitError, match="Name another file with --agent-report=json:FILE"):
        write_report("json", tmp_path / "file" / "out.json", "x")


def test_a_full_disk_is_one_readable_error_and_the_old_report_survives(tmp_path, monkeypatch):
    dest = tmp_path / "out.json"
    dest.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AgentLimitError, match="No space left on device"):
        write_report("json", dest, "new")
    assert dest.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_report("json", pipe, "through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_name_no_file_can_have_is_one_readable_error(tmp_path):
    with pytest.raises(AgentLimitError, match="was not written"):
        write_report("json", tmp_path / ("x" * 300), "x")
    with pytest.raises(AgentLimitError, match="was not written"):
        write_report("json", Path("a\0b"), "x")

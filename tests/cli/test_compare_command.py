from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.cells import cell_len

from pytest_agentlimit.cli import main
from pytest_agentlimit.reports.json_report import to_json
from pytest_agentlimit.runs.journal import RunFolder
from pytest_agentlimit.runs.lock import write_lock
from pytest_agentlimit.runs.locking import lock_of
from pytest_agentlimit.runs.summary import summarise

APRIL = Path(__file__).parents[2] / "example_suites" / "april_2026"
GEMMA, CLAW = f"{APRIL}#gemma4", f"{APRIL}#open-claw"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    data = RunFolder.open(APRIL).load()
    Path("report.json").write_text(to_json(summarise(data)))
    write_lock(lock_of(data), Path("lock.json"))
    return tmp_path


def agentlimit(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["agentlimit", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_two_models_of_a_run(monkeypatch, capsys):
    assert agentlimit(monkeypatch, "compare", GEMMA, CLAW) == 0
    text = capsys.readouterr().out
    assert text.startswith("A gemma4 against B open-claw\n")
    assert "+5.3 points (−29.8 … +39.4), 95 % interval · p = 1.0 (label swap)" in text
    assert "open-claw is faster in 9 of 10 checks: 1.69 times (1.08–2.65)" in text
    assert "served by    model gemma4 → open-claw" in text
    assert all(cell_len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("a", [GEMMA, "report.json#gemma4", "lock.json#gemma4"])
@pytest.mark.parametrize("b", [CLAW, "report.json#open-claw", "lock.json#open-claw"])
def test_runs_reports_and_locks_give_the_same_gap(monkeypatch, capsys, a, b):
    assert agentlimit(monkeypatch, "compare", a, b, "--as", "json") == 0
    (part,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert part["difference"] == pytest.approx(1 / 19)
    assert part["p_value"] == 1.0
    assert part["verdict"].startswith("cannot tell: gemma4 against open-claw")
    locked = "lock.json" in a + b
    assert part["speed_p"] == (None if locked else pytest.approx(1 / 256))


def test_a_lock_has_no_speed_and_a_report_says_it_holds_medians(monkeypatch, capsys):
    assert agentlimit(monkeypatch, "compare", "lock.json#gemma4", CLAW) == 0
    assert "not measured: a lock holds no latencies" in capsys.readouterr().out
    assert agentlimit(monkeypatch, "compare", "report.json#gemma4", CLAW) == 0
    assert "from the medians in the report file" in capsys.readouterr().out


def test_models_of_one_name_are_told_by_their_source(monkeypatch, capsys):
    assert agentlimit(monkeypatch, "compare", GEMMA, "report.json#gemma4") == 0
    text = capsys.readouterr().out
    assert text.startswith("A gemma4 (april_2026) against B gemma4 (report.json)\n")
    assert "same fingerprint" in text


def test_the_other_side_chooses_a_model_of_the_same_name(monkeypatch, capsys):
    assert agentlimit(monkeypatch, "compare", "report.json", "lock.json#open-claw") == 0
    assert "B open-claw (lock.json)" in capsys.readouterr().out


def test_a_comparison_is_written_whole_to_a_file(monkeypatch, capsys):
    words = ("compare", GEMMA, CLAW, "--as", "markdown", "-o", "out/c.md")
    assert agentlimit(monkeypatch, *words) == 0
    assert capsys.readouterr().out == "comparison written to out/c.md\n"
    assert Path("out/c.md").read_text().startswith("### A gemma4 against B open-claw\n\n| check |")
    assert agentlimit(monkeypatch, "compare", GEMMA, CLAW, "-o", "out/c.txt") == 0
    assert "difference   +5.3 points" in Path("out/c.txt").read_text()


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> str:
    assert agentlimit(monkeypatch, "compare", *words) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    return output.err


def test_unlike_ones_are_refused_with_what_differs(monkeypatch, capsys):
    lock = json.loads(Path("lock.json").read_text())
    checks = lock["models"][0]["checks"]
    first, second, *_ = checks
    del checks[first]
    checks[second]["weight"] = 7
    Path("other.json").write_text(json.dumps(lock))
    error = refused(monkeypatch, capsys, "other.json#gemma4", GEMMA)
    assert "cannot be compared" in error
    assert "scored in gemma4 (april_2026) only: april_2026::test_basic_response" in error
    assert "weights differ" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("report.json", "lock.json"), "has gemma4, open-claw: choose one, report.json#MODEL"),
        (("report.json#nobody", CLAW), "report.json holds no nobody; it has gemma4, open-claw"),
        ((GEMMA, GEMMA), "both sides are gemma4 of april_2026"),
        ((GEMMA, CLAW, "--as", "html"), "--as is one of term, markdown, json, not 'html'"),
        (("broken.json", CLAW), "broken.json is no JSON, or was cut off"),
        (("other.json", CLAW), "neither a JSON report nor a lock"),
        (("newer.json", CLAW), "has schema version 2, and this pytest-agentlimit reads version 1"),
        (("newer-lock.json", CLAW), "has lock version 2"),
        (("wrong.json", CLAW), "the report wrong.json is damaged (models → 0 → checks"),
        (("no-such-run", CLAW), "no-such-run"),
    ],
)
def test_what_cannot_be_compared_is_one_clear_line(monkeypatch, capsys, words, said):
    Path("broken.json").write_text('{"schema_version": 1,')
    Path("other.json").write_text("[1]")
    Path("newer.json").write_text('{"schema_version": 2, "models": []}')
    Path("newer-lock.json").write_text('{"lock_version": 2}')
    Path("wrong.json").write_text(
        '{"schema_version": 1, "models": [{"name": "m", "fingerprint": {}, "checks": [{}]}]}'
    )
    assert said in refused(monkeypatch, capsys, *words)

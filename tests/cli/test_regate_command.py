from __future__ import annotations

import json
from pathlib import Path

import pytest
from offline_kit import FILE, Cli, keep, passing, record, run_data


@pytest.fixture
def kept(cli: Cli) -> Path:
    """A run without a threshold: 36 of 40 trials passed, each took 100 ms."""
    return keep(cli.root, run_data(passing())).path


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--min-score=60"], 0, "PASS"),
        (["--min-score=60 %"], 0, "PASS"),
        (["--min-score=99"], 1, "FAIL"),
        (["--min-score=99", "--gate=off"], 0, "FAIL"),
        (["--min-score=85"], 0, "INCONCLUSIVE"),
        (["--min-score=85", "--gate=strict"], 1, "INCONCLUSIVE"),
        (["--min-score=95"], 1, "INCONCLUSIVE"),
        (["--min-score=95", "--gate=proven"], 0, "INCONCLUSIVE"),
        (["--p95=50ms"], 1, "FAIL"),
        (["--p95=within-budget", "--budget", "*=50ms"], 1, "FAIL"),
        (["--p95=within-budget", "--budget", "tool=1s"], 0, "INCONCLUSIVE"),
        (["--min-score=60", "--blocker", "tool call"], 0, "PASS"),
        (["--min-score=60", "--blocker", "strict"], 1, "FAIL"),
        (["--min-score=60", "--weight", "strict json=1e6"], 0, "INCONCLUSIVE"),
    ],
)
def test_the_exit_code_follows_the_new_gate(
    cli: Cli, kept: Path, options: list[str], code: int, word: str
) -> None:
    answer = cli("regate", "latest", *options)
    (gate,) = [line for line in answer.out.splitlines() if line.startswith("gate ")]
    assert (answer.code, gate.split()[1]) == (code, word)
    assert answer.err == ""


def test_nothing_is_written(cli: Cli, kept: Path) -> None:
    before = {path: path.read_bytes() for path in cli.root.rglob("*") if path.is_file()}
    assert cli("regate", kept.name, "--min-score=50", "--weight", "tool=2").code == 0
    assert {path: path.read_bytes() for path in cli.root.rglob("*") if path.is_file()} == before


def test_a_report_of_it_can_be_written_and_is_not_the_runs_own(cli: Cli, kept: Path) -> None:
    options = ["--min-score=99", "--weight", f"{FILE}::test_tool_call=2.5"]
    answer = cli("regate", "latest", *options, "--as", "json", "-o", "new/out.json")
    assert answer.code == 1
    assert "FAIL" in answer.out
    assert answer.out.endswith("report written to new/out.json\n")
    report = json.loads((cli.root / "new" / "out.json").read_text())
    assert report["gate"]["verdict"] == "fail"
    assert sorted(check["weight"] for check in report["models"][0]["checks"]) == [1.0, 2.5]
    assert json.loads(cli("report", "--as", "json").out)["gate"]["verdict"] == "pass"
    assert "judged again after the run" in cli("regate", *options[:0], "latest", *options).out


def test_another_format_goes_to_stdout(cli: Cli, kept: Path) -> None:
    answer = cli("regate", "latest", "--min-score=99", "--as", "json")
    assert answer.code == 1
    assert json.loads(answer.out)["gate"]["verdict"] == "fail"


def test_what_the_run_asked_holds_unless_it_is_given(cli: Cli) -> None:
    keep(cli.root, run_data(passing(), min_score=0.85, mode="strict"))
    assert cli("regate").code == 1
    assert cli("regate", "latest", "--gate=point").code == 0
    assert cli("regate", "latest", "--min-score=60").code == 0


def test_a_pattern_may_hold_an_equals_sign_and_the_last_option_wins(cli: Cli) -> None:
    keep(cli.root, run_data([record("deep[n=1]"), record("deep[n=2]")], min_score=0.1))
    options = ["--weight", "n=1=3", "--weight", "deep=4", "--weight", "n=1=5", "--as", "json"]
    report = json.loads(cli("regate", "latest", *options).out)
    weights = {check["id"][-4:]: check["weight"] for check in report["models"][0]["checks"]}
    assert weights == {"n=1]": 5.0, "n=2]": 4.0}


# bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give --min-score=80"),
        (["--gate=strict"], "give --min-score=80"),
        (["--min-score=.85"], "--min-score=.85 would be 0.85 %: write it in per cent, such as 85"),
        (["--min-score=130"], "--min-score takes a percentage above 0 and up to 100"),
        (["--min-score=abc"], "--min-score takes a percentage"),
        (["--p95=6"], '--p95: "6" has no unit: write "6s"'),
        (["--p95=soon"], "or within-budget"),
        (["--gate=maybe"], "--gate is one of point, strict, proven, off, not 'maybe'"),
        (["--min-score=50", "--weight=3"], "--weight takes PATTERN=VALUE, not '3'"),
        (["--min-score=50", "--weight==3"], "--weight takes PATTERN=VALUE"),
        (["--min-score=50", "--weight=tool=0"], "a weight is a number above 0, not '0'"),
        (["--min-score=50", "--weight=tool=nan"], "a weight is a number above 0"),
        (["--min-score=50", "--weight=tool=inf"], "a weight is a number above 0"),
        (["--min-score=50", "--budget=tool=6"], '--budget tool=6: "6" has no unit'),
        (["--min-score=50", "--weight=tol cal=3"], "the nearest are tool call"),
        (["--min-score=50", "--blocker=zzz"], "no check fits 'zzz'"),
        (["--p95=6s", "--budget=tool=1s"], "one budget for all; add --p95=within-budget"),
        (["--min-score=50", "--as=jsonn"], "did you mean json?"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    cli: Cli, kept: Path, options: list[str], said: str
) -> None:
    assert said in cli.refused("regate", "latest", *options)


def test_runs_that_cannot_be_read(cli: Cli, kept: Path) -> None:
    assert "no run is called" in cli.refused("regate", "nope", "--min-score=50")
    (kept / "manifest.json").write_text("{")
    assert "cannot be understood" in cli.refused("regate", "latest", "--min-score=50")


def test_damaged_lines_do_not_stop_it(cli: Cli, kept: Path) -> None:
    with (kept / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"kind": "trial"}\n')
    answer = cli("regate", "latest", "--min-score=60")
    assert answer.code == 0
    assert "is damaged and was left out" in answer.out


def test_an_output_that_cannot_be_written_is_an_error(cli: Cli, kept: Path) -> None:
    answer = cli("regate", "latest", "--min-score=60", "-o", ".")
    assert answer.code == 1
    assert answer.err.startswith("error: the term report was not written to .: it is a folder")

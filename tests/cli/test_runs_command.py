from __future__ import annotations

from pathlib import Path

import pytest
from offline_kit import Cli, keep, passing, record, run_data

from pytest_agentlimit.runs.journal import RunFolder, runs_folder

OLD, NEW = "20260401T120000Z-0000000a", "20260402T120000Z-0000000b"
FAR = "99990101T000000Z-0000000c"


@pytest.fixture
def two(cli: Cli) -> tuple[Path, Path]:
    asked = keep(cli.root, run_data(passing(), min_score=0.6), OLD)
    uneven = [record("tool_call"), record("tool_call", 2, "infra"), record("x", 1, "infra")]
    return asked.path, keep(cli.root, run_data(uneven), NEW, finish=False).path


def left(cli: Cli) -> list[str]:
    return sorted(path.name for path in runs_folder(cli.root).iterdir())


def test_a_line_says_what_a_run_was(cli: Cli, two: tuple[Path, Path]) -> None:
    new, old = cli("runs").out.splitlines()
    assert old.split() == [
        *(OLD, "2026-04-01", "00:00:00", "claw", "2", "×", "20"),
        *("90.0", "%", "(77.5–96.0)", "PASS", "finished"),
    ]
    assert new.split()[4:9] == ["2", "×", "1–2", "100.0", "%"]
    assert new.split()[-3:] == ["not", "asked", "unfinished"]


def test_what_was_not_scored_was_not_measured(cli: Cli) -> None:
    keep(cli.root, run_data([record("x", 1, "infra")]), OLD)
    keep(cli.root, run_data([]), NEW)
    empty, infra = cli("runs").out.splitlines()
    assert "not measured" in infra
    assert "no trials" in empty
    assert "not measured" in empty


def test_damaged_runs_are_listed(cli: Cli, two: tuple[Path, Path]) -> None:
    (two[0] / "manifest.json").write_text("{")
    with (two[1] / "journal.jsonl").open("ab") as journal:
        journal.write(b"\xff\n")
    new, old = cli("runs").out.splitlines()
    assert old.split()[0] == OLD
    assert old.split()[-1] == "damaged"
    assert new.endswith("unfinished, 1 damaged line")


def test_the_newest_twenty_unless_all_are_asked_for(cli: Cli) -> None:
    for number in range(25):
        keep(cli.root, run_data([record("x")]), f"20260401T0000{number:02}Z-00000000")
    lines = cli("runs").out.splitlines()
    assert [line[13:15] for line in lines[:-1]] == [f"{n:02}" for n in range(24, 4, -1)]
    assert lines[-1] == "the newest 20 of 25 runs; --all lists every one"
    assert len(cli("runs", "--all").out.splitlines()) == 25


def test_without_runs_it_says_how_to_make_one(cli: Cli) -> None:
    assert cli("runs") == (0, "no runs here yet: run pytest with --agent-model\n", "")


def test_a_terminal_gets_a_table_with_headers(
    cli: Cli, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    out = cli("runs").out
    assert "checks × trials" in out
    assert OLD in out


def test_a_name_cannot_drive_the_terminal(cli: Cli) -> None:
    data = run_data([record("x")])
    hostile = data.manifest.models[0].model_copy(update={"name": "\x1b[2J[red]x\n"})
    manifest = data.manifest.model_copy(update={"models": (hostile,)})
    keep(cli.root, data.model_copy(update={"manifest": manifest}))
    (line,) = cli("runs").out.splitlines()
    assert "\x1b" not in line
    assert "[red]x" in line


# prune


def test_old_runs_are_removed_and_named(cli: Cli, two: tuple[Path, Path]) -> None:
    keep(cli.root, run_data([]), FAR)
    answer = cli("runs", "prune", "--keep=2")
    assert (answer.code, answer.out) == (0, f"removed {OLD}\n")
    assert left(cli) == [NEW, FAR]
    assert cli("runs", "prune", "--older-than=30d").out == f"removed {NEW}\n"
    assert cli("runs", "prune", "--older-than", "12 h").out == "nothing to remove\n"
    assert left(cli) == [FAR]


def test_a_dry_run_removes_nothing(cli: Cli, two: tuple[Path, Path]) -> None:
    answer = cli("runs", "prune", "--keep=0", "--dry-run")
    assert answer.out.splitlines() == [f"would remove {NEW}", f"would remove {OLD}"]
    assert left(cli) == [OLD, NEW]


def test_a_run_that_is_being_written_is_kept(cli: Cli, two: tuple[Path, Path]) -> None:
    writer = RunFolder.resume(two[0])
    answer = cli("runs", "prune", "--keep=0")
    writer.close()
    assert answer.out.splitlines() == [f"removed {NEW}", f"kept {OLD}: it is being written"]
    assert left(cli) == [OLD]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give --keep=N, --older-than=30d or both"),
        (["--dry-run"], "give --keep=N, --older-than=30d or both"),
        (["--older-than=30"], '"30" has no unit'),
        (["--older-than=0d"], "--older-than: "),
        (["--older-than=soon"], "or days, such as 30d"),
    ],
)
def test_a_rule_that_makes_no_sense_removes_nothing(
    cli: Cli, two: tuple[Path, Path], options: list[str], said: str
) -> None:
    assert said in cli.refused("runs", "prune", *options)


def test_an_impossible_number_is_wrong_usage(cli: Cli, two: tuple[Path, Path]) -> None:
    for value in ("-1", "many"):
        assert cli("runs", "prune", f"--keep={value}").code == 2
    assert left(cli) == [OLD, NEW]


def test_an_age_beyond_all_time_is_one_line(cli: Cli, two: tuple[Path, Path]) -> None:
    assert "--older-than" in cli.refused("runs", "prune", f"--older-than={'9' * 30}d")


def test_a_linked_runs_folder_is_left_alone(cli: Cli, two: tuple[Path, Path]) -> None:
    real = cli.root / "elsewhere"
    runs_folder(cli.root).rename(real)
    runs_folder(cli.root).symlink_to(real)
    assert "symbolic link" in cli.refused("runs", "prune", "--keep=0")


def test_what_cannot_be_removed_is_an_error(
    cli: Cli, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refuse)
    assert f"{OLD} (Permission denied)" in cli.refused("runs", "prune", "--keep=1")

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from harness_suite_driver import fresh_workspace
from pytest_agentlimit.example_suites.harness import (
    file_task,
    fix_task,
    log_task,
    release_task,
    rename_task,
    setting_task,
)
from pytest_agentlimit.example_suites.harness.task import Task, run_python

from pytest_agentlimit.agents.workspace import READ_LIMIT, Workspace

GENERATORS: list[Callable[[Random], Task]] = [
    file_task.file_task,
    fix_task.fix_task,
    rename_task.rename_task,
    log_task.log_task,
    release_task.release_task,
    setting_task.setting_task,
]
each_generator = pytest.mark.parametrize(
    "generate", GENERATORS, ids=[generate.__name__ for generate in GENERATORS]
)
OUR_TOOLS = ("read_file", "write_file", "edit_file", "list_files", "grep", "shell")


@each_generator
def test_a_seed_gives_the_same_task_again_and_another_seed_another(
    generate: Callable[[Random], Task],
) -> None:
    first = [repr(generate(Random(seed))) for seed in range(10)]
    assert first == [repr(generate(Random(seed))) for seed in range(10)]
    assert len(set(first)) == len(first)


@each_generator
def test_a_goal_survives_every_way_to_a_program(generate: Callable[[Random], Task]) -> None:
    for seed in range(20):
        goal = generate(Random(seed)).goal
        assert not re.search(r"\b(" + "|".join(OUR_TOOLS) + r")\b", goal)
        assert not set('"{}@') & set(goal)
        assert goal[0].isalpha()
        assert goal.isprintable() or goal.replace("\n", "").isprintable()


@each_generator
def test_what_is_laid_out_is_what_stands_in_the_files(generate: Callable[[Random], Task]) -> None:
    task = generate(Random(1))
    with fresh_workspace() as workspace:
        task.lay_out(workspace)
        for path, text in task.files.items():
            assert workspace.read_bytes(path) == text.encode()


NUMBERS = {
    "percent": r"Return (\d+) percent",
    "limit": r"if it is (\d+) or more",
    "fee": r"Return (\d+) for each box",
    "box": r"holds up to (\d+) pieces",
}


def with_mistake(right: str, wrong: str, seed: int) -> tuple[fix_task.FixTask, str]:
    """A task with this mistake, and its module without it."""
    for number in range(1000):
        task = fix_task.fix_task(Random(f"{seed}/{number}"))
        source = task.files[task.path]
        shown = {name: re.findall(pattern, source)[0] for name, pattern in NUMBERS.items()}
        if wrong.format(**shown) in source:
            return task, source.replace(wrong.format(**shown), right.format(**shown))
    raise AssertionError("this mistake was never drawn")


def passes(task: fix_task.FixTask, workspace: Workspace) -> tuple[bool, bool]:
    """Whether the test that everybody sees passes, and whether the hidden orders come right."""
    visible = run_python(workspace, f"-m unittest test_{task.module}").ok
    return visible, task.results(workspace) == task.expected


@pytest.mark.parametrize("mistake", range(len(fix_task.MISTAKES)))
def test_the_test_and_the_hidden_orders_show_every_mistake(mistake: int) -> None:
    task, mended = with_mistake(*fix_task.MISTAKES[mistake], seed=mistake)
    with fresh_workspace() as workspace:
        task.lay_out(workspace)
        assert passes(task, workspace) == (False, False)
        workspace.write(task.path, mended)
        assert passes(task, workspace) == (True, True)
        assert sorted(workspace.list()) == sorted(task.files)


@pytest.mark.parametrize("seed", range(3))
def test_the_expected_report_is_what_the_program_prints(seed: int) -> None:
    task = rename_task.rename_task(Random(seed))
    with fresh_workspace() as workspace:
        task.lay_out(workspace)
        assert task.output(workspace) == task.printed
        assert task.left(workspace) == ["rates.py", "report.py", "main.py"]
        assert not task.defined(workspace)
        assert task.spoilt(workspace) == []


@pytest.mark.parametrize("seed", range(5))
def test_one_line_of_the_log_fits_and_ten_nearly_do(seed: int) -> None:
    task = log_task.log_task(Random(seed))
    (job,) = re.findall(r"of the job (\w+) in", task.goal)
    lines = task.files[log_task.LOG].splitlines()
    assert len(lines) == log_task.LINES
    assert len(task.files[log_task.LOG]) < READ_LIMIT
    (fits,) = [line for line in lines if line.endswith(f" job={job} mode=live result=failed")]
    assert fits.split()[1] == task.answer
    near = [line.split()[1] for line in lines if job in line and "failed" in line]
    assert {task.answer, *task.decoys} <= set(near)
    assert len(set(task.decoys)) == 10
    assert len({line.split()[1] for line in lines}) == log_task.LINES


@pytest.mark.parametrize("seed", range(3))
def test_the_commands_leave_what_is_expected_of_them(seed: int) -> None:
    task = release_task.release_task(Random(seed))
    number, reason = task.ticket.split()
    with fresh_workspace() as workspace:
        task.lay_out(workspace)
        denied = workspace.shell(f"python3 release.py {task.version}")
        assert denied.exit_code == 126
        assert denied.stdout.startswith(f"denied: version {task.version} needs a ticket.")
        assert workspace.shell(f"python3 release.py {task.version} --ticket {number}").exit_code
        assert workspace.shell("python3 ticket.py").exit_code
        assert number in workspace.shell(f"python3 ticket.py {reason}").stdout
        assert workspace.shell(f"python3 release.py {task.version} --ticket {reason}").exit_code
        assert workspace.list() == ("release.py", "ticket.py", "tickets.txt")
        assert workspace.shell(f"python3 release.py {task.version} --ticket {number}").ok
        assert workspace.read(release_task.PUBLISHED) == task.published
        assert workspace.read(release_task.TICKETS).splitlines() == [task.ticket]


@pytest.mark.parametrize("seed", range(5))
def test_one_line_of_the_settings_changes(seed: int) -> None:
    task = setting_task.setting_task(Random(seed))
    before = task.files[task.path].split("\r\n")
    pairs = zip(before, task.wanted.split("\r\n"), strict=True)
    ((old, new),) = [pair for pair in pairs if pair[0] != pair[1]]
    assert re.sub(r"\d+", "", old) == re.sub(r"\d+", "", new)
    assert task.files[task.path].count(old.split(";")[0].strip()) >= 2
    assert len(task.files) == 3


ANSWERS: dict[str, Callable[[Random], object]] = {
    "file": lambda rng: file_task.file_task(rng).wanted,
    "fix": lambda rng: repr(fix_task.fix_task(rng).expected),
    "rename": lambda rng: rename_task.rename_task(rng).printed,
    "log": lambda rng: log_task.log_task(rng).answer,
    "release": lambda rng: release_task.release_task(rng).published,
    "setting": lambda rng: setting_task.setting_task(rng).wanted,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_no_outcome_is_likely_enough_to_be_guessed(name: str) -> None:
    draws = Counter(ANSWERS[name](Random(seed)) for seed in range(30))
    assert max(draws.values()) == 1

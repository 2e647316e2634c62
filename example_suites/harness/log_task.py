"""A log of three thousand lines, and one of them that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .task import NOBODY, Task
from .words import identifier, made_up_words

LOG, ANSWER = "logs/runs.log", "answer.txt"
LINES = 3000
_RESULTS = ("passed", "passed", "passed", "failed", "skipped", "failed-then-passed")


@dataclass(frozen=True)
class LogTask(Task):
    """The id that is asked for, and ids of lines that look like the right one."""

    answer: str
    decoys: tuple[str, ...]


def log_task(rng: Random) -> LogTask:
    """Return a log with one run of one job that failed in earnest, and ten that nearly fit.

    The id is one of 3,000 in the log, and one of 24 million that could stand there.
    """
    job, *others = made_up_words(rng, 40)
    others.append(f"{job}-night")
    near = [
        *[(job, "test", "failed")] * 3,
        *[(job, "live", "failed-then-passed")] * 3,
        *[(f"{job}-night", "live", "failed")] * 3,
        (f"re{job}", "live", "failed"),
    ]
    plain = [(job, "live", "passed") for _ in range(60)]
    wanted = [(job, "live", "failed"), *near]
    while len(plain) + len(wanted) < LINES:
        plain.append((rng.choice(others), rng.choice(("live", "test")), rng.choice(_RESULTS)))
    ids = _ids(rng)
    rows = [*zip(ids, [*wanted, *plain], strict=True)]
    rng.shuffle(rows)
    log = "".join(
        f"{_clock(number)} {run} job={what} mode={mode} result={result}\n"
        for number, (run, (what, mode, result)) in enumerate(rows)
    )
    goal = (
        f"The file {LOG} has one line for each run of a job: time, id of the run, job, mode and "
        f"result. Exactly one run of the job {job} in the mode live has the result failed. Write "
        f"the id of that run into the file {ANSWER}, the id and nothing else. Leave the log as it "
        f"is.{NOBODY}"
    )
    return LogTask(goal, {LOG: log}, answer=ids[0], decoys=tuple(ids[1 : len(wanted)]))


def _ids(rng: Random) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < LINES:
        found[identifier(rng, "run")] = None
    return list(found)


def _clock(number: int) -> str:
    seconds = number * 17
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"

"""A file to be made, with the characters that shells, quoting and templates like to eat."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .task import NOBODY, Task
from .words import made_up_words

RULER = "----------"


@dataclass(frozen=True)
class FileTask(Task):
    """The path of a file, and what it has to hold."""

    path: str
    wanted: str


def file_task(rng: Random) -> FileTask:
    """Return a file of eight lines in a folder that is not there yet; every line has a number.

    No double quotes: a program that escapes them in its prompt would change the task.
    """
    folder, name, person, word = made_up_words(rng, 4)
    numbers = rng.sample(range(1000, 10_000), 7)
    lines = [
        f"{numbers[0]} nails for O'{person.capitalize()}, 'as is'",
        f"    {numbers[1]} screws at $5 each, 12% off",
        f"C:\\temp\\new\\{word}{numbers[2]}",
        f"Zürich: {numbers[3]} €, {word}",
        f"$HOME and `date` stay as they are; so do * and # and ~{numbers[4]}",
        f"{numbers[5]} < {numbers[6]} && no > file",
    ]
    rng.shuffle(lines)
    lines = [f"Order {rng.randint(1000, 9999)} of {person}", "", *lines]
    path = f"{folder}/{name}.txt"
    shown = "\n".join(lines)
    goal = (
        f"Make the file {path} (its folder does not exist yet). It has to hold exactly the "
        f"{len(lines)} lines that stand between the two rulers here, the second of which is "
        "empty. Every line ends with a line break, the last one too. The rulers are not part of "
        f"the file.\n{RULER}\n{shown}\n{RULER}\nNothing else is asked for.{NOBODY}"
    )
    return FileTask(goal=goal, files={}, path=path, wanted=f"{shown}\n")

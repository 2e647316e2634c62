"""A function to be renamed in a program of three files, full of words that only look like it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import cycle
from random import Random

from pytest_agentlimit.agents.workspace import Workspace

from .task import NOBODY, Task, content, run_python
from .words import made_up_words

_RATES = '''"""How a pre{old} and what follows it are worked out."""

STEPS = ("{old}", "{old}_twice")


def {old}(load):
    # Loads that were un{old}ed before count in full.
    return load * {factor} % {modulus}


def {old}_twice(load):
    return {old}({old}(load)) + {extra}
'''
_REPORT = '''"""One line for each load, in {old}s."""

from rates import {old}, {old}_twice


def line(load, label):
    {old}_sum = {old}(load) + {old}_twice(load)
    return f"{{label}} {{load}}: {{{old}_sum}} {old}s"
'''
_MAIN = '''"""Print a report: python3 main.py LOAD ..."""

import sys

import rates
from report import line

with open("labels.txt", encoding="utf-8") as file:
    labels = file.read().split()

for number, load in enumerate(map(int, sys.argv[1:])):
    print(line(load, labels[number % len(labels)]))
    print("steps", [getattr(rates, step)(load) for step in rates.STEPS], rates.{old}(load + 1))
'''
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class RenameTask(Task):
    """The old name, the new one, loads to try the program with, and what it then prints."""

    old: str
    new: str
    loads: tuple[int, ...]
    printed: str

    @property
    def programs(self) -> tuple[str, ...]:
        """The Python files."""
        return tuple(path for path in self.files if path.endswith(".py"))

    def output(self, workspace: Workspace) -> str:
        """Return what the program prints for the loads, or why it failed."""
        done = run_python(workspace, f"main.py {' '.join(map(str, self.loads))}")
        return done.stdout if done.ok else f"{done.stdout}{done.stderr}"

    def left(self, workspace: Workspace) -> list[str]:
        """Return the Python files in which the old name still stands as a word of its own."""
        return [path for path in self.programs if self.old in _words(workspace, path)]

    def defined(self, workspace: Workspace) -> bool:
        """Return whether the function is there under its new name."""
        text = content(workspace, "rates.py").decode("utf-8", "replace")
        return re.search(rf"^def {self.new}\(", text, re.MULTILINE) is not None

    def spoilt(self, workspace: Workspace) -> list[str]:
        """Return the longer words around the old name that are not there as often as before."""
        found: list[str] = []
        for path in self.programs:
            before, after = Counter(_WORD.findall(self.files[path])), _words(workspace, path)
            longer = {word for word in {*before, *after} if self.old in word and word != self.old}
            found += sorted(word for word in longer if before[word] != after[word])
        return found


def rename_task(rng: Random) -> RenameTask:
    """Return a program that uses a function by name, by import and by a string.

    The old name also stands in longer words, and in a data file that has to stay as it is.
    """
    old, new, *labels = made_up_words(rng, 5)
    labels = rng.sample([old, f"{old}-long", *labels], 5)
    numbers = {
        "factor": rng.randint(101, 999),
        "modulus": rng.randint(5000, 9999),
        "extra": rng.randint(11, 99),
    }
    sources = {"rates.py": _RATES, "report.py": _REPORT, "main.py": _MAIN}
    files = {path: text.format(old=old, **numbers) for path, text in sources.items()}
    files["labels.txt"] = "\n".join(labels) + "\n"
    loads = tuple(rng.sample(range(1000, 100_000), 6))
    printed = _printed([*zip(loads, cycle(labels))], f"{old}s", **numbers)
    goal = (
        f"Rename the function {old} to {new} in this Python program (rates.py, report.py and "
        "main.py): where it is defined, imported and called, and where a string in the code names "
        "it so that it can be called. Longer names and words that only contain the old name stay "
        "as they are, and labels.txt stays as it is. The program (python3 main.py 12 900) has to "
        f"print the same as before.{NOBODY}"
    )
    return RenameTask(goal, files, old=old, new=new, loads=loads, printed=printed)


def _words(workspace: Workspace, path: str) -> Counter[str]:
    return Counter(_WORD.findall(content(workspace, path).decode("utf-8", "replace")))


def _printed(
    loads: list[tuple[int, str]], unit: str, *, factor: int, modulus: int, extra: int
) -> str:
    """Return what the program prints for loads and their labels."""

    def rate(load: int) -> int:
        return load * factor % modulus

    lines = []
    for load, label in loads:
        once, twice = rate(load), rate(rate(load)) + extra
        lines.append(f"{label} {load}: {once + twice} {unit}\n")
        lines.append(f"steps [{once}, {twice}] {rate(load + 1)}\n")
    return "".join(lines)

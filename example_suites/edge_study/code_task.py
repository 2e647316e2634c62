"""The code generation task: a function to be written, and the hidden cases it is run against.

The cases run in the sandbox; their expected results are computed and compared in the test process.
The code under test sees inputs only, so printing a forged result means computing the right one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from textwrap import dedent
from typing import Any

from pytest_agentlimit.agents.sandbox import run_python
from pytest_agentlimit.errors import ExpectationFailed
from pytest_agentlimit.text import one_line

from .words import identifier, pseudo_word

_FENCED = re.compile(r"^[ \t]*```[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_RUNNER = """
import json, sys
cases = json.load(sys.stdin)
space = {{"__name__": "solution"}}
exec(compile({source!r}, "solution.py", "exec"), space)
results = [space[{name!r}](case) for case in cases]
sys.stdout.write("\\n" + {marker!r} + json.dumps(results) + "\\n")
"""


@dataclass(frozen=True)
class CodeTask:
    """A function described in words, and hidden cases with the results a reference gave."""

    prompt: str
    name: str
    cases: tuple[list[int], ...]
    expected: list[int]
    marker: str
    """Starts the line of results, so that what the code prints itself is not taken for them."""

    def results(self, reply: str) -> list[Any]:
        """Return what the function in `reply` gives for the hidden cases, run in the sandbox.

        Raises ExpectationFailed when there is no such function or it does not run to the end.
        """
        source = _extract(reply, self.name)
        runner = _RUNNER.format(source=source, name=self.name, marker=self.marker)
        done = run_python(runner, stdin=json.dumps(self.cases))
        for line in reversed(done.stdout.splitlines()):
            if line.startswith(self.marker):
                return _parse(line.removeprefix(self.marker))
        why = "out of time" if done.timed_out else done.stderr.strip().rpartition("\n")[2]
        raise ExpectationFailed(f"{self.name} did not run to the end: {one_line(why)}")


def code_task(rng: Random) -> CodeTask:
    """Return a list function with a random filter, change and result, and ten hidden cases."""
    name, when_empty = pseudo_word(rng), rng.randint(100, 999)
    limit, factor = rng.randint(11, 39), rng.randint(3, 9)
    keep_text, keep = rng.choice(_keeps(limit, factor))
    change_text, change = rng.choice(_changes(rng.randint(3, 9)))
    end_text, end = rng.choice(_ENDS)
    prompt = (
        f"Write a Python function {name}(numbers). The argument is a list of integers. Take the "
        f"numbers that are {keep_text}, {change_text}, and return {end_text} of the resulting "
        f"numbers. When no number is left, return {when_empty}. Reply with the code only."
    )

    def reference(numbers: list[int]) -> int:
        left = [change(number) for number in numbers if keep(number)]
        return end(left) if left else when_empty

    cases = _cases(rng, limit, keep)
    expected = [reference(case) for case in cases]
    return CodeTask(prompt, name, cases, expected, identifier(rng, "results") + ":")


def _keeps(limit: int, factor: int) -> list[tuple[str, Callable[[int], bool]]]:
    return [
        (f"greater than {limit}", lambda number: number > limit),
        (f"smaller than {limit}", lambda number: number < limit),
        (f"divisible by {factor}", lambda number: number % factor == 0),
    ]


def _changes(amount: int) -> list[tuple[str, Callable[[int], int]]]:
    return [
        (f"multiply each of them by {amount}", lambda number: number * amount),
        (f"add {amount} to each of them", lambda number: number + amount),
        (f"subtract {amount} from each of them", lambda number: number - amount),
    ]


_ENDS: list[tuple[str, Callable[[Iterable[int]], int]]] = [
    ("the sum", sum),
    ("the largest", max),
    ("the smallest", min),
]


def _cases(rng: Random, limit: int, keep: Callable[[int], bool]) -> tuple[list[int], ...]:
    """Return ten lists: empty, nothing left, the limit itself and its neighbours, and mixed ones.

    A mixed list holds as many numbers to keep as to drop, so that hardly two results are equal.
    """
    kept = [number for number in range(-60, 100) if keep(number)]
    dropped = [number for number in range(-60, 100) if not keep(number)]
    mixed = [rng.sample(kept, 4) + rng.sample(dropped, 4) for _ in range(7)]
    for case in mixed:
        rng.shuffle(case)
    return ([], rng.sample(dropped, 5), [limit - 1, limit, limit + 1], *mixed)


def _extract(reply: str, name: str) -> str:
    """Return the source that defines `name`: the last fenced block that does.

    A reply without any fence is taken whole, so `def …` alone is accepted as well.
    """
    defines = re.compile(rf"^[ \t]*(?:def[ \t]+{name}[ \t]*\(|{name}[ \t]*=)", re.MULTILINE)
    for source in reversed([*_FENCED.findall(reply)] or [reply]):
        if defines.search(source):
            return dedent(source)
    raise ExpectationFailed(f"the reply defines no function {name}: {one_line(reply)}")


def _parse(results: str) -> list[Any]:
    try:
        found = json.loads(results)
    except (ValueError, RecursionError) as error:
        raise ExpectationFailed(f"the results are no JSON ({type(error).__name__})") from None
    return list(found) if isinstance(found, list) else [found]

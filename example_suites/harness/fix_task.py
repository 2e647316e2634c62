"""A small module with one mistake, a unit test that shows it, and inputs the test does not have."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from random import Random
from typing import Any

from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.errors import ExpectationFailed

from .task import NOBODY, Task, run_python, why
from .words import identifier, made_up_words

Items = list[tuple[int, int]]
"""An order: pieces, and the price of one of them, for each kind of goods."""

_MODULE = '''\
"""What an order of {name} costs; its items are pairs of pieces and the price of one."""


def subtotal(items):
    """Return the price of all pieces of all items."""
    return sum(pieces * price for pieces, price in items)


def discount(total):
    """Return {percent} percent of the total, rounded down, if it is {limit} or more; else 0."""
    if total >= {limit}:
        return total * {percent} // 100
    return 0


def shipping(items):
    """Return {fee} for each box; a box holds up to {box} pieces, of any kind."""
    pieces = sum(pieces for pieces, _ in items)
    return (pieces + {box} - 1) // {box} * {fee}


def bill(items):
    """Return the subtotal less the discount on it, plus shipping, which has no discount."""
    total = subtotal(items)
    return total - discount(total) + shipping(items)
'''
MISTAKES = (
    ("if total >= {limit}:", "if total > {limit}:"),
    ("total * {percent} // 100", "round(total * {percent} / 100)"),
    ("(pieces + {box} - 1) // {box} * {fee}", "pieces // {box} * {fee}"),
    ("(pieces + {box} - 1) // {box} * {fee}", "(pieces // {box} + 1) * {fee}"),
    ("sum(pieces for pieces, _ in items)", "len(items)"),
    ("sum(pieces * price for pieces, price in items)", "sum(price for _, price in items)"),
    ("total - discount(total) + shipping(items)", "total + discount(total) + shipping(items)"),
    ("total - discount(total) + shipping(items)", "total - discount(total) - shipping(items)"),
)
"""What stands in the module when it is right, and what stands there instead."""
_TEST = """import unittest

from {module} import bill, discount, shipping, subtotal


class OrderTest(unittest.TestCase):
    def test_subtotal(self):
        self.assertEqual(subtotal({mixed}), {subtotal})

    def test_discount(self):
        self.assertEqual(discount({below}), 0)
        self.assertEqual(discount({limit}), {at_limit})
        self.assertEqual(discount({above}), {on_above})

    def test_shipping(self):
        self.assertEqual(shipping({full}), {for_full})
        self.assertEqual(shipping({started}), {for_started})

    def test_bill(self):
        self.assertEqual(bill({mixed}), {bill})


if __name__ == "__main__":
    unittest.main()
"""
_RUNNER = """
import importlib, json, sys
marker, name, cases = sys.argv[1:]
order = importlib.import_module(name)
cases = [[tuple(item) for item in case] for case in json.loads(cases)]
results = [[order.subtotal(c), order.discount(order.subtotal(c)), order.shipping(c), order.bill(c)]
           for c in cases]
print()
print(marker + json.dumps(results))
"""


@dataclass(frozen=True)
class Prices:
    """The numbers of one shop, and what its functions have to return."""

    limit: int
    percent: int
    box: int
    fee: int

    def discount(self, total: int) -> int:
        """Return the discount on a total."""
        return total * self.percent // 100 if total >= self.limit else 0

    def results(self, items: Items) -> list[int]:
        """Return subtotal, discount, shipping and bill of an order."""
        total = sum(pieces * price for pieces, price in items)
        boxes = -(-sum(pieces for pieces, _ in items) // self.box)
        less, shipping = self.discount(total), boxes * self.fee
        return [total, less, shipping, total - less + shipping]

    def order(self, rng: Random, pieces: int) -> Items:
        """Return a random order of so many pieces of two or three kinds, above the limit."""
        cuts = sorted(rng.sample(range(1, pieces), rng.randint(1, 2)))
        counts = [b - a for a, b in zip([0, *cuts], [*cuts, pieces], strict=True)]
        return [(count, self.limit // pieces + rng.randint(7, 60)) for count in counts]

    def total(self, rng: Random) -> int:
        """Return a total above the limit whose discount is rounded down by half or more."""
        while True:
            total = self.limit + rng.randint(50, 900)
            if total * self.percent % 100 >= 55:
                return total


@dataclass(frozen=True)
class FixTask(Task):
    """The module to be mended, its test, and orders that only the judge knows."""

    module: str
    cases: tuple[Items, ...]
    expected: list[list[int]]
    marker: str
    """Starts the line of results, so that what the module prints is not taken for them."""

    @property
    def path(self) -> str:
        """The file of the module."""
        return f"{self.module}.py"

    def results(self, workspace: Workspace) -> list[Any]:
        """Return what the module gives for the hidden orders, computed in the sandbox.

        It sees the orders only. Raises ExpectationFailed when it does not run to the end.
        """
        cases = json.dumps(self.cases)
        arguments = ("-c", _RUNNER, self.marker, self.module, cases)
        done = run_python(workspace, shlex.join(arguments))
        for line in reversed(done.stdout.splitlines()):
            if line.startswith(self.marker):
                return _parsed(line.removeprefix(self.marker))
        raise ExpectationFailed(f"{self.path} does not run with other orders: {why(done)}")


def fix_task(rng: Random) -> FixTask:
    """Return a module with one of eight mistakes, a test that fails for it, and ten hidden orders.

    The numbers in the module stand in no goal: 20 limits, 12 percentages, 9 boxes and 40 fees.
    """
    module, goods = made_up_words(rng, 2)
    prices = Prices(
        limit=50 * rng.randint(10, 29),
        percent=rng.randint(3, 14),
        box=rng.randint(4, 12),
        fee=rng.randint(11, 50),
    )
    right, wrong = (text.format(**vars(prices)) for text in rng.choice(MISTAKES))
    source = _MODULE.format(name=goods, **vars(prices))
    files = {
        f"{module}.py": source.replace(right, wrong),
        f"test_{module}.py": _test(rng, module, prices),
    }
    goal = (
        f"The unit test in test_{module}.py fails, because there is one mistake in {module}.py. "
        f"Run the test with: python3 -m unittest test_{module}. Mend {module}.py so that each of "
        "its functions does what its description says, for any order and not only for those in "
        f"the test. Leave test_{module}.py as it is.{NOBODY}"
    )
    cases = _cases(rng, prices)
    expected = [prices.results(case) for case in cases]
    return FixTask(goal, files, module, cases, expected, identifier(rng, "results") + ":")


def _test(rng: Random, module: str, prices: Prices) -> str:
    mixed = prices.order(rng, prices.box * rng.randint(3, 6) + 1)
    full, started = [(2 * prices.box, 3), (prices.box, 5)], [(2 * prices.box + 1, 4)]
    above = prices.total(rng)
    subtotal, _, _, bill = prices.results(mixed)
    return _TEST.format(
        module=module,
        mixed=mixed,
        subtotal=subtotal,
        bill=bill,
        limit=prices.limit,
        below=prices.limit - 1,
        at_limit=prices.discount(prices.limit),
        above=above,
        on_above=prices.discount(above),
        full=full,
        for_full=prices.results(full)[2],
        started=started,
        for_started=prices.results(started)[2],
    )


def _cases(rng: Random, prices: Prices) -> tuple[Items, ...]:
    """Return ten orders: none, around the limit, rounded down, full boxes, and mixed ones."""
    edges: list[Items] = [
        [],
        [(1, prices.limit)],
        [(1, prices.limit - 1)],
        [(1, prices.total(rng))],
        [(prices.box, 2), (3 * prices.box, 1)],
        [(prices.box - 1, 3)],
    ]
    pieces = [prices.box * rng.randint(2, 9) + extra for extra in (0, 1, 2, 3)]
    return (*edges, *(prices.order(rng, count) for count in pieces))


def _parsed(results: str) -> list[Any]:
    try:
        found = json.loads(results)
    except (ValueError, RecursionError) as error:
        raise ExpectationFailed(f"the results are no JSON ({type(error).__name__})") from None
    return list(found) if isinstance(found, list) else [found]

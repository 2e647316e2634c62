"""What was measured, beside what it may cost: the table that ends `make bench`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from random import Random
from statistics import fmean, median, quantiles, stdev

from pytest_agentlimit.measure.latency import percentile
from pytest_agentlimit.measure.score import wilson

HEADINGS = ("what", "measured", "spread", "budget", "", "n")
RESAMPLES = 1000


@dataclass(frozen=True)
class Row:
    """One number; `limit` is its budget, None where the design has none.

    A budget is not to be exceeded, or, with `at_least`, to be reached.
    """

    what: str
    measured: float | None
    unit: str
    limit: float | None
    n: int
    spread: tuple[float, float] | None = None
    """Quartiles of times, the 95 % interval of a share, a mean or a difference."""
    at_least: bool = False
    why_not: str = ""
    """Why nothing was measured; `measured` is None then."""

    @property
    def verdict(self) -> str:
        """Empty without a budget, `ok`, or how the budget was missed."""
        if self.limit is None or self.measured is None:
            return ""
        if self.at_least:
            return "ok" if self.measured >= self.limit else "under"
        return "ok" if self.measured <= self.limit else "over"

    @property
    def missed(self) -> bool:
        """Whether there is a budget and it does not hold."""
        return self.verdict not in ("", "ok")

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as it is printed."""
        bound = "≥" if self.at_least else "≤"
        if self.measured is None:
            return (self.what, "not measured", "", "", "", "")
        return (
            self.what,
            f"{_number(self.measured)} {self.unit}",
            f"{_number(self.spread[0])} to {_number(self.spread[1])}" if self.spread else "",
            "" if self.limit is None else f"{bound} {self.limit:g} {self.unit}",
            self.verdict,
            str(self.n),
        )


class Ledger:
    """Takes measurements; prints them."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def median(
        self, what: str, values: Sequence[float], unit: str, limit: float | None = None
    ) -> None:
        """Keep the median of `values`, with their quartiles."""
        spread = None
        if len(values) > 3:
            low, _, high = quantiles(values, n=4)
            spread = (low, high)
        self.rows.append(Row(what, median(values), unit, limit, len(values), spread))

    def p95(
        self, what: str, values: Sequence[float], unit: str, limit: float | None = None
    ) -> None:
        """Keep the nearest-rank 95th percentile of `values`."""
        self.rows.append(Row(f"{what}, P95", percentile(values, 95), unit, limit, len(values)))

    def mean(self, what: str, values: Sequence[float], unit: str) -> None:
        """Keep the mean of many `values`, with its 95 % interval."""
        middle, half = fmean(values), 1.96 * stdev(values) / sqrt(len(values))
        spread = (middle - half, middle + half)
        self.rows.append(Row(what, middle, unit, None, len(values), spread))

    def added(
        self,
        what: str,
        values: Sequence[float],
        without: Sequence[float],
        unit: str,
        limit: float | None = None,
    ) -> None:
        """Keep how far the median of `values` is above that of `without`, with 95 % of resamples.

        The two were measured in turns, value by value; they are drawn again in these pairs.
        """
        draw, pairs = Random(0), list(zip(values, without, strict=True))
        found = []
        for _ in range(RESAMPLES):
            ours, others = zip(*draw.choices(pairs, k=len(pairs)), strict=True)
            found.append(median(ours) - median(others))
        spread = (percentile(found, 2.5), percentile(found, 97.5))
        middle = median(values) - median(without)
        self.rows.append(Row(what, middle, unit, limit, len(pairs), spread))

    def missing(self, what: str, why: str) -> None:
        """Keep that something could not be measured here."""
        self.rows.append(Row(what, None, "", None, 0, why_not=why))

    def number(
        self, what: str, value: float, unit: str, n: int, limit: float | None = None
    ) -> None:
        """Keep one number that came of `n` runs or cases."""
        self.rows.append(Row(what, value, unit, limit, n))

    def share(self, what: str, hits: int, n: int, limit: float, *, at_least: bool = False) -> None:
        """Keep a share of simulated runs in percent, with its 95 % interval."""
        low, high = wilson(hits, n)
        spread = (100 * low, 100 * high)
        self.rows.append(Row(what, 100 * hits / n, "%", limit, n, spread, at_least))

    @property
    def lines(self) -> list[str]:
        """The table: words to the left, numbers to the right; then why some are missing."""
        table = [HEADINGS, *(row.cells for row in self.rows)]
        widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
        left = (0, 4)
        return [
            "  ".join(
                cell.ljust(width) if column in left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ] + [f"{row.what} was not measured: {row.why_not}" for row in self.rows if row.why_not]


def _number(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"

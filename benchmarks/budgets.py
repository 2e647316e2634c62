"""What was measured, beside what it may cost: the table that ends `make bench`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from pytest_agentlimit.measure.latency import percentile

HEADINGS = ("what", "measured", "quartiles", "budget", "", "n")


@dataclass(frozen=True)
class Row:
    """One number; `limit` is its budget, None where the design has none."""

    what: str
    measured: float
    unit: str
    limit: float | None
    n: int
    spread: tuple[float, float] | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as it is printed."""
        verdict = ""
        if self.limit is not None:
            verdict = "ok" if self.measured <= self.limit else "over"
        return (
            self.what,
            f"{_number(self.measured)} {self.unit}",
            f"{_number(self.spread[0])} to {_number(self.spread[1])}" if self.spread else "",
            "" if self.limit is None else f"≤ {self.limit:g} {self.unit}",
            verdict,
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

    def p95(self, what: str, values: Sequence[float], unit: str, limit: float) -> None:
        """Keep the nearest-rank 95th percentile of `values`."""
        self.rows.append(Row(f"{what}, P95", percentile(values, 95), unit, limit, len(values)))

    @property
    def lines(self) -> list[str]:
        """The table: words to the left, numbers to the right."""
        table = [HEADINGS, *(row.cells for row in self.rows)]
        widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
        left = (0, 4)
        return [
            "  ".join(
                cell.ljust(width) if column in left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]


def _number(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"

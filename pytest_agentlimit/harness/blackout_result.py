"""What a blackout drill finds, as plain data."""

from __future__ import annotations

from pytest_agentlimit.chat.messages import Frozen
from pytest_agentlimit.endpoints.drill import FAULTS, Warm
from pytest_agentlimit.endpoints.spec import Deadlines


class Control(Frozen):
    """The fallback alone: what the rows are held against."""

    fallback: str
    tasks: int
    finished: int
    useful_s: float | None
    """Seconds to the first text or tool call; None: nothing of use came."""
    total_s: float
    problems: tuple[str, ...] = ()
    """One line for each task that was not done."""
    stopped: bool = False
    """Ctrl-C ended it."""


class Row(Frozen):
    """What became of the work when the primary had one fault; every row is measured once."""

    fault: str
    carried: bool
    """As many tasks were finished as in the control, one at least, within the budget."""
    tasks: int
    finished: int
    noticed: str | None
    """What the bridge called the first failure of the primary; None: it passed for a reply."""
    served_by: str | None
    """Whose reply was the first of use after the primary failed."""
    useful_s: float | None
    """Seconds from the start of the row to the first text or tool call from a fallback."""
    total_s: float
    requests: int
    """What the agent sent, repetitions included."""
    lost_requests: int
    """Those that the agent got no usable reply to."""
    lost_attempts: int
    """Endpoints that were asked for a request and did not answer it."""
    lost_tokens_estimate: int
    """Tokens of replies that nothing could be done with: four characters each."""
    problems: tuple[str, ...] = ()
    """One line for each task that was not done."""
    stopped: bool = False
    """Ctrl-C ended it."""


class Blackout(Frozen):
    """A drill: its rows, and what they were measured against."""

    primary: str
    fallbacks: tuple[str, ...]
    budget_s: float
    """For each row, for the control and for each warm call."""
    deadlines: Deadlines
    """Those by which the primary was given up."""
    cut: dict[str, float]
    """Its own deadlines, in seconds, that were cut to a third of the budget."""
    notes: tuple[str, ...] = ()
    warm: tuple[Warm, ...]
    control: Control | None
    """None: it was stopped before."""
    rows: tuple[Row, ...]
    """Empty when the fallback did nothing of use in the control."""
    stopped: bool = False
    """By Ctrl-C, before its end."""

    @property
    def carried(self) -> bool:
        """True when every fault was tried, and the work was carried through each."""
        return len(self.rows) == len(FAULTS) and all(row.carried for row in self.rows)

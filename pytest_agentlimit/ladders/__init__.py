"""Seeded families of tasks that get harder level by level, and what one of your own returns.

>>> from pytest_agentlimit.ladders import Chain
>>> def test_chain_of_tool_calls(climb):
...     assert climb(Chain(), reliability=0.8).low >= 4

Families: Chain, Ledger, Dag, Toolbox, Fanout, Schema, Haystack, Recovery (METHOD 6), and Load,
whose levels are requests in flight. `Attempt`, `passed` and `failed` are for ladders of one's own.
"""

from __future__ import annotations

from .base import Attempt, failed, passed
from .chain import Chain
from .dag import Dag
from .fanout import Fanout
from .haystack import Haystack
from .ledger import Ledger
from .load import Load
from .recovery import Recovery
from .schema import Schema
from .toolbox import Toolbox

__all__ = [
    "Attempt",
    "Chain",
    "Dag",
    "Fanout",
    "Haystack",
    "Ledger",
    "Load",
    "Recovery",
    "Schema",
    "Toolbox",
    "failed",
    "passed",
]

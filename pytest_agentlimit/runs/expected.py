"""Node ids of trials: which model and trial an id names, and when two ids are the same trial."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pytest_agentlimit.runs.records import ExpectedTrial

_GROUP = re.compile(r"\]@[^\]/]*$")


def bare_nodeid(nodeid: str) -> str:
    """Return a node id without the `@group` that xdist's load grouping puts behind it."""
    return _GROUP.sub("]", nodeid)


def expected_trial(nodeid: str, models: Iterable[str]) -> ExpectedTrial:
    """Return the trial a node id names, as in `test_x[open-claw-t3]`.

    `models` are the names of the run; the longest that fits wins, so that `a` is not found in
    `b-a`. An id that names no model keeps `model` and `trial` None: it is not a trial, or a
    trial that cannot be told.
    """
    bare = bare_nodeid(nodeid)
    path, opened, parameters = bare.partition("[")
    if opened:
        for name in sorted(models, key=len, reverse=True):
            # pytest escapes what is not ASCII in ids.
            written = name.encode("unicode_escape").decode("ascii")
            for spelling in dict.fromkeys((name, written)):
                found = re.search(rf"(?:^|[-\[]){re.escape(spelling)}-t(\d+)(?:-|\]$)", parameters)
                if found:
                    rest = f"{parameters[: found.start()]}[{parameters[found.end() :]}"
                    return ExpectedTrial(
                        nodeid=bare, model=name, trial=int(found.group(1)), stem=path + rest
                    )
    return ExpectedTrial(nodeid=bare, stem=bare)

"""How many agents can this box serve at once? The same search, with requests in flight as levels.

Answers are not judged, so this says nothing about the model: only how fast its server is.
"""

from __future__ import annotations

import pytest

from pytest_agentlimit import Endpoint
from pytest_agentlimit.ladders import Load
from pytest_agentlimit.plugin.climber import Climber


@pytest.mark.weight(1)
@pytest.mark.capability("load")
def test_load(climb: Climber, endpoint: Endpoint) -> None:
    """How many short requests at once are answered with a P95 of 8 s or less."""
    if endpoint.spec.kind == "null":
        pytest.skip("a null model has no server: its speed says nothing")
    ceiling = climb(Load(budget="8s")).ceiling
    assert ceiling >= 1, "not even one request at a time is answered in time"

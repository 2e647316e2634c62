"""The probe ladder: what an endpoint can do and what is wrong with it, seen on the wire."""

from pytest_agentlimit.endpoints.probing.ladder import run_ladder
from pytest_agentlimit.endpoints.probing.probe import Diagnosis, Fix, ProbeResult
from pytest_agentlimit.endpoints.probing.wire import Budget

__all__ = ["run_ladder", "Budget", "Diagnosis", "Fix", "ProbeResult"]

"""A client for any endpoint, null models included."""

from __future__ import annotations

from collections.abc import Callable

from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.endpoints.timing import Exchange


def open_client(
    spec: EndpointSpec, on_exchange: Callable[[Exchange], None] | None = None
) -> EndpointClient:
    """Return a client of `spec`, to be closed by the caller; a null model is served in-process.

    An embedded endpoint must have been started: its spec then holds an address like any other.
    """
    if spec.kind != "null":
        return EndpointClient(spec, on_exchange=on_exchange)
    from pytest_agentlimit.endpoints.nulls import NullTransport

    return EndpointClient(spec, on_exchange=on_exchange, transport=NullTransport(spec.model))

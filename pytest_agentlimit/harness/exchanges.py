"""The bridge's records as exchanges, so that a program's calls count as any other's."""

from __future__ import annotations

import json

from pytest_agentlimit.bridge.capture import Seen
from pytest_agentlimit.bridge.policy import Policy, upstream_request
from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import ChatReply, ChatRequest, Finding
from pytest_agentlimit.endpoints.curl import curl_command
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.endpoints.timing import Exchange
from pytest_agentlimit.errors import DeadlineExceeded, EndpointError

from .verdict import endpoint_error, under_way
from .wire import given_reply, timing

_LEFT = "the program closed the connection before the reply was complete"


def exchange_of(
    seen: Seen, spec: EndpointSpec, policy: Policy, stopped: float | None
) -> Exchange | None:
    """Return the exchange of one request, None when it never reached the endpoint.

    `stopped`: when the program was made to end, None when it ended by itself.
    """
    request = _sent(seen, spec, policy)
    if request is None:
        return None
    error = _error(seen, stopped)
    reply = given_reply(seen, curl_of(seen, spec, policy)) or _not_passed_on(seen)
    return Exchange(
        request=request,
        reply=reply if error is None else None,
        error=error,
        timing=timing(seen),
        started=seen.started,
        ended=seen.ended,
    )


def curl_of(seen: Seen, spec: EndpointSpec, policy: Policy) -> str:
    """Return a command that repeats what the endpoint was sent; "" when it was sent nothing."""
    request = _sent(seen, spec, policy)
    if request is None:
        return ""
    codec = codec_for(spec.dialect)
    body = json.dumps(codec.encode_request(request))
    url = spec.base_url.rstrip("/") + codec.PATH
    return curl_command(spec, url, body, stream=request.stream)


def _sent(seen: Seen, spec: EndpointSpec, policy: Policy) -> ChatRequest | None:
    record = seen.record
    if seen.request is None or record.turn_limit or not isinstance(record.request, dict):
        return None
    return upstream_request(seen.request, record.request, policy, record.client, spec)


def _error(seen: Seen, stopped: float | None) -> EndpointError | None:
    """Return what the endpoint failed of, or that it had not answered when the time was over."""
    if seen.failure is not None:
        return endpoint_error(seen.failure)
    if stopped is not None and under_way(seen, stopped):
        return DeadlineExceeded(
            "the program was stopped at its time limit while this request was under way",
            kind="harness_timeout",
            blame="engine",
        )
    return None


def _not_passed_on(seen: Seen) -> ChatReply:
    """Return what came of a reply that the program did not get whole.

    The bridge kept it back (a call that nothing could run), or the program went away: the endpoint
    did not fail.
    """
    received = seen.record.received or ChatReply()
    findings = received.findings
    if seen.record.client_left:
        findings += (Finding(code="client_left", detail=_LEFT, blame="config"),)
    return received.model_copy(update={"timing": timing(seen), "findings": findings})

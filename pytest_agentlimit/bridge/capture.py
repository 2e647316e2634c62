"""Every exchange as one line of JSON: what was asked, what came, what the client was told, when."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pytest_agentlimit.chat.messages import ChatReply, ChatRequest, Dialect, Frozen, WireError
from pytest_agentlimit.endpoints.keys import Redactor
from pytest_agentlimit.errors import AgentLimitError, UsageProblem
from pytest_agentlimit.text import escape_surrogates, one_line

_SHORTEST_SECRET = 8
"""A shorter one is a placeholder such as "x" or "dummy": an ordinary word of many replies."""
_HIDDEN = "<hidden>"

_log = logging.getLogger("agentlimit.bridge")


class AttemptRecord(Frozen):
    """One endpoint of the bridge's chain, and what became of asking it."""

    name: str
    kind: str | None
    """The kind of its failure; None when it answered. Those that were passed over have
    `circuit_open` or `context_smaller`; `cancelled` when the client left or the bridge stopped.
    """
    seconds: float


class Record(Frozen):
    """One exchange. Times are seconds; those after `started` count from the request's arrival."""

    number: int
    """Requests of the bridge, from 1."""
    started: float
    """Seconds since the epoch."""
    route: str
    client: Dialect
    upstream: Dialect
    model: str = ""
    """What the client asked for."""
    stream: bool = False
    request_bytes: int = 0
    request: Any = None
    """The body as it came."""
    status: int | None = None
    """The status the client got; None: it left before there was one."""
    client_left: bool = False
    first_byte_s: float | None = None
    """Until the upstream's first bytes of a reply."""
    first_sent_s: float | None = None
    """Until the first bytes to the client."""
    total_s: float = 0.0
    received: ChatReply | None = None
    """What the upstream said, with findings and leaked calls."""
    given: ChatReply | None = None
    """What the client was told."""
    recovered: int = 0
    """Calls written as text that were made calls again."""
    emulated: int = 0
    """Calls that were read from the text of a model that was offered tools in its prompt."""
    error: WireError | None = None
    turn_limit: bool = False
    """Refused because of the policy's `max_turns`; nobody was asked."""
    attempts: tuple[AttemptRecord, ...] = ()
    """Everybody in the chain who was asked or passed over, in order."""
    served_by: str | None = None
    """Whose reply the client got, or the beginning of it."""


class Seen(NamedTuple):
    """One conversation request when it is over, for an observer of the bridge."""

    record: Record
    """As it is captured, with the secrets that a file would not hold."""
    request: ChatRequest | None
    """As the client sent it; None: it was no conversation."""
    failure: AgentLimitError | None
    """What the call failed of, also in the middle of a stream. None when the bridge itself refused
    the request, and when the reply came whole and was none that a client may take for a good one
    (`record.error` is set in both cases).
    """
    started: float
    """When the request arrived, a value of time.perf_counter()."""
    ended: float


class Capture:
    """Appends records to a JSONL file that only its owner can read; without a file, only logs.

    No header is ever written, and the `secrets` are taken out wherever they occur.
    """

    def __init__(
        self, path: Path | None, redactors: Iterable[Redactor], secrets: Iterable[str]
    ) -> None:
        self._redactors = tuple(redactors)
        self._secrets = tuple(secrets)
        self._file = None
        if path is not None:
            try:
                handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            except OSError as error:
                raise UsageProblem(
                    f"the capture cannot be written to {one_line(str(path))}: {error.strerror}. "
                    "Next: name a file in a folder that exists"
                ) from None
            self._file = os.fdopen(handle, "w", encoding="utf-8")

    def add(self, record: Record, secrets: Iterable[str] = ()) -> None:
        """Write and log one record; `secrets` are those that came with this request."""
        _log.info("%s", _line(record))
        if self._file is None:
            return
        data = json.dumps(record.model_dump(mode="python"), ensure_ascii=False)
        try:
            self._file.write(escape_surrogates(self._clean(data, secrets)) + "\n")
            self._file.flush()
        except OSError as error:  # a full disk must not cost the client its answer
            _log.warning("an exchange is missing in the capture: %s", error.strerror)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _clean(self, data: str, secrets: Iterable[str]) -> str:
        for secret in (*self._secrets, *secrets):
            if len(secret) >= _SHORTEST_SECRET:
                data = data.replace(json.dumps(secret, ensure_ascii=False)[1:-1], _HIDDEN)
        for redactor in self._redactors:
            data = redactor.text(data)
        return data


def _line(record: Record) -> str:
    """Return what a person wants to see of an exchange."""
    parts = [f"{record.number} {record.route} {one_line(record.model, 60)}"]
    parts.append("the client left" if record.client_left else f"{record.status}")
    if record.given is not None and record.error is None and record.status == 200:
        usage = record.given.usage
        calls = len(record.given.tool_calls)
        parts.append(record.given.stop_reason + (f", calls: {calls}" if calls else ""))
        about = "about " if usage.estimated else ""
        parts.append(f"{about}{usage.input_tokens} in, {usage.output_tokens} out")
    if record.received is not None and record.received.findings:
        parts.append("odd: " + ", ".join(one.code for one in record.received.findings))
    if record.received is not None and record.received.leaked_calls:
        leaked = len(record.received.leaked_calls)
        parts.append(f"calls written as text: {leaked}, recovered: {record.recovered}")
    if record.emulated:
        parts.append(f"emulated calls: {record.emulated}")
    if len(record.attempts) > 1:
        parts.append(_way(record))
    if record.error is not None:
        parts.append(one_line(record.error.message, 300))
    return " · ".join([*parts, f"{record.total_s:.2f} s"])


def _way(record: Record) -> str:
    """Return how a request went through the chain."""
    served = f"served by {record.served_by}" if record.served_by else "served by nobody"
    failed = [f"{one.name} {one.kind}" for one in record.attempts if one.kind is not None]
    return f"{served} ({', '.join(failed)})"

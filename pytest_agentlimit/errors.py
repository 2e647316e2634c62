"""The exceptions of this package, one tree.

AgentLimitError
├── UsageProblem               what was typed or configured cannot work (pytest exit code 4)
│   ├── ModelNotFound          no endpoint answers to that name
│   └── EndpointUnusable       the endpoint was found, and cannot be used as it stands
├── EndpointError              one call to an endpoint failed; never the model's fault
│   ├── Unreachable            refused, no route, name not found, connect deadline
│   ├── DeadlineExceeded       the server accepted the call and did not finish it in time
│   ├── HTTPFailure            a status code of 300 or above
│   ├── NotTheProtocol         the answer is not what the dialect speaks (HTML, broken JSON …)
│   └── StreamFailure          the reply was cut, carried an error object, or outgrew the limit
├── ExpectationFailed          (also AssertionError) the model did not do what a check expects
├── ToolProblem                a tool cannot do what the model asked; the model is told why
│   └── WorkspaceViolation     a tool argument points out of the workspace

Every message says what happened, why, and what to do next. No message holds an API key.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Blame = Literal["model", "engine", "config", "network", "test"]
"""Who has to act on a failure (DESIGN 5)."""

CallOutcome = Literal["infra", "timeout"]
"""What a failed call makes of its trial: `infra` is left out of the score, `timeout` fails it."""


class AgentLimitError(Exception):
    """Any error this package raises on purpose."""


class UsageProblem(AgentLimitError):
    """Something typed or configured cannot work; the run stops before a token is spent."""


class ModelNotFound(UsageProblem):
    """No endpoint answers to a model name; the message lists what was looked at."""


class EndpointUnusable(UsageProblem):
    """An endpoint was found and cannot be used as it stands: refused, HTML, wrong key, bad GGUF."""


class EndpointError(AgentLimitError):
    """One call failed for a reason that is not the model's.

    `kind` is a short stable word for reports, `blame` who has to act, `outcome` what it makes of
    the trial, `hint` the next step (one sentence, may be empty).
    """

    outcome: ClassVar[CallOutcome] = "infra"
    partial: Any = None
    """The ChatReply that had arrived when the call failed, or None: evidence, never a result."""
    said: Any = None
    """The WireError the server answered with, without secrets, or None."""

    def __init__(self, message: str, *, kind: str, blame: Blame, hint: str = "") -> None:
        super().__init__(f"{message}. {hint}" if hint else message)
        self.kind = kind
        self.blame: Blame = blame
        self.hint = hint


class Unreachable(EndpointError):
    """No connection: kinds `refused`, `connect_timeout`, `unreachable`."""


class DeadlineExceeded(EndpointError):
    """The request was accepted and not finished in time: kinds `hung` (no first byte), `stalled`
    (silence between chunks) and `slow` (the total deadline).
    """

    outcome: ClassVar[CallOutcome] = "timeout"


class HTTPFailure(EndpointError):
    """An HTTP status of 300 or above; `status` holds it.

    Kinds: `auth`, `not_found`, `rate_limit`, `overloaded`, `server_error`, `context_overflow`,
    `bad_request`, `redirect`. `retry_after_s` is what the server asked for, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        kind: str,
        blame: Blame,
        hint: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, kind=kind, blame=blame, hint=hint)
        self.status = status
        self.retry_after_s = retry_after_s


class NotTheProtocol(EndpointError):
    """A 200 whose body is not the dialect: kinds `html`, `not_json`, `bad_shape`."""


class StreamFailure(EndpointError):
    """A reply that broke off: kinds `cut_stream`, `stream_error`, `too_large`."""


class ExpectationFailed(AgentLimitError, AssertionError):
    """An expectation of a check was not met; `blame` says by whom."""

    about_reply: ClassVar[bool] = True
    """Whether the blame was read from one reply; else all replies of a trial tell it."""

    def __init__(self, message: str, *, blame: Blame = "model") -> None:
        super().__init__(message)
        self.blame: Blame = blame


class ToolProblem(AgentLimitError):
    """Raised by a tool that cannot do what the model asked: its message is all the model is told.

    Any other exception of a tool is told too, with its type; this one is meant to happen.
    """


class WorkspaceViolation(ToolProblem):
    """A path given by a model leaves the workspace; nothing was read or written."""

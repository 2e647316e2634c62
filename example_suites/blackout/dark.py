"""The model under test as a fallback: a failing primary and a bridge in front of it."""

from __future__ import annotations

from contextlib import ExitStack
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pytest

from pytest_agentlimit import Agent, Endpoint
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.errors import Blame, DeadlineExceeded, EndpointError, ExpectationFailed
from pytest_agentlimit.text import one_line

if TYPE_CHECKING:
    from pytest_agentlimit.bridge.capture import Seen

PATIENCE = Deadlines(connect_s=0.5, first_byte_s=0.5, between_chunks_s=0.5, total_s=0.8)
"""When the primary is given up. It is on this machine, so half a second is long."""
_NO_BRIDGE = 'the bridge is missing: pip install "pytest-agentlimit[bridge]"'


class NotCarried(DeadlineExceeded):
    """No reply reached the agent: for it, a request that never ended."""


class Dark:
    """An agent behind a bridge whose primary has `fault`, and whose fallback is `endpoint`.

        with Dark("hang", endpoint, agent, agent_rng) as dark:
            run = dark.agent.run(…)

    Its calls are recorded in the trial; a request that fails is sent again at once, at most twice,
    as agent programs do. When no reply gets through, NotCarried says so: a failed check, and not
    the model's fault. `seen` is what the bridge saw, complete after the block.
    """

    def __init__(self, fault: str, endpoint: Endpoint, agent: Agent, rng: Random) -> None:
        self._fault = fault
        self._endpoint = endpoint
        self._like = agent
        self._seed = rng.randrange(2**31)
        self._open = ExitStack()
        self.agent = agent
        self.seen: list[Seen] = []

    def __enter__(self) -> Self:
        pytest.importorskip("starlette", reason=_NO_BRIDGE)
        pytest.importorskip("uvicorn", reason=_NO_BRIDGE)
        from pytest_agentlimit.harness.blackout_stage import blackout
        from pytest_agentlimit.harness.blackout_work import Patient

        spec = self._endpoint.spec
        primary = EndpointSpec(
            name="primary",
            dialect=spec.dialect,
            base_url="http://primary.invalid",
            model="primary",
            deadlines=PATIENCE,
        )
        waiting = {name: value + PATIENCE.total_s for name, value in spec.deadlines}
        stage = self._open.enter_context(
            blackout(self._fault, primary, [spec], self._endpoint, Deadlines(**waiting))
        )
        like, client = self._like, Patient(stage.client)
        self.agent = Agent(client, shape=like.shape, seed=self._seed, name=like.name)
        self.seen = stage.seen
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        self._open.close()
        if isinstance(error, EndpointError):
            raise self.not_carried(error) from None

    @property
    def reached(self) -> bool:
        """Whether the model under test was asked for the last request."""
        from pytest_agentlimit.harness.blackout_stage import asked, primary_of

        primary = primary_of(self.seen)
        return any(name != primary for last in self.seen[-1:] for name in asked(last))

    def not_carried(self, error: EndpointError) -> NotCarried:
        """Return what the end of the last request means, and whose fault it is."""
        blame: Blame = "engine" if self.reached else "config"
        did = "was asked and did not answer" if self.reached else "was never asked"
        return NotCarried(
            f"the work was not carried, and the model under test {did}: "
            f"{one_line(str(error), 400)}\nblame: {blame}",
            kind="not_carried",
            blame=blame,
        )


def require(wrong: str, run: Transcript, dark: Dark | None = None) -> None:
    """Return when nothing is wrong; else raise ExpectationFailed with whose fault it is.

    A last reply that the bridge took from the failing primary is the chain's fault. Otherwise the
    model under test had its say, and it is blamed as in the control.
    """
    __tracebackhide__ = True
    if not wrong:
        return
    ended = f"the run ended after {len(run.steps)} replies: {run.stopped_because}"
    blame: Blame = run.blame
    if dark is not None and not dark.reached:
        ended = "the last reply was the failing primary's own, taken for a good one"
        blame = "config"
    raise ExpectationFailed(
        f"{wrong}\n{ended}; last words: {one_line(run.final_text, 400)!r}\nblame: {blame}",
        blame=blame,
    )

"""External agent programs in a run: which one, whether it is there, and what it did in a trial."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentlimit.harness.agent import HarnessAgent, NotForHarness
from pytest_agentlimit.harness.harness import Harness
from pytest_agentlimit.harness.presets import harness_spec, preset_names
from pytest_agentlimit.harness.programs import (
    find_program,
    missing,
    program_version,
)
from pytest_agentlimit.harness.result import HarnessRun
from pytest_agentlimit.harness.spec import HarnessSpec, served

if TYPE_CHECKING:
    from pytest_agentlimit.agents.transcript import Transcript
    from pytest_agentlimit.agents.workspace import Workspace
    from pytest_agentlimit.endpoints.client import EndpointClient
    from pytest_agentlimit.endpoints.timing import Exchange

    from .recorder import Recorder

_VERSION = re.compile(r"\d+\.\d[\w.+-]*")


@dataclass(frozen=True)
class HarnessUnderTest:
    """The agent program of a run; plain data that crosses to xdist workers."""

    spec: dict[str, Any]
    version: str | None = None
    missing: str = ""
    """Why it cannot be started, with the way to install it."""

    @property
    def label(self) -> str:
        """Its name and version, as reports have it: programs often say their name as well."""
        number = _VERSION.search(self.version or "")
        version = number[0].rstrip(".+-") if number else self.version
        return f"{self.spec['name']} {version}" if version else str(self.spec["name"])


def find_harness(name: str, root: Path) -> HarnessUnderTest:
    """Return the agent program called `name`, started once to tell its version.

    Raises UsageProblem for a name nobody knows, and for a program the bridge cannot serve.
    """
    spec = served(harness_spec(name, root=root))
    path = find_program(spec)
    if path is None:
        return HarnessUnderTest(spec.model_dump(mode="json"), missing=str(missing(spec)))
    return HarnessUnderTest(spec.model_dump(mode="json"), program_version(spec, path))


def no_harness() -> str:
    """Return why a check that needs an agent program is skipped."""
    names = ", ".join(preset_names())
    return f"no agent program: add --agent-harness=NAME ({names}, or one of your own)"


class RecordedHarness(Harness):
    """A harness whose runs are in the trial's record; a missing program skips the trial."""

    def __init__(
        self,
        found: HarnessUnderTest,
        client: EndpointClient,
        recorder: Recorder,
        observe: Callable[[Exchange], None],
    ) -> None:
        super().__init__(
            HarnessSpec.model_validate(found.spec),
            client.spec,
            on_exchange=self._take,
            turnstile=client.turnstile,
            seed=recorder.plan.seed,
        )
        self.version = found.version
        self._missing = found.missing
        self._known_faults = client.known_faults
        self._recorder = recorder
        self._observe = observe
        self._exchanges: list[Exchange] = []

    def run(
        self,
        goal: str,
        workspace: Workspace | Path | str,
        *,
        timeout_s: float | None = None,
        max_turns: int = 30,
        check: bool = True,
    ) -> HarnessRun:
        """Return what the program did, as Harness.run does."""
        if self._missing:
            pytest.skip(self._missing)
        self._exchanges.clear()
        ran = super().run(goal, workspace, timeout_s=timeout_s, max_turns=max_turns, check=False)
        self._recorder.went_through(ran)
        judgeable = ran.outcome in ("finished", "failed")
        for exchange in folded(self._exchanges) if judgeable else self._exchanges:
            self._observe(exchange)
        return ran.expect_finished() if check else ran

    def _take(self, exchange: Exchange) -> None:
        if self._known_faults and exchange.reply is not None:
            reply = self._known_faults.after(exchange.request, exchange.reply)
            exchange = exchange.model_copy(update={"reply": reply})
        self._exchanges.append(exchange)


class RecordedAgent(HarnessAgent):
    """The model under test; its runs with tools go through an agent program."""

    def run(self, goal: str, **options: Any) -> Transcript:
        """Return what happened, as HarnessAgent.run does; skip what no program can be given."""
        try:
            return super().run(goal, **options)
        except NotForHarness as problem:
            pytest.skip(str(problem))


def folded(exchanges: Iterable[Exchange]) -> Iterator[Exchange]:
    """Yield the answered exchanges; failed ones before an answer are its earlier attempts.

    As with retries of our own client: the program got over a failure that it sent again, so the
    failure is no excuse for what the model did afterwards. What nothing followed is left out.
    """
    failed: list[Exchange] = []
    for exchange in exchanges:
        if exchange.error is not None:
            failed.append(exchange)
            continue
        if failed:
            spent_s = sum(one.duration_s for one in (*failed, exchange))
            attempts = exchange.attempts + sum(one.attempts for one in failed)
            changes = {
                "started": failed[0].started,
                "backoff_s": max(0.0, exchange.ended - failed[0].started - spent_s),
                "timing": exchange.timing.model_copy(update={"attempts": attempts}),
            }
            exchange = exchange.model_copy(update=changes)
            failed.clear()
        yield exchange

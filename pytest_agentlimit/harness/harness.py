"""An agent program run once: through a recording bridge, in a fresh home, judged at its end."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentlimit.agents.processes import remove_folder
from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.endpoints.inflight import Turn, Turnstile
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.endpoints.timing import Exchange
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import printable

from .exchanges import curl_of, exchange_of
from .null_server import reachable
from .output import TEXT_LIMIT, read_output
from .process import Ended, run_program
from .programs import find_program, missing, program_version
from .result import HarnessRun, Process
from .snapshot import Snapshot, changes, snapshot
from .spec import HarnessSpec, served
from .templates import ConfigFiles, launch
from .verdict import Evidence, judge
from .wire import Listener, Talk

if TYPE_CHECKING:
    from pytest_agentlimit.bridge.serve import Bridge

DEFAULT_CONTEXT = 32_768
DEFAULT_MAX_TOKENS = 4096
"""What a program is told of a model that nobody described."""


class Harness:
    """An agent program in front of one endpoint; `run` it as often as you like, from any thread.

    `on_exchange` is given every request that reached the endpoint, in order, after each run.
    A run holds one place of the `turnstile`. `seed` is sent with every request, the same each
    time, where the dialect takes it at the top level (openai): programs send none of their own.
    Raises UsageProblem for a dialect that is not served.

    The program is not confined (see process.py): it runs as you, on this machine.
    """

    def __init__(
        self,
        spec: HarnessSpec,
        endpoint: EndpointSpec,
        *,
        on_exchange: Callable[[Exchange], None] | None = None,
        turnstile: Turnstile | None = None,
        seed: int | None = None,
    ) -> None:
        self.spec = served(spec)
        self.endpoint = _seeded(endpoint, seed)
        self._on_exchange = on_exchange
        self._turnstile = turnstile

    @cached_property
    def version(self) -> str | None:
        """What the program says of its version; None when it does not, or is not installed."""
        path = find_program(self.spec)
        return None if path is None else program_version(self.spec, path)

    def run(
        self,
        goal: str,
        workspace: Workspace | Path | str,
        *,
        timeout_s: float | None = None,
        max_turns: int = 30,
        check: bool = True,
    ) -> HarnessRun:
        """Return what the program did with `goal` in `workspace`, and whether it can be believed.

        With `check` a run that did not finish raises, as `HarnessRun.expect_finished` does, so
        that exit code 0 and nothing done is no pass. `timeout_s` is the spec's own by default.
        Raises HarnessMissing when the program is not installed, UsageProblem when it cannot be
        started.
        """
        path = find_program(self.spec)
        if path is None:
            raise missing(self.spec)
        if max_turns < 1:
            raise ValueError(f"max_turns is {max_turns}; a run has at least one")
        place = workspace if isinstance(workspace, Workspace) else Workspace(Path(workspace))
        limit_s = self.spec.timeout_s if timeout_s is None else timeout_s
        began = _Run(self, path, goal, place, limit_s, max_turns)
        done = began.result()
        if self._on_exchange is not None:
            for exchange in began.exchanges():
                self._on_exchange(exchange)
        return done.expect_finished() if check else done

    def turn(self) -> Turn:
        """Return a turn at the endpoint for one run."""
        return self._turnstile.turn() if self._turnstile else Turn()


class _Run:
    """One run: everything that exists only while the program does."""

    def __init__(
        self,
        harness: Harness,
        path: Path,
        goal: str,
        workspace: Workspace,
        timeout_s: float,
        max_turns: int,
    ) -> None:
        self._harness = harness
        self._spec = harness.spec
        self._endpoint = harness.endpoint
        self._path = path
        self._goal = goal
        self._workspace = workspace
        self._timeout_s = timeout_s
        self._max_turns = max_turns
        self._heard = Listener()
        self._policy = Policy(
            token=secrets.token_urlsafe(24), max_turns=max_turns + self._spec.extra_requests
        )
        self._turn = harness.turn()
        self._stopped: float | None = None
        """When the program was made to end."""

    def result(self) -> HarnessRun:
        """Return the judged run; nothing of it is left but what it did to the workspace."""
        with self._turn:
            ended, before, after = self._played()
        self._stopped = ended.over if ended.timed_out else None
        curls = {
            one.record.number: curl_of(one, self._endpoint, self._policy)
            for one in self._heard.seen
        }
        talk = Talk(self._heard, self._goal, self._spec.tools, curls)
        process = self._process(ended)
        changed = changes(before, after)
        verdict = judge(
            Evidence(
                process=process,
                talk=talk,
                wire=talk.wire,
                changes=changed,
                over=ended.over,
                context_window=self._endpoint.context_window,
                complete=before.complete and after.complete,
            )
        )
        return HarnessRun(
            harness=self._spec.name,
            version=self._harness.version,
            goal=self._goal,
            process=process,
            wire=talk.wire,
            changes=changed,
            transcript=talk.transcript,
            outcome=verdict.outcome,
            blame=verdict.blame,
            problems=verdict.problems,
            failure=verdict.failure,
        )

    def exchanges(self) -> Iterator[Exchange]:
        """Yield what a recorder wants to know of every request; the first one has the wait."""
        waited_s = self._turn.waited_s
        for seen in sorted(self._heard.seen, key=lambda one: one.started):
            exchange = exchange_of(seen, self._endpoint, self._policy, self._stopped)
            if exchange is not None:
                counted = {
                    "waited_s": waited_s,
                    "inflight_start": self._turn.inflight_start,
                    "inflight_end": self._turn.inflight_end,
                }
                yield exchange.model_copy(update=counted)
                waited_s = 0.0

    def _played(self) -> tuple[Ended, Snapshot, Snapshot]:
        with ExitStack() as stack:
            home = stack.enter_context(_fresh_home())
            spec = stack.enter_context(reachable(self._endpoint))
            bridge = stack.enter_context(self._bridge(spec))
            values = self._values(home, bridge.url)
            stack.enter_context(ConfigFiles(self._spec, self._workspace, home, values))
            argv, env = launch(self._spec, self._path, values)
            before = snapshot(self._workspace.path)
            ended = run_program(
                argv, cwd=self._workspace.path, env=env, timeout_s=self._timeout_s, home=home
            )
            return ended, before, snapshot(self._workspace.path)

    def _bridge(self, spec: EndpointSpec) -> Bridge:
        try:
            from pytest_agentlimit.bridge.serve import Bridge
        except ModuleNotFoundError as error:
            raise UsageProblem(
                f"agent programs reach the model through the bridge, which needs {error.name}. "
                'Next: pip install "pytest-agentlimit[bridge]"'
            ) from None
        return Bridge(spec, self._policy, observe=self._heard)

    def _values(self, home: Path, url: str) -> dict[str, str]:
        endpoint = self._endpoint
        return {
            "prompt": self._goal,
            "model": endpoint.model or endpoint.name,
            "url": url,
            "home": str(home),
            "workspace": str(self._workspace.path),
            "key": self._policy.token or "",
            "max_turns": str(self._max_turns),
            "context": str(endpoint.context_window or DEFAULT_CONTEXT),
            "max_tokens": str(endpoint.max_tokens or DEFAULT_MAX_TOKENS),
        }

    def _process(self, ended: Ended) -> Process:
        """Return the process without its key, which is good for nothing any more."""
        key = self._policy.token or ""
        stdout, stderr = (text.replace(key, "<key>") for text in (ended.stdout, ended.stderr))
        said = read_output(stdout, self._spec.output)
        return Process(
            exit_code=ended.exit_code,
            timed_out=ended.timed_out,
            duration_s=ended.over - ended.began,
            stdout=printable(stdout, TEXT_LIMIT),
            stderr=printable(stderr, TEXT_LIMIT),
            final_text=said.text,
            says_failed=said.failed,
        )


@contextmanager
def _fresh_home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="agentlimit-home-")).resolve()
    try:
        os.mkdir(home / "tmp")
        yield home
    finally:
        remove_folder(home)


def _seeded(endpoint: EndpointSpec, seed: int | None) -> EndpointSpec:
    if seed is None or endpoint.dialect != "openai" or endpoint.kind == "null":
        return endpoint
    return endpoint.model_copy(update={"extra_body": {"seed": seed} | endpoint.extra_body})

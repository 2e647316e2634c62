"""What controller and workers know about the run under way; plain data until a check needs more."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import pytest

from .board import Board
from .warmth import IdleWatch

if TYPE_CHECKING:
    import pluggy

    from pytest_agentlimit.endpoints.client import EndpointClient
    from pytest_agentlimit.endpoints.known_faults import KnownFaults
    from pytest_agentlimit.endpoints.spec import EndpointSpec
    from pytest_agentlimit.endpoints.timing import Exchange

    from .harnesses import HarnessUnderTest

SEED_BITS = 31
"""Servers read seeds as signed 32-bit integers."""


@dataclass(frozen=True)
class ModelUnderTest:
    """One resolved model: the name in test ids, the endpoint and its fingerprint as JSON."""

    name: str
    spec: dict[str, Any]
    fingerprint: dict[str, Any] = field(default_factory=dict)
    max_inflight: int = 1
    """Calls at a time, over all workers."""
    can_be_cold: bool = False
    """A warm-up comes before its first trial, and after idle minutes."""


@dataclass(frozen=True)
class Trial:
    """One trial of a check on one model: what `pytest_generate_tests` parametrises by."""

    model: str
    number: int

    @property
    def id(self) -> str:
        """The part of the test id this trial adds."""
        return f"{self.model}-t{self.number}"


@dataclass
class RunContext:
    """What a run is, the same on the controller and every worker."""

    seed: int
    trials: int
    shape: str
    models: tuple[ModelUnderTest, ...] = ()
    purpose: Literal["score", "classify", "audit"] = "score"
    one_instance: bool = False
    """Every trial of a check gets the same instance, and only another sampling seed."""
    finished: frozenset[str] = frozenset()
    """Node ids of trials that an earlier part of the run finished."""
    rungs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Node id to the trials of its climb that an earlier part of the run made."""
    harness: HarnessUnderTest | None = None
    """The agent program that `agent.run` goes through."""
    board: Board = field(default_factory=Board)
    clients: dict[str, EndpointClient] = field(default_factory=dict)
    observer: Callable[[Exchange], None] | None = None
    """Who takes the exchanges of the trial that runs in this process, if one does."""
    idle: IdleWatch = field(default_factory=IdleWatch)

    def to_worker(self) -> dict[str, Any]:
        """Return plain builtins for an xdist worker."""
        return {
            "seed": self.seed,
            "trials": self.trials,
            "shape": self.shape,
            "models": [asdict(model) for model in self.models],
            "purpose": self.purpose,
            "one_instance": self.one_instance,
            "finished": sorted(self.finished),
            "rungs": self.rungs,
            "harness": asdict(self.harness) if self.harness else None,
            "board": str(self.board.path) if self.board.path else None,
        }

    @classmethod
    def from_controller(cls, data: dict[str, Any]) -> RunContext:
        """Return the context an xdist worker was given."""
        given = dict(data)
        models = tuple(ModelUnderTest(**model) for model in given.pop("models"))
        path = given.pop("board")
        board = Board(Path(path) if path else None)
        finished = frozenset(given.pop("finished"))
        harness = given.pop("harness")
        if harness:
            from .harnesses import HarnessUnderTest

            harness = HarnessUnderTest(**harness)
        return cls(
            **given,
            models=models,
            finished=finished,
            board=board,
            harness=harness,
        )

    def model(self, name: str) -> ModelUnderTest:
        """Return the model under test called `name`."""
        return next(model for model in self.models if model.name == name)

    def spec(self, name: str) -> EndpointSpec:
        """Return the endpoint of a model."""
        from pytest_agentlimit.endpoints.spec import EndpointSpec

        return EndpointSpec.model_validate(self.model(name).spec)

    def client(self, name: str, hook: pluggy.HookRelay) -> EndpointClient:
        """Return the pooled client of a model: one for the whole session of this process."""
        if name not in self.clients:
            from pytest_agentlimit.endpoints.connect import open_client
            from pytest_agentlimit.endpoints.inflight import turnstile_for

            spec = self.spec(name)
            made = hook.pytest_agentlimit_make_client(spec=spec, on_exchange=self.observe)
            client = made or open_client(spec, on_exchange=self.observe)
            if spec.kind != "null":  # a null model answers in this process
                places = self.model(name).max_inflight
                client.turnstile = turnstile_for(spec, places, self.board.lock_folder)
            if name in self.board.preflights:
                client.known_faults = self._known_faults(name)
            self.clients[name] = client
        return self.clients[name]

    def _known_faults(self, name: str) -> KnownFaults:
        from pytest_agentlimit.endpoints.known_faults import KnownFault, KnownFaults, Preflight

        from .recorder import Unsupported

        def refuse(fault: KnownFault) -> NoReturn:
            raise Unsupported(fault, name)

        return KnownFaults(Preflight.model_validate(self.board.preflights[name]), refuse)

    def observe(self, exchange: Exchange) -> None:
        """Pass one exchange on to the trial that runs."""
        if self.observer is not None:
            self.observer(exchange)

    def close(self) -> None:
        """Close every pooled client."""
        while self.clients:
            self.clients.popitem()[1].close()


def trial_seed(run_seed: int, check: str, number: int) -> int:
    """Return the seed of a trial: the same for every model, so that instances are paired."""
    digest = hashlib.sha256(f"{run_seed}:{check}:{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (1 << SEED_BITS)


def check_id(item: pytest.Item, trial: Trial) -> str:
    """Return the node id of `item` without model and trial, the same on every machine.

    A suite run from an installed package lies outside the root folder, where pytest's node ids
    depend on the machine: the module's own name takes its place. The suites we ship have the
    same ids as in a checkout.
    """
    from pytest_agentlimit.runs.expected import bare_nodeid

    path, separator, rest = bare_nodeid(item.nodeid).partition("::")
    if not item.path.is_relative_to(item.config.rootpath):
        module = getattr(getattr(item, "module", None), "__name__", Path(path).stem)
        path = module.replace(".", "/").removeprefix("pytest_agentlimit/") + ".py"
    alone, last = f"[{trial.id}]", f"-{trial.id}]"
    rest = rest.removesuffix(alone) if rest.endswith(alone) else rest.removesuffix(last) + "]"
    return f"{path}{separator}{rest}"


CONTEXT: pytest.StashKey[RunContext] = pytest.StashKey()

"""The role that runs trials: in every xdist worker, and in the one process without xdist."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from .context import CONTEXT, RunContext, Trial, check_id, trial_seed
from .fixtures import RECORDER
from .markers import CheckMarkers, read_markers
from .recorder import Recorder
from .tracebacks import end_at_the_test
from .untrusted import neutralise

if TYPE_CHECKING:
    from pytest_agentlimit.runs.records import CheckPlan

TRIAL_FIXTURE = "agentlimit_trial"
PLAN_KEY = "_agentlimit_plan"
RECORD_KEY = "_agentlimit"


def trial_of(item: pytest.Item) -> Trial | None:
    """Return the trial `item` stands for, None for an ordinary test."""
    callspec = getattr(item, "callspec", None)
    trial = None if callspec is None else callspec.params.get(TRIAL_FIXTURE)
    return trial if isinstance(trial, Trial) else None


class TrialRunner:
    """Turns checks into trials, orders them by rounds, and records each one."""

    def __init__(self, context: RunContext) -> None:
        self.context = context

    @pytest.hookimpl(trylast=True)  # after the check's own parametrisation: our id part is last
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrise a check by model and trial."""
        if TRIAL_FIXTURE not in metafunc.fixturenames:
            return
        where = metafunc.definition.nodeid
        markers = read_markers(metafunc.definition.iter_markers(), where)
        if not self.context.models:
            return
        count = markers.trials or self.context.trials
        trials = [
            Trial(model.name, number)
            for model in self.context.models
            for number in range(1, count + 1)
        ]
        metafunc.parametrize(
            TRIAL_FIXTURE, trials, ids=[trial.id for trial in trials], indirect=True
        )

    @pytest.hookimpl(trylast=True)  # after plugins that shuffle: rounds stay whole
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put trials in round-major order, models interleaved; ordinary tests keep their places."""
        trials = [(trial.number, item) for item in items if (trial := trial_of(item)) is not None]
        in_rounds = iter([item for _, item in sorted(trials, key=lambda pair: pair[0])])
        items[:] = [next(in_rounds) if trial_of(item) is not None else item for item in items]

    @pytest.hookimpl(tryfirst=True)  # before skip marks are evaluated: a skip is recorded too
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Start a fresh recorder for this attempt."""
        trial = trial_of(item)
        if trial is not None:
            fingerprint = self.context.model(trial.model).fingerprint
            item.stash[RECORDER] = Recorder(
                self._plan(item, trial), item.nodeid, engine_has_tools=fingerprint.get("tools")
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach the plan to the setup report and the record to the teardown report."""
        recorder = item.stash.get(RECORDER, None)
        if recorder is None:
            return (yield)
        end_at_the_test(call)
        report = yield
        neutralise(report)
        recorder.phase(call.when, None if call.excinfo is None else call.excinfo.value)
        if call.when == "setup":
            report.__dict__[PLAN_KEY] = recorder.plan.model_dump(mode="json")
        elif call.when == "teardown":
            record = recorder.record(
                worker=getattr(item.config, "workerinput", {}).get("workerid"),
                attempt=getattr(item, "execution_count", 1),
                hook=item.ihook,
            )
            report.__dict__[RECORD_KEY] = record.model_dump(mode="json")
        return report

    def pytest_unconfigure(self) -> None:
        """Close the pooled clients of this process."""
        self.context.close()

    def _plan(self, item: pytest.Item, trial: Trial) -> CheckPlan:
        from pytest_agentlimit.runs.records import CheckPlan

        markers: CheckMarkers = read_markers(item.iter_markers(), item.nodeid)
        check = check_id(item, trial)
        return CheckPlan(
            check=check,
            model=trial.model,
            trial=trial.number,
            seed=trial_seed(self.context.seed, check, trial.number),
            capability=markers.capability,
            weight=markers.weight,
            blocker=markers.blocker,
            budget_ms=markers.budget_ms,
            budget_quantile=markers.budget_quantile,
        )


def worker_context(config: pytest.Config) -> RunContext:
    """Return the context an xdist worker received; an empty one when the controller has none."""
    data = getattr(config, "workerinput", {}).get("agentlimit")
    return RunContext(0, 1, "bare") if data is None else RunContext.from_controller(data)


__all__ = ["CONTEXT", "PLAN_KEY", "RECORD_KEY", "TrialRunner", "trial_of", "worker_context"]

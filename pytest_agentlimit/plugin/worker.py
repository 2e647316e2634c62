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
from .versions import check_version

if TYPE_CHECKING:
    from pytest_agentlimit.runs.records import CheckPlan

TRIAL_FIXTURE = "agentlimit_trial"
PLAN_KEY = "_agentlimit_plan"
RECORD_KEY = "_agentlimit"
RUNG_KEY = "_agentlimit_rung"
"""A trial of a climb, on a report of its own that comes while the climb is under way."""
STATE_KEY = "_agentlimit_climb"
"""On the same report, how the climb stands."""


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
        one = 1 if "climb" in metafunc.fixturenames else self.context.trials  # a climb has its own
        count = markers.trials or one
        trials = [
            Trial(model.name, number)
            for model in self.context.models
            for number in range(1, count + 1)
        ]
        metafunc.parametrize(
            TRIAL_FIXTURE, trials, ids=[trial.id for trial in trials], indirect=True
        )

    @pytest.hookimpl(trylast=True)  # after plugins that shuffle: rounds stay whole
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Put trials in round-major order, models interleaved; ordinary tests keep their places.

        What an earlier part of the run finished is left out, and what is no check from an audit.
        """
        left_out = [item for item in items if not self._to_run(item)]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if self._to_run(item)]
        trials = [(trial.number, item) for item in items if (trial := trial_of(item)) is not None]
        in_rounds = iter([item for _, item in sorted(trials, key=lambda pair: pair[0])])
        items[:] = [next(in_rounds) if trial_of(item) is not None else item for item in items]

    @pytest.hookimpl(tryfirst=True)  # before skip marks are evaluated: a skip is recorded too
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Start a fresh recorder for this attempt."""
        trial = trial_of(item)
        if trial is not None:
            self._skip_if_not_needed(item, trial)
            fingerprint = self.context.model(trial.model).fingerprint
            item.stash[RECORDER] = Recorder(
                self._plan(item, trial), item.nodeid, engine_has_tools=fingerprint.get("tools")
            )
            gone = self.context.board.gone.get(trial.model)
            if gone is not None:
                item.stash[RECORDER].not_tried = f"not tried: {gone}"
                pytest.skip(item.stash[RECORDER].not_tried)

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
        if self.context.purpose == "audit":
            _expect_failure(report)
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

    def _to_run(self, item: pytest.Item) -> bool:
        if trial_of(item) is None:
            return self.context.purpose != "audit"
        if not self.context.finished:
            return True
        from pytest_agentlimit.runs.expected import bare_nodeid

        return bare_nodeid(item.nodeid) not in self.context.finished

    def _skip_if_not_needed(self, item: pytest.Item, trial: Trial) -> None:
        """Skip a trial that was decided already; it then has no record."""
        board = self.context.board
        board.read()
        board.wait_while_in_doubt(trial.model)
        if not (board.stops or board.flips):
            return
        from pytest_agentlimit.runs.expected import expected_trial

        stem = expected_trial(item.nodeid, [trial.model]).stem
        why = board.why_not_needed(trial.model, stem, trial.number)
        if why is not None:
            pytest.skip(why)

    def _plan(self, item: pytest.Item, trial: Trial) -> CheckPlan:
        from pytest_agentlimit.runs.records import CheckPlan

        markers: CheckMarkers = read_markers(item.iter_markers(), item.nodeid)
        check = check_id(item, trial)
        return CheckPlan(
            check=check,
            model=trial.model,
            trial=trial.number,
            seed=trial_seed(self.context.seed, check, trial.number),
            instance_seed=(
                trial_seed(self.context.seed, check, 1) if self.context.one_instance else None
            ),
            capability=markers.capability,
            weight=markers.weight,
            blocker=markers.blocker,
            budget_ms=markers.budget_ms,
            budget_quantile=markers.budget_quantile,
            line=None if item.location[1] is None else item.location[1] + 1,
            version=check_version(item),
        )


def _expect_failure(report: pytest.TestReport) -> None:
    """Show a null model's failure as what it is, expected, and its pass as the surprise."""
    if report.when == "call" and report.outcome in ("passed", "failed"):
        report.wasxfail = "a null model knows nothing"
        if report.outcome == "failed":
            report.outcome = "skipped"


def worker_context(config: pytest.Config) -> RunContext:
    """Return the context an xdist worker received; an empty one when the controller has none."""
    data = getattr(config, "workerinput", {}).get("agentlimit")
    return RunContext(0, 1, "bare") if data is None else RunContext.from_controller(data)


__all__ = [
    "CONTEXT",
    "PLAN_KEY",
    "RECORD_KEY",
    "RUNG_KEY",
    "TrialRunner",
    "trial_of",
    "worker_context",
]

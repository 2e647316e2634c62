"""The role that sees the whole run: it starts endpoints, keeps the journal and applies the gate.

It lives in the one process without xdist, and in the controller with it; never in a worker.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentlimit.errors import AgentLimitError, UsageProblem

from .board import Board
from .context import SEED_BITS, RunContext
from .live import LiveLine
from .recorder import crash_record
from .settings import Settings
from .verdict import Failures
from .worker import PLAN_KEY, RECORD_KEY, RUNG_KEY, trial_of

if TYPE_CHECKING:
    from pytest_agentlimit.endpoints.spec import EndpointSpec
    from pytest_agentlimit.runs.journal import RunFolder
    from pytest_agentlimit.runs.records import GateSettings, RunData

    from .breaker import Breaker
    from .context import ModelUnderTest
    from .power import Power
    from .reporting import FinishedRun
    from .startup import Endpoints
    from .steering import Steering


_PHASES = ("setup", "call", "teardown")


class Controller:
    """Start-up, journal, summary and gate of one run."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        context: RunContext,
        live: LiveLine,
        earlier: RunFolder | None = None,
    ) -> None:
        self.config = config
        self.settings = settings
        self.context = context
        self.live = live
        self.path: Path
        """Where the run is kept; known once the endpoints are."""
        self.specs: list[EndpointSpec] = []
        self.endpoints: Endpoints | None = None
        self.folder: RunFolder | None = None
        self.earlier = earlier
        """The run to go on with, until there is something to add to it."""
        self.gate: GateSettings | None = None
        self.steering: Steering | None = None
        self.breaker: Breaker | None = None
        self.power: Power | None = None
        self.failures = Failures()
        self.plans: dict[str, dict[str, Any]] = {}
        self.expected: dict[str, None] = {}
        self.known = False
        self.rerunning: set[str] = set()
        """Trials that pytest-rerunfailures is about to run again."""
        self.notes: list[str] = []
        self.started = time.perf_counter()
        self.finished: FinishedRun | None = None
        self.written: list[str] = []

    # start

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Resolve names, start endpoints and prepare the run, before xdist starts workers."""
        from .startup import harness_under_test, open_all, resolve_all

        try:
            aliases = self.config.hook.pytest_agentlimit_models(config=self.config)
            self.specs = resolve_all(self.settings, self.config.rootpath, aliases)
            self.gate = self._gate_settings()
            self.context.harness = harness_under_test(self.settings, self.config.rootpath)
            if _only_lists(self.config):
                self._fill_context([])
                return
            self.endpoints = open_all(self.specs, self.settings.max_inflight)
            self._fill_context(self.endpoints.models)
            self._prepare(self.gate)
        except UsageProblem as error:
            raise pytest.UsageError(str(error)) from None

    def _gate_settings(self) -> GateSettings:
        from .manifest import gate_settings, load_baseline

        baseline = self.earlier.manifest.gate.baseline if self.earlier else None
        if self.settings.baseline is not None:
            folder = Path(self.config.invocation_params.dir)
            names = [spec.name for spec in self.specs]
            baseline = load_baseline(self.settings.baseline, folder, names)
        return gate_settings(self.settings, baseline)

    def _fill_context(self, models: list[ModelUnderTest]) -> None:
        from .startup import models_under_test

        seed = self.settings.seed
        self.context.seed = secrets.randbits(SEED_BITS) if seed is None else seed
        self.context.models = models_under_test(self.specs, models, self.context.harness)

    def _prepare(self, gate: GateSettings) -> None:
        """Set up what watches the run; of an earlier part, take over what it found."""
        from pytest_agentlimit.runs.journal import new_run_id, runs_folder

        from .breaker import Breaker
        from .power import Power
        from .startup import why_gone
        from .steering import Steering

        root = self.config.rootpath
        self.path = self.earlier.path if self.earlier else runs_folder(root) / new_run_id()
        board = self.context.board = Board(self.path / "board.json")
        board.remove()  # of a part that was killed
        names = [model.name for model in self.context.models]
        classify = self.settings.purpose == "classify"
        self.steering = Steering(board, names, gate, classify=classify)
        self.power = Power(self.context)
        self.breaker = Breaker(board, lambda name: why_gone(self.context.spec(name)))
        if self.earlier is not None:
            self._take_over(self.earlier)

    def _take_over(self, earlier: RunFolder) -> None:
        from .resume import finished_trials, require_same

        require_same(earlier.manifest, self.context.models)
        data = earlier.load()
        finished = finished_trials(data)
        self.context.finished = frozenset(finished)
        self.context.rungs = {
            nodeid: [rung.model_dump(mode="json") for rung in rungs]
            for nodeid, rungs in data.rungs.items()
        }
        self.expected.update(dict.fromkeys(trial.nodeid for trial in data.expected))
        self.live.take_over(finished.values())
        if self.steering is not None:
            self.steering.expect(data.expected)
            for record in finished.values():
                self.steering.take(record)

    def _open_folder(self) -> RunFolder:
        """Return the folder of the run, made or taken up now that there is something to keep."""
        from pytest_agentlimit.runs.journal import RunFolder

        if self.folder is None:
            assert self.gate is not None
            if self.earlier is not None:
                self.folder = self.earlier
                manifest = self.earlier.manifest.model_copy(update={"gate": self.gate})
                self.folder.update_manifest(manifest)
            else:
                from .manifest import new_manifest

                root = self.config.rootpath
                manifest = new_manifest(self.settings, self.context, self.gate, root)
                self.folder = RunFolder.create(root, manifest, self.path.name)
            self.context.board.publish()
        return self.folder

    def pytest_report_header(self) -> list[str]:
        """Say which rule resolved each name, and the seed that repeats the run."""
        if not self.context.models:
            return []
        from .terminal import header_lines

        return header_lines(self.specs, self.context)

    # collection

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note every trial that should report (without xdist)."""
        self._expect([item.nodeid for item in session.items if trial_of(item) is not None])

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hand computed values to an xdist worker; options set here would not travel."""
        node.workerinput["agentlimit"] = self.context.to_worker()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Note every trial that should report (with xdist, from each worker's collection)."""
        from pytest_agentlimit.runs.expected import expected_trial

        names = [model.name for model in self.context.models]
        self._expect([nodeid for nodeid in ids if expected_trial(nodeid, names).model])

    def _expect(self, nodeids: list[str]) -> None:
        from pytest_agentlimit.runs.expected import bare_nodeid, expected_trial

        from .acquaintance import get_to_know

        if self.endpoints is None or not nodeids:
            return  # a session without a check leaves no folder behind
        folder = self._open_folder()
        if not self.known:
            self.known = True
            for line in get_to_know(self.context, folder, nodeids, self.settings, self.config):
                self._say(line)
        if self.power is not None:
            self.power.start()
        new = [nodeid for nodeid in map(bare_nodeid, nodeids) if nodeid not in self.expected]
        if not new:
            return
        self.expected.update(dict.fromkeys(new))
        folder.expect(new)
        if self.steering is not None:
            names = [model.name for model in self.context.models]
            self.steering.expect(expected_trial(nodeid, names) for nodeid in new)

    def _say(self, line: str) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and self.config.get_verbosity() >= 0:
            reporter.ensure_newline()
            reporter.write_line(line)

    # trials

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count collection errors: they are never evidence about a model."""
        if report.failed:
            self.failures.ordinary += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Journal a finished trial; count what fails outside the evidence."""
        from pytest_agentlimit.runs.expected import bare_nodeid

        nodeid = bare_nodeid(report.nodeid)
        if RUNG_KEY in report.__dict__:
            self._keep_rung(nodeid, report.__dict__[RUNG_KEY])
            return
        if report.when == "setup" and PLAN_KEY in report.__dict__:
            self.plans[nodeid] = report.__dict__[PLAN_KEY]
        if str(report.outcome) == "rerun":  # a word of pytest-rerunfailures
            self.rerunning.add(nodeid)
        record = report.__dict__.get(RECORD_KEY)
        # xdist reports a worker's death with a phase of its own, "???".
        if record is None and report.when not in _PHASES and nodeid in self.plans:
            record = crash_record(self.plans[nodeid], nodeid, str(report.longrepr))
        if record is not None:
            self._append(record, nodeid)
        self.failures.count(report, is_trial=nodeid in self.plans, record=record)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Print and count nothing for a trial of a climb: the test it belongs to is one test."""
        return ("", "", "") if RUNG_KEY in report.__dict__ else None

    def _keep_rung(self, nodeid: str, rung: dict[str, Any]) -> None:
        from pytest_agentlimit.runs.records import RungRecord

        if self.folder is not None:
            self.folder.climb(nodeid, RungRecord.model_validate(rung))

    def _append(self, record: dict[str, Any], nodeid: str) -> None:
        from pytest_agentlimit.runs.records import TrialRecord

        kept = TrialRecord.model_validate(record)
        if self.folder is not None:
            self.folder.append(kept)
        if nodeid in self.rerunning:
            self.rerunning.discard(nodeid)  # another attempt decides
            return
        if self.steering is not None:
            self.steering.take(kept)
        if self.breaker is not None:
            self.breaker.take(kept)

    # end

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Summarise, apply the gate, write the reports."""
        if self.endpoints is None:
            return
        self.notes += self.endpoints.stop()
        if self.folder is None and self.earlier is not None:
            self._nothing_missing(session)
        if self.folder is None:
            self._gate_without_checks(session)
            return
        if session.exitstatus == pytest.ExitCode.INTERRUPTED:
            self.notes.append("interrupted: the trials below are those that had finished")
        self.notes += [
            f"{name}: the endpoint was gone, and trials that were left were not tried: {why}. "
            "When it is back, --agent-resume runs what is missing"
            for name, why in self.context.board.gone.items()
        ]
        self.context.board.remove()
        used = self.power.stop() if self.power and self.earlier is None else {}
        self.folder.finish(time.perf_counter() - self.started, self.notes, used)
        self._conclude(session, self.folder.load())
        self.folder.close()

    def _nothing_missing(self, session: pytest.Session) -> None:
        """Report a run that was resumed and had nothing left to do."""
        self._open_folder()
        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK

    def _conclude(self, session: pytest.Session, data: RunData) -> None:
        from pytest_agentlimit.runs.summary import summarise

        from .reporting import FinishedRun, write_reports
        from .verdict import decide, judge

        judgement = judge(self.config.hook, data, summarise(data))
        if data.manifest.purpose == "audit":
            data = self._conclude_audit(session, data)
        else:
            self.failures.resumed = self.earlier is not None and _any_failed(data)
            decide(session, data.manifest.gate, judgement.results, self.failures)
        self.finished = FinishedRun(data, judgement.summary)
        try:
            self.written = write_reports(self.config, self.settings.reports, self.finished)
        except AgentLimitError as error:
            session.shouldfail = session.shouldfail or f"agentlimit: {error}"
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _conclude_audit(self, session: pytest.Session, data: RunData) -> RunData:
        """Return `data`, with a note when the audit could not be kept."""
        from pytest_agentlimit.runs.audit import audit_of, keep_audit

        from .verdict import decide_audit

        audit = audit_of(data)
        decide_audit(session, audit, self.failures)
        try:
            keep_audit(self.config.rootpath, audit.checks)
        except OSError as error:
            note = f"the audit was not kept for later reports: {error.strerror}"
            return data.model_copy(update={"notes": (*data.notes, note)})
        return data

    def _gate_without_checks(self, session: pytest.Session) -> None:
        gate = self.gate
        assert gate is not None
        if gate.asked and gate.mode != "off" and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            session.shouldfail = session.shouldfail or (
                "agentlimit: a gate was asked for and no check was collected, so nothing was judged"
            )

    def pytest_unconfigure(self) -> None:
        """Stop what a failed start left running."""
        if self.endpoints is not None:
            self.endpoints.stop()
        if self.earlier is not None:
            self.earlier.close()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, the score and the verdict."""
        if self.finished is not None and self.folder is not None:
            from .terminal import print_summary

            print_summary(terminalreporter, self.finished, self.folder, self.written)


def _only_lists(config: pytest.Config) -> bool:
    """Return whether nothing will run: no endpoint is started or asked for a list of names."""
    names = ("collectonly", "showfixtures", "show_fixtures_per_test")
    return any(config.getoption(name, False) for name in names)


def _any_failed(data: RunData) -> bool:
    return any(record.outcome in ("failed", "crashed") for record in data.records)


def start_controller(config: pytest.Config, settings: Settings) -> RunContext:
    """Register the controller of a session and return what its trials share.

    Raises pytest.UsageError when a run is to be resumed and cannot be.
    """
    earlier = None
    if settings.resume is not None:
        from .resume import as_before, open_earlier

        try:
            earlier = open_earlier(config, settings.resume)
            settings = as_before(config, settings, earlier.manifest)
        except UsageProblem as error:
            raise pytest.UsageError(str(error)) from None
    context = RunContext(
        0,
        settings.trials,
        settings.shape,
        purpose=settings.purpose,
        one_instance=settings.classify == "sampling",
    )
    live = LiveLine(config, context)
    config.pluginmanager.register(live, "agentlimit-live")
    controller = Controller(config, settings, context, live, earlier)
    config.pluginmanager.register(controller, "agentlimit-run")
    return context

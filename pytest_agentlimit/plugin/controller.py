"""The role that sees the whole run: it starts endpoints, keeps the journal and applies the gate.

It lives in the one process without xdist, and in the controller with it; never in a worker.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentlimit import __version__
from pytest_agentlimit.errors import AgentLimitError, UsageProblem

from .context import SEED_BITS, RunContext
from .options import Settings
from .verdict import Failures
from .worker import PLAN_KEY, RECORD_KEY, trial_of

if TYPE_CHECKING:
    from pytest_agentlimit.endpoints.spec import EndpointSpec
    from pytest_agentlimit.runs.journal import RunFolder
    from pytest_agentlimit.runs.records import GateSettings, Manifest, RunData

    from .reporting import FinishedRun
    from .startup import Endpoints


_PHASES = ("setup", "call", "teardown")


class Controller:
    """Start-up, journal, summary and gate of one run."""

    def __init__(self, config: pytest.Config, settings: Settings, context: RunContext) -> None:
        self.config = config
        self.settings = settings
        self.context = context
        self.specs: list[EndpointSpec] = []
        self.endpoints: Endpoints | None = None
        self.folder: RunFolder | None = None
        self.failures = Failures()
        self.plans: dict[str, dict[str, Any]] = {}
        self.expected: dict[str, None] = {}
        self.notes: list[str] = []
        self.workers = 0
        self.started = time.perf_counter()
        self.finished: FinishedRun | None = None
        self.written: list[str] = []

    # start

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Resolve names, start endpoints and open the run folder, before xdist starts workers."""
        from .startup import open_all, resolve_all

        try:
            aliases = self.config.hook.pytest_agentlimit_models(config=self.config)
            self.specs = resolve_all(self.settings, self.config.rootpath, aliases)
            if _only_lists(self.config):
                self._fill_context([])
                return
            self.endpoints = open_all(self.specs)
        except UsageProblem as error:
            raise pytest.UsageError(str(error)) from None
        self._fill_context(self.endpoints.models)

    def _fill_context(self, models: list[Any]) -> None:
        from .context import ModelUnderTest

        seed = self.settings.seed
        self.context.seed = secrets.randbits(SEED_BITS) if seed is None else seed
        self.context.models = tuple(models) or tuple(
            ModelUnderTest(spec.name, spec.model_dump(mode="json")) for spec in self.specs
        )

    def _manifest(self) -> Manifest:
        from pytest_agentlimit.runs.records import Manifest, ModelEntry

        return Manifest(
            run_id="",  # the folder names the run
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            seed=self.context.seed,
            plugin_version=__version__,
            host=_host(),
            shape=self.settings.shape,
            models=tuple(
                ModelEntry(name=model.name, fingerprint=model.fingerprint)
                for model in self.context.models
            ),
            gate=self._gate_settings(),
        )

    def _gate_settings(self) -> GateSettings:
        from pytest_agentlimit.runs.records import GateSettings

        return GateSettings(
            mode=self.settings.gate,
            min_score=self.settings.min_score,
            p95=self.settings.p95,
        )

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
        self.workers += not self.plans  # a later one takes the place of a worker that died
        from pytest_agentlimit.runs.expected import expected_trial

        names = [model.name for model in self.context.models]
        self._expect([nodeid for nodeid in ids if expected_trial(nodeid, names).model])

    def _expect(self, nodeids: list[str]) -> None:
        from pytest_agentlimit.runs.expected import bare_nodeid
        from pytest_agentlimit.runs.journal import RunFolder

        new = [nodeid for nodeid in map(bare_nodeid, nodeids) if nodeid not in self.expected]
        if not new or self.endpoints is None:
            return
        if self.folder is None:  # a session without a check leaves no folder behind
            self.folder = RunFolder.create(self.config.rootpath, self._manifest())
        self.expected.update(dict.fromkeys(new))
        self.folder.expect(new)

    # trials

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count collection errors: they are never evidence about a model."""
        if report.failed:
            self.failures.ordinary += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Journal a finished trial; count what fails outside the evidence."""
        from pytest_agentlimit.runs.expected import bare_nodeid

        nodeid = bare_nodeid(report.nodeid)
        if report.when == "setup" and PLAN_KEY in report.__dict__:
            self.plans[nodeid] = report.__dict__[PLAN_KEY]
        record = report.__dict__.get(RECORD_KEY)
        # xdist reports a worker's death with a phase of its own, "???".
        if record is None and report.when not in _PHASES and nodeid in self.plans:
            record = _crashed(self.plans[nodeid], nodeid, str(report.longrepr))
        if record is not None:
            self._append(record)
        self.failures.count(report, is_trial=nodeid in self.plans, record=record)

    def _append(self, record: dict[str, Any]) -> None:
        from pytest_agentlimit.runs.records import TrialRecord

        if self.folder is not None:
            self.folder.append(TrialRecord.model_validate(record))

    # end

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Summarise, apply the gate, write the reports."""
        if self.endpoints is None:
            return
        self.notes += self.endpoints.stop()
        if self.folder is None:
            self._gate_without_checks(session)
            return
        if session.exitstatus == pytest.ExitCode.INTERRUPTED:
            self.notes.append("interrupted: the trials below are those that had finished")
        if self.workers > 1:
            self.notes.append(
                f"{self.workers} workers shared the endpoints: a latency holds the time a call "
                "waited for another worker's; for service times run without -n"
            )
        self.folder.finish(time.perf_counter() - self.started, self.notes)
        self._conclude(session, self.folder.load())

    def _conclude(self, session: pytest.Session, data: RunData) -> None:
        from pytest_agentlimit.runs.summary import summarise

        from .reporting import FinishedRun, write_reports
        from .verdict import decide, judge

        judgement = judge(self.config.hook, data, summarise(data))
        decide(session, data.manifest.gate, judgement.results, self.failures)
        self.finished = FinishedRun(data, judgement.summary)
        try:
            self.written = write_reports(self.config, self.settings.reports, self.finished)
        except AgentLimitError as error:
            session.shouldfail = session.shouldfail or f"agentlimit: {error}"
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _gate_without_checks(self, session: pytest.Session) -> None:
        gate = self._gate_settings()
        if gate.asked and gate.mode != "off" and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            session.shouldfail = session.shouldfail or (
                "agentlimit: a gate was asked for and no check was collected, so nothing was judged"
            )

    def pytest_unconfigure(self) -> None:
        """Stop what a failed start left running."""
        if self.endpoints is not None:
            self.endpoints.stop()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, the score and the verdict."""
        if self.finished is not None and self.folder is not None:
            from .terminal import print_summary

            print_summary(terminalreporter, self.finished, self.folder, self.written)


def _only_lists(config: pytest.Config) -> bool:
    """Return whether nothing will run: no endpoint is started or asked for a list of names."""
    names = ("collectonly", "showfixtures", "show_fixtures_per_test")
    return any(config.getoption(name, False) for name in names)


def _crashed(plan: dict[str, Any], nodeid: str, message: str) -> dict[str, Any]:
    """Return the record of a trial whose worker died."""
    from pytest_agentlimit.runs.records import CheckPlan, TrialRecord
    from pytest_agentlimit.text import printable

    record = TrialRecord(
        plan=CheckPlan.model_validate(plan),
        nodeid=nodeid,
        outcome="crashed",
        blame="test",
        message=printable(f"the worker process died while this trial ran: {message}", 500),
    )
    return record.model_dump(mode="json")


def _host() -> str:
    """Return what matters for comparing runs, and nothing that names the machine."""
    system = f"{platform.system()} {platform.machine()}"
    return f"{system}, {os.cpu_count()} cores, Python {platform.python_version()}"

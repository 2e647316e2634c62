"""How far the run is, while it runs: one line that is redrawn on a terminal, or one line a round.

The redrawn line takes the place of pytest's dots. Where anything about the terminal is in doubt
the dots stay, with one line a round.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal

import pytest

from .board import NOT_NEEDED
from .context import RunContext
from .worker import PLAN_KEY, RECORD_KEY, STATE_KEY, trial_of

if TYPE_CHECKING:
    from pytest_agentlimit.reports.progress import Progress
    from pytest_agentlimit.runs.records import TrialRecord

Way = Literal["line", "rounds", "silent"]
PER_SECOND = 8.0
SHARE = 0.05
"""At most this share of the time goes into drawing."""
_BURST = 4.0
_LOG_WIDTH = 160
"""The longest line of a log: no terminal says how wide it may be."""
_CLIMB_S = 10.0
"""A log tells of climbs no more often."""
_ON_SCREEN = -3
"""As `currentfspath`, where pytest keeps -2 for the same: whoever prints starts a new line."""
_PHASES = ("setup", "call", "teardown")
_TALKATIVE = ("usepdb", "trace", "debug", "setupshow", "setuponly", "setupplan")
_NEEDED = ("write", "markup", "line", "fullwidth", "width_of_current_line")


class Throttle:
    """Says when to draw again: some at once, then `PER_SECOND`, fewer when drawing is slow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._credit = _BURST
        self._rate = PER_SECOND
        self._seen = clock()

    def ready(self) -> bool:
        """Return whether it is time, and take note that it is used."""
        now = self._clock()
        self._credit = min(_BURST, self._credit + (now - self._seen) * self._rate)
        self._seen = now
        if self._credit < 1:
            return False
        self._credit -= 1
        return True

    def took(self, seconds: float) -> None:
        """Learn how long drawing takes."""
        self._rate = min(PER_SECOND, SHARE / seconds) if seconds > 0 else PER_SECOND


class LiveLine:
    """Follows the reports of a run on the controller; `progress` is None until trials are known."""

    def __init__(
        self,
        config: pytest.Config,
        context: RunContext,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.config = config
        self.context = context
        self.progress: Progress | None = None
        self.way: Way = "silent"
        self._clock = clock
        self._throttle = Throttle(clock)
        self._earlier: tuple[TrialRecord, ...] = ()
        self._not_needed: set[str] = set()
        self._rerunning: set[str] = set()
        self._said = 0
        """The last round that has its line."""
        self._climb_said = clock()
        """When a log last told of a climb, or could have begun to."""

    def take_over(self, records: Iterable[TrialRecord]) -> None:
        """Count trials that an earlier part of a resumed run has finished; before collection."""
        self._earlier = tuple(records)

    # what is expected

    @pytest.hookimpl(trylast=True)  # pytest prints what it collected first
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take the trials to come (without xdist)."""
        self._expect([item.nodeid for item in session.items if trial_of(item) is not None])

    @pytest.hookimpl(optionalhook=True, tryfirst=True)  # xdist prints on the same line
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Take the trials to come (with xdist)."""
        self._erase()
        self._expect(ids)

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_xdist_newgateway(self) -> None:
        """Make room: xdist tells of a new worker."""
        self._erase()

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_testnodeready(self) -> None:
        """Make room: xdist tells of a worker that is ready."""
        self._erase()

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_testnodedown(self, error: object) -> None:
        """Make room: xdist tells of a worker that died."""
        if error:
            self._erase()

    def _expect(self, nodeids: list[str]) -> None:
        from pytest_agentlimit.reports.progress import Progress

        progress = self.progress or Progress([model.name for model in self.context.models])
        progress.expect(nodeids)
        if self.progress is not None or not progress.total:
            return
        self.progress = progress
        self._add_earlier(progress)
        # In an audit a failure is what is hoped for, and no score is wanted.
        self.way = "silent" if self.context.purpose == "audit" else way_of(self.config)
        if self.way == "line":
            self._reporter.showfspath = False

    def _add_earlier(self, progress: Progress) -> None:
        progress.expect(record.nodeid for record in self._earlier)
        for record in self._earlier:
            progress.finish(record.nodeid, record.model_dump(mode="json"))
        progress.workers.clear()  # those of this session tell how many work at a time
        self._said = progress.complete_rounds

    # what happens

    def pytest_runtest_logstart(self) -> None:
        """Draw the line where there is none."""
        if self.way == "line" and not self._on_screen:
            self._draw_now_and_then()

    @pytest.hookimpl(trylast=True)  # pytest prints its letter first
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a phase of a test, and say how far the run is."""
        if self.progress is None or self.way == "silent":
            return
        if STATE_KEY in report.__dict__:
            self._follow(self.progress, report)
            return
        self._count(self.progress, report)
        if self.way == "rounds":
            self._say_round(last=False)
        elif report.when == "teardown":  # xdist has more to say of a worker that died
            self._draw_now_and_then()

    def _follow(self, progress: Progress, report: pytest.TestReport) -> None:
        """Show how a climb stands: its test may be under way for minutes."""
        if progress.is_trial(report.nodeid):
            progress.climb(report.nodeid, report.__dict__[STATE_KEY])
        if self.way == "rounds":
            self._say_climb(progress)
        else:
            self._draw_now_and_then()

    def _count(self, progress: Progress, report: pytest.TestReport) -> None:
        nodeid, over = report.nodeid, report.when not in ("setup", "call")
        record = report.__dict__.get(RECORD_KEY)
        if not progress.is_trial(nodeid):
            if over or report.failed:
                progress.other(nodeid, failed=report.failed)
        elif report.outcome == "rerun":  # type: ignore[comparison-overlap]  # pytest-rerunfailures
            self._rerunning.add(nodeid)
        elif over and nodeid in self._rerunning:
            self._rerunning.discard(nodeid)  # another attempt decides
        elif record is not None:
            progress.finish(nodeid, record)
        elif report.when == "setup":
            if PLAN_KEY in report.__dict__:
                progress.plan(nodeid, report.__dict__[PLAN_KEY])
            if _is_left_out(report):
                self._not_needed.add(nodeid)
        elif report.when not in _PHASES:  # xdist reports a worker's death with one of its own
            progress.crash(nodeid)
        elif over and nodeid in self._not_needed:
            progress.leave_out(nodeid)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
        """Keep the category, which is counted; print neither letter nor word."""
        status = yield
        return (status[0], "", "") if self.way == "line" and status else status

    # the end

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self) -> None:
        """Leave the screen to the error."""
        self._end()

    @pytest.hookimpl(tryfirst=True)  # the summary of pytest comes behind
    def pytest_sessionfinish(self) -> None:
        """Leave the last state behind, and the screen to the summary."""
        self._end()

    def pytest_unconfigure(self) -> None:
        """End the line of a session that never finished."""
        self._end()

    def _end(self) -> None:
        if self.progress is not None and self.way == "line":
            if self._on_screen or self.progress.done:
                self._draw(self.progress, last=True)
            self._reporter.showfspath = None
        elif self.way == "rounds":
            self._say_round(last=True)
        self.way = "silent"

    # on the screen

    @property
    def _reporter(self) -> pytest.TerminalReporter:
        found: pytest.TerminalReporter | None = self.config.pluginmanager.get_plugin(
            "terminalreporter"
        )
        assert found is not None  # way_of() asked
        return found

    @property
    def _on_screen(self) -> bool:
        return self.way == "line" and self._reporter.currentfspath == _ON_SCREEN

    def _draw_now_and_then(self) -> None:
        if self.progress is not None and self._throttle.ready():
            started = self._clock()
            self._draw(self.progress, last=False)
            self._throttle.took(self._clock() - started)

    def _draw(self, progress: Progress, *, last: bool) -> None:
        """Write the line over what is there; the cursor waits at its start for whoever prints."""
        from pytest_agentlimit.reports.cells import cell_width
        from pytest_agentlimit.reports.progress import progress_line

        writer = self.config.get_terminal_writer()
        width = writer.fullwidth - 1  # in the last column the cursor would wrap
        text = _showable(progress_line(progress, width, time_left=not last), width, writer)
        fill = " " * (width - cell_width(text))
        _write(writer, f"\r{writer.markup(text, bold=True)}{fill}\r")
        self._reporter.currentfspath = None if last else _ON_SCREEN
        if last:
            writer.line()

    def _erase(self) -> None:
        if self._on_screen:
            writer = self.config.get_terminal_writer()
            _write(writer, f"\r{' ' * (writer.fullwidth - 1)}\r")
            self._reporter.currentfspath = None

    # in a log

    def _say_round(self, *, last: bool) -> None:
        """Print a line for a round that is over; the last one waits for the dots to end."""
        progress = self.progress
        if progress is None or progress.rounds < 2:
            return
        ended = progress.complete_rounds
        if ended <= self._said or (progress.done == progress.total and not last):
            return
        self._said = ended
        from pytest_agentlimit.reports.progress import progress_line

        self._log(lambda width: progress_line(progress, width, ended=ended, time_left=not last))

    def _say_climb(self, progress: Progress) -> None:
        """Print a line for the climb that moved last, unless there was one a moment ago."""
        now = self._clock()
        climb = progress.climbing
        if climb is None or now - self._climb_said < _CLIMB_S:
            return
        self._climb_said = now
        from pytest_agentlimit.reports.cells import cut
        from pytest_agentlimit.reports.progress import climb_words

        self._log(lambda width: cut(climb_words(climb), width))

    def _log(self, said: Callable[[int], str]) -> None:
        """Print a line of its own; `said` gives it in at most so many cells."""
        writer = self.config.get_terminal_writer()
        width = writer.fullwidth if self._reporter.isatty() else _LOG_WIDTH
        head = "agentlimit: "
        self._reporter.ensure_newline()
        if writer.width_of_current_line:  # xdist's dots are on no line that pytest knows of
            writer.line()
        writer.line(_showable(head + said(width - len(head)), width, writer))


def way_of(config: pytest.Config) -> Way:
    """Return how progress is shown: the redrawn line only where nothing else draws or asks."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    tests = config.get_verbosity(pytest.Config.VERBOSITY_TEST_CASES)
    if reporter is None or min(config.get_verbosity(), tests) < 0:
        return "silent"
    writer = getattr(reporter, "_tw", None)
    if not all(hasattr(writer, name) for name in _NEEDED):
        return "silent"
    fits = (
        type(reporter) is pytest.TerminalReporter  # others draw in a way of their own
        and hasattr(reporter, "currentfspath")
        and reporter.isatty()
        and os.environ.get("TERM") != "dumb"
        and max(config.get_verbosity(), tests) == 0
        and config.getoption("capture", "no") in ("fd", "sys")
        and not any(config.getoption(name, False) for name in _TALKATIVE)
        and not _logs_live(config)
    )
    return "line" if fits else "rounds"


def _logs_live(config: pytest.Config) -> bool:
    if config.getoption("log_cli_level", None) is not None:
        return True
    return config.pluginmanager.has_plugin("logging") and bool(config.getini("log_cli"))


def _is_left_out(report: pytest.TestReport) -> bool:
    """Return whether a trial was skipped because the run was decided without it."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    return report.skipped and reason.removeprefix("Skipped: ").startswith(NOT_NEEDED)


def _write(writer: Any, text: str) -> None:
    """Write `text` as it is; `write_raw`, from pytest 9 on, does not keep a line without end."""
    getattr(writer, "write_raw", writer.write)(text, flush=True)


def _showable(line: str, width: int, writer: object) -> str:
    """Return `line` in what the terminal's encoding holds; pytest would escape all of it."""
    encoding = getattr(getattr(writer, "_file", None), "encoding", None) or "utf-8"
    try:
        line.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        from pytest_agentlimit.reports.cells import ascii_only, cut

        return ascii_only(cut(ascii_only(line), width))
    return line

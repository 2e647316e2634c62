from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import Literal, NamedTuple

import pytest
from agent_run import AgentRun

from pytest_agentlimit.plugin.context import ModelUnderTest, RunContext
from pytest_agentlimit.plugin.live import LiveLine, Throttle
from pytest_agentlimit.runs.records import CheckPlan, TrialRecord

CHECKS = """
    def test_good(agent):
        agent.ask("hi")

    def test_bad(agent):
        agent.ask("hi")
        assert False, "as always"

    def test_plain():
        pass
"""
PLAIN = {"PYTHONIOENCODING": "utf-8", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


class Seen(NamedTuple):
    """What a person sees in the end, and all that was written."""

    rows: list[str]
    written: str
    status: int

    def after(self, start: str) -> list[str]:
        """The rows behind the first that starts like this."""
        found = next(i for i, row in enumerate(self.rows) if row.startswith(start))
        return self.rows[found + 1 :]


def screen(written: str, width: int) -> list[str]:
    """Rows of a terminal that knows carriage return, newline, wrapping, colours and titles."""
    rows, column = [""], 0
    for token in re.findall(r"\x1b\[[\d;]*m|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|.", written, re.S):
        if token[0] == "\x1b":
            assert len(token) > 1, "a sequence that this terminal does not know"
        elif token == "\r":
            column = 0
        elif token == "\n":
            rows.append("")
        else:
            assert token.isprintable()
            if column == width:
                rows.append("")
                column = 0
            rows[-1] = rows[-1].ljust(column)[:column] + token + rows[-1][column + 1 :]
            column += 1
    return [row.rstrip() for row in rows]


class Terminal:
    """Runs pytest at a terminal of its own."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        pytester.makepyfile(test_checks=CHECKS)

    def __call__(
        self, *args: str, width: int = 120, model: str = "null:parrot", **environment: str
    ) -> Seen:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        unwanted = ("COLUMNS", "NO_COLOR", "PY_COLORS", "FORCE_COLOR", "CI")
        inherited = {key: value for key, value in os.environ.items() if key not in unwanted}
        plugins = ("-p", "xdist.plugin", "-p", "pytest_agentlimit.plugin")
        command = [sys.executable, "-m", "pytest", *plugins, f"--agent-model={model}", "--tb=no"]
        running = subprocess.Popen(
            [*command, *args],
            cwd=self.pytester.path,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=inherited | {"TERM": "xterm", **PLAIN} | environment,
        )
        os.close(theirs)
        written = b""
        try:
            while chunk := _read(ours):
                written += chunk
        finally:
            os.close(ours)
            running.kill()
            status = running.wait()
        text = written.decode()
        return Seen(screen(text, width), text, status)


def plain(written: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", written)


def _read(file: int) -> bytes:
    try:
        return os.read(file, 65536)
    except OSError:  # how Linux says that the other end was closed
        return b""


@pytest.fixture
def terminal(pytester: pytest.Pytester) -> Terminal:
    return Terminal(pytester)


DONE = "3 of 3 rounds · 6 of 6 trials · score so far 50.0 % (9–91) · 3 failed · 1 other test"
IS_LINE = re.compile(r"(round \d of 3|\d of 3 rounds) · \d of 6 trials( · .+)?")
DOTS = re.compile(r"test_checks\.py ([.F]+)( +\[100%\])?$")


@pytest.mark.parametrize(("workers", "last"), [("-n0", "collected 7"), ("-n2", "2 workers [7")])
def test_one_line_takes_the_place_of_the_dots(terminal: Terminal, workers: str, last: str) -> None:
    seen = terminal(workers, "--agent-trials=3")
    line, empty, summary = seen.after(last)[:3]
    assert line == DONE
    assert empty == ""
    assert re.fullmatch(r"=+ agentlimit =+", summary)
    assert "\rround 1 of 3 · 0 of 6 trials" in plain(seen.written)
    assert "%]" not in seen.written
    assert "test_checks.py ." not in seen.written
    assert len([row for row in seen.rows if "trials ·" in row]) == 1
    assert re.fullmatch(r"=+ 3 failed, 4 passed in .+", seen.rows[-2])


def test_the_summary_has_its_words_back(terminal: Terminal) -> None:
    seen = terminal("-rA", "--agent-trials=1")
    assert any(
        row.startswith("FAILED test_checks.py::test_bad[null-parrot-t1]") for row in seen.rows
    )
    assert any(
        row.startswith("PASSED test_checks.py::test_good[null-parrot-t1]") for row in seen.rows
    )


def test_nothing_is_wider_than_a_narrow_terminal(terminal: Terminal) -> None:
    seen = terminal("--agent-trials=3", width=48)
    line, empty = seen.after("collected 7")[:2]
    assert line == "3/3 rounds · 6/6 trials · score 50.0 % (9–91)"
    assert empty == ""


def test_a_terminal_without_unicode_gets_plain_characters(terminal: Terminal) -> None:
    seen = terminal("--agent-trials=3", PYTHONIOENCODING="ascii")
    line = seen.after("collected 7")[0]
    assert line == DONE.replace(" · ", ", ").replace("–", "-")


def test_a_dead_worker_is_told_on_lines_of_their_own(terminal: Terminal) -> None:
    terminal.pytester.makepyfile(
        test_checks="""
        import os

        def test_good(agent):
            agent.ask("hi")

        def test_deadly(agent, agentlimit_trial):
            if agentlimit_trial.number == 1:
                os._exit(1)
        """
    )
    seen = terminal("-n2", "--agent-trials=3", "--max-worker-restart=2")
    rows = seen.after("2 workers [6 items]")
    down = next(row for row in rows if "node down" in row)
    replaced = next(row for row in rows if "replacing" in row)
    assert re.fullmatch(r"\[gw\d\] node down: Not properly terminated", down)
    assert re.fullmatch(r"replacing crashed worker gw\d", replaced)
    end = next(i for i, row in enumerate(rows) if re.fullmatch(r"=+ agentlimit =+", row))
    (line,) = (row for row in rows[:end] if "trials" in row)
    assert line == rows[end - 2]
    assert IS_LINE.fullmatch(line)
    assert "6 of 6 trials" in line
    assert "1 crashed" in line


def test_an_interrupt_leaves_the_last_state_behind(terminal: Terminal) -> None:
    terminal.pytester.makeconftest(
        """
    def pytest_runtest_setup(item):
        if "test_bad[null-parrot-t2]" in item.nodeid:
            raise KeyboardInterrupt
    """
    )
    seen = terminal("--agent-trials=3")
    line, empty, summary = seen.after("collected 7")[:3]
    assert line == ("round 2 of 3 · 3 of 6 trials · score so far 50.0 % (9–91) · 1 failed")
    assert empty == ""
    assert re.fullmatch(r"=+ agentlimit =+", summary)
    assert any(re.fullmatch(r"!+ KeyboardInterrupt !+", row) for row in seen.rows)
    assert seen.status == 2


def test_an_internal_error_starts_on_a_line_of_its_own(terminal: Terminal) -> None:
    terminal.pytester.makeconftest(
        """
    def pytest_runtest_logfinish(nodeid):
        if "test_bad[null-parrot-t1]" in nodeid:
            raise RuntimeError("broken plugin")
    """
    )
    seen = terminal("--agent-trials=3")
    line, error = seen.after("collected 7")[:2]
    assert line == "round 2 of 3 · 2 of 6 trials · score so far 50.0 % (9–91) · 1 failed"
    assert error.startswith("INTERNALERROR> ")
    assert seen.status == 3


def test_what_others_print_has_lines_of_its_own(terminal: Terminal) -> None:
    terminal.pytester.makeconftest(
        """
    def pytest_runtest_logfinish(nodeid):
        if "test_bad" in nodeid:
            reporter.write_line("a notice")

    def pytest_sessionstart(session):
        global reporter
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    """
    )
    rows = terminal("--agent-trials=3").after("collected 7")
    rows = rows[: rows.index("")]
    assert rows.count("a notice") == 3
    assert all(IS_LINE.fullmatch(row) for row in rows if row != "a notice")
    assert rows[-1] == DONE


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("-s",), {}),
        (("-v",), {}),
        (("--capture=tee-sys",), {}),
        (("-o", "log_cli=true"), {}),
        (("--setup-show",), {}),
        ((), {"TERM": "dumb"}),
    ],
    ids=lambda value: " ".join(value),
)
def test_in_doubt_the_dots_stay_with_one_line_a_round(
    terminal: Terminal, arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    seen = terminal(*arguments, "--agent-trials=2", **environment)
    assert "\rround" not in plain(seen.written)
    assert "test_checks.py" in "".join(seen.after("collected 5")[:3])
    rounds = [row for row in seen.rows if row.startswith("agentlimit: round ")]
    assert [row[:40] for row in rounds] == [
        "agentlimit: round 1 of 2 · 2 of 4 trials",
        "agentlimit: round 2 of 2 · 4 of 4 trials",
    ]


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_climb_under_way_is_on_the_line(terminal: Terminal, workers: str) -> None:
    terminal.pytester.makepyfile(
        test_checks="""
        def repeat(agent, level, rng):
            agent.ask("hi")
            return level <= 4

        def test_chain(climb):
            climb(repeat)
        """
    )
    seen = terminal(workers)
    shown = r"\r0 of 1 trial · repeat: level \d+, trial \d+, ceiling \d+–\d+ +\r"
    assert re.search(shown, plain(seen.written))
    line = seen.after("collected 1" if workers == "-n0" else "2 workers [1")[0]
    assert line.startswith("1 of 1 trial")
    assert "repeat" not in line
    assert not [row for row in seen.rows if row.startswith("agentlimit: repeat")]


def test_a_quiet_terminal_shows_neither(terminal: Terminal) -> None:
    seen = terminal("-q", "--agent-trials=2")
    assert not [row for row in seen.rows if IS_LINE.search(row)]
    assert "[100%]" in seen.written


def test_a_run_without_a_check_keeps_its_dots(terminal: Terminal) -> None:
    terminal.pytester.makepyfile(test_checks="def test_plain(): pass")
    seen = terminal()
    assert "test_checks.py ." in plain(seen.written)
    assert "trials" not in seen.written


# In a log


def rounds_in(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if "agentlimit: round" in line]


@pytest.fixture
def log(agent_run: AgentRun) -> AgentRun:
    agent_run.checks(CHECKS)
    return agent_run


@pytest.mark.parametrize("options", [("-n0",), ("-n2",), ("-n0", "-v"), ("-n2", "-v")])
def test_a_log_has_one_line_a_round(log: AgentRun, options: tuple[str, ...]) -> None:
    result = log(*options, "--agent-model=null:parrot", "--agent-trials=3")
    said = rounds_in(result)
    assert all(line.startswith("agentlimit: round ") for line in said)
    assert said[-1] == (
        "agentlimit: round 3 of 3 · 6 of 6 trials · score so far 50.0 % (9–91) · 3 failed"
        " · 1 other test"
    )
    if "-n0" in options:
        assert [line.split(" · ")[:2] for line in said[:-1]] == [
            ["agentlimit: round 1 of 3", "2 of 6 trials"],
            ["agentlimit: round 2 of 3", "4 of 6 trials"],
        ]
    assert "\r" not in result.stdout.str()


def test_a_log_keeps_the_dots(log: AgentRun) -> None:
    result = log("--agent-model=null:parrot", "--agent-trials=2")
    dots = [found[1] for line in result.outlines if (found := DOTS.match(line))]
    assert dots == [".F", ".F."]
    percent = next(i for i, line in enumerate(result.outlines) if line.endswith("[100%]"))
    assert result.outlines[percent + 1].startswith("agentlimit: round 2 of 2 · ")


def test_one_round_needs_no_line(log: AgentRun) -> None:
    assert rounds_in(log("--agent-model=null:parrot")) == []


def test_a_quiet_log_has_no_line(log: AgentRun) -> None:
    assert rounds_in(log("-q", "--agent-model=null:parrot", "--agent-trials=2")) == []


def test_rounds_that_were_not_needed_have_no_line(log: AgentRun) -> None:
    log.pytester.makeconftest(
        """
    import pytest

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(item):
        if item.nodeid.endswith(("t2]", "t3]")):
            pytest.skip("not needed: it is decided")
        return (yield)
    """
    )
    result = log("--agent-model=null:parrot", "--agent-trials=3")
    assert [line.split(" · ")[0] for line in rounds_in(result)] == ["agentlimit: round 1 of 3"]


def test_a_trial_that_is_run_again_is_counted_once_and_in_the_end(log: AgentRun) -> None:
    log.pytester.makepyfile(
        test_checks="""
        import pytest

        def test_good(agent):
            agent.ask("hi")

        @pytest.mark.flaky(reruns=2)
        def test_wavering(agent, request):
            agent.ask("hi")
            assert request.node.execution_count == 3
        """
    )
    result = log("--agent-model=null:parrot", "--agent-trials=2")
    said = [line.split(" · about")[0] for line in rounds_in(result)]
    assert said == [
        "agentlimit: round 1 of 2 · 2 of 4 trials · score so far 100.0 % (34–100)",
        "agentlimit: round 2 of 2 · 4 of 4 trials · score so far 100.0 % (34–100)",
    ]


# Its parts


def live_line(pytester: pytest.Pytester, purpose: Literal["score", "audit"]) -> LiveLine:
    context = RunContext(0, 2, "bare", models=(ModelUnderTest("m", {}),), purpose=purpose)
    return LiveLine(pytester.parseconfigure(), context)


def test_an_audit_needs_no_line(pytester: pytest.Pytester) -> None:
    audit, score = live_line(pytester, "audit"), live_line(pytester, "score")
    for live in (audit, score):
        live.pytest_xdist_node_collection_finished(["a.py::a[m-t1]", "a.py::a[m-t2]"])
    assert (audit.way, score.way) == ("silent", "rounds")


def test_a_resumed_run_counts_what_an_earlier_part_finished(pytester: pytest.Pytester) -> None:
    live = live_line(pytester, "score")
    plan = CheckPlan(check="a.py::a", model="m", trial=1, seed=1)
    live.take_over([TrialRecord(plan=plan, nodeid="a.py::a[m-t1]", outcome="passed", worker="gw7")])
    live.pytest_xdist_node_collection_finished(["a.py::a[m-t2]"])
    assert live.progress is not None
    assert (live.progress.done, live.progress.total) == (1, 2)
    assert live.progress.complete_rounds == 1
    assert live.progress.workers == set()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def drawn(throttle: Throttle, clock: Clock, seconds: float, step: float) -> int:
    number = 0
    for _ in range(round(seconds / step)):
        clock.now += step
        number += throttle.ready()
    return number


def test_drawing_is_throttled_after_a_few_at_once() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    assert [throttle.ready() for _ in range(6)] == [True] * 4 + [False] * 2
    assert 78 <= drawn(throttle, clock, seconds=10, step=0.001) <= 80


def test_slow_drawing_takes_a_twentieth_of_the_time() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    drawn(throttle, clock, seconds=1, step=0.001)
    throttle.took(0.1)
    assert 4 <= drawn(throttle, clock, seconds=10, step=0.01) <= 6
    throttle.took(0.0)
    assert 78 <= drawn(throttle, clock, seconds=10, step=0.001) <= 81

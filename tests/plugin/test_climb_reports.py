from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest
from agent_run import AgentRun

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.cli import main
from pytest_agentlimit.plugin.context import ModelUnderTest, RunContext
from pytest_agentlimit.plugin.live import LiveLine
from pytest_agentlimit.plugin.worker import RUNG_KEY, STATE_KEY
from pytest_agentlimit.runs.journal import RunFolder
from pytest_agentlimit.runs.merge import write_run
from pytest_agentlimit.runs.records import CheckPlan, RungRecord, TrialRecord
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, say

Scripts = Callable[..., ScriptedEndpoint]
EVIL = "\x1b[2J<img src=x> [a](http://evil.example) ``` | @octocat\n# head\n::error::x"
CHECKS = f"""
    from pytest_agentlimit.ladders.base import Attempt

    EVIL = {EVIL!r}

    def repeat(agent, level, rng):
        number = rng.randrange(10**6)
        said = agent.ask(f"level {{level}}: repeat the number {{number}}").text
        if str(number) in said:
            return True
        return Attempt(passed=False, mode="refusal", detail=said + EVIL, transcript=said + EVIL)

    def test_chain(climb):
        climb(repeat, levels=(1, 2, 4, 8))

    def test_asked(climb):
        climb(repeat, levels=(1, 2, 4, 8), at_least=2)

    def test_plain(agent):
        agent.ask("hi")
    """


def collapsing(step: int) -> Callable[[ChatRequest], Scripted]:
    """Repeat the number up to a level, and refuse beyond it."""

    def reply(request: ChatRequest) -> Scripted:
        text = request.messages[-1].text
        level, number, *_ = *map(int, re.findall(r"\d+", text)), 0, 0
        return say(f"It is {number}." if level <= step else "I will not.", thinking=text)

    return reply


@pytest.fixture
def climbed(agent_run: AgentRun, scripted: Scripts) -> AgentRun:
    """A run of one model with two ladders and a plain check, all reports written."""
    agent_run.checks(CHECKS)
    return agent_run


def options(server: ScriptedEndpoint) -> list[str]:
    kinds = [f"--agent-report={kind}:out.{kind}" for kind in ("markdown", "junit")]
    return [f"--agent-model={server.spec}", "--agent-seed=5", *kinds]


def test_every_report_has_the_ceilings(climbed: AgentRun, scripted: Scripts) -> None:
    result = climbed("-v", *options(scripted(collapsing(4))))
    result.assert_outcomes(passed=3)
    chain, asked = climbed.report["models"][0]["ladders"]
    assert (chain["id"], chain["ceiling"], chain["ended"]) == (
        "test_checks.py::test_chain",
        4,
        "certain",
    )
    assert (asked["at_least"], asked["verdict"]) == (2, "pass")
    assert chain["first_failure_mode"] == "refusal"
    rows = [line.split() for line in result.outlines]
    assert ["ladder", "ceiling", "90", "%", "shape", "trials", "steps", "fails", "by"] in rows
    assert ["asked", "≥", "2:", "yes"] in [row[:4] for row in rows]
    assert any(line.startswith("levels       chain: 1: ") for line in result.outlines)
    text = (climbed.folder / "out.markdown").read_text()
    assert "#### chain: ceiling 4 (90 %: " in text
    assert "#### asked: at least 2: yes (90 %: " in text
    cases = ET.parse(climbed.folder / "out.junit").getroot().iter("testcase")
    found = {case.attrib["name"]: case for case in cases}
    ceiling = found["test_chain"].find("properties/property[@name='ceiling']")
    assert ceiling is not None
    assert ceiling.attrib["value"] == "4"
    assert found["test_plain"].find("properties/property[@name='ceiling']") is None


def test_what_a_model_writes_reaches_no_report_as_markup(
    climbed: AgentRun, scripted: Scripts
) -> None:
    result = climbed("-v", *options(scripted(collapsing(4))))
    markdown = (climbed.folder / "out.markdown").read_text()
    texts = [markdown, (climbed.folder / "out.junit").read_text(), result.stdout.str()]
    example = climbed.report["models"][0]["ladders"][0]["example"]
    assert example.startswith("I will not.")
    for text in (*texts, example):
        assert "\x1b[2J" not in text
    assert not [line for line in markdown.splitlines() if line.startswith(("# head", "::error"))]
    assert "  - `# head`" in markdown.splitlines()


def test_a_report_is_rebuilt_from_the_folder(
    climbed: AgentRun,
    scripted: Scripts,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    climbed(*options(scripted(collapsing(4))))
    monkeypatch.chdir(climbed.folder)
    capsys.readouterr()
    assert agentlimit(monkeypatch, "report", "latest", "--as", "json") == 0
    assert json.loads(capsys.readouterr().out) == climbed.report
    assert agentlimit(monkeypatch, "regate", "latest", "--min-score", "50") == 0
    assert re.search(r"^ladder +ceiling +90 %", capsys.readouterr().out, re.MULTILINE)


def test_runs_and_their_reports_compare_by_the_chance_to_be_higher(
    climbed: AgentRun,
    scripted: Scripts,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for step in (4, 1):
        climbed(*options(scripted(collapsing(step))))
        (climbed.folder / "out.json").rename(climbed.folder / f"{step}.json")
    monkeypatch.chdir(climbed.folder)
    capsys.readouterr()
    assert agentlimit(monkeypatch, "compare", "4.json", "latest") == 0
    said = capsys.readouterr().out
    assert re.search(r"^ladder +chain: P\(A above B\) 9\d %, tied \d %", said, re.MULTILINE)
    assert agentlimit(monkeypatch, "compare", "4.json", "1.json", "--as", "json") == 0
    (part,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert part["ladders"][0]["p_higher"] > 0.9


def agentlimit(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["agentlimit", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_a_climb_without_an_end_is_a_note_in_the_report(
    climbed: AgentRun,
    scripted: Scripts,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    climbed(*options(scripted(collapsing(4))))
    (path,) = climbed.folder.glob(".agentlimit/runs/*")
    data = RunFolder.open(path).load()
    first = data.records[0]
    assert first.ladder is not None
    rungs = {first.nodeid: first.ladder.rungs[:5]}
    write_run(data.model_copy(update={"records": data.records[1:], "rungs": rungs}), climbed.folder)
    monkeypatch.chdir(climbed.folder)
    capsys.readouterr()
    assert agentlimit(monkeypatch, "report", "latest", "--as", "term") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{first.nodeid}: 5 trials of a climb that was not finished" in said


# the live line


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


CHAIN, DAG = "a.py::chain[m-t1]", "a.py::dag[m-t1]"


def watched(pytester: pytest.Pytester, clock: Clock, *options: str) -> LiveLine:
    """The follower of a run of two ladders; in a log, unless options say otherwise."""
    context = RunContext(0, 1, "bare", models=(ModelUnderTest("m", {}),))
    live = LiveLine(pytester.parseconfigure(*options), context, clock)
    live.pytest_xdist_node_collection_finished([CHAIN, DAG])
    return live


def rung_report(nodeid: str, name: str = "chain", **state: Any) -> pytest.TestReport:
    when: Any = "rung"
    report = pytest.TestReport(nodeid, ("a.py", 0, name), {}, "passed", None, when)
    rung = RungRecord(number=1, level=8, outcome="passed")
    report.__dict__[RUNG_KEY] = rung.model_dump(mode="json")
    plain = {"name": name, "unit": "", "level": 8, "trials": 14, "low": 4, "high": 12}
    report.__dict__[STATE_KEY] = plain | state
    return report


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if "agentlimit: " in line]


def test_a_log_tells_of_a_climb_every_ten_seconds(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    live = watched(pytester, clock)
    assert live.way == "rounds"
    for second in range(25):
        clock.now = float(second)
        live.pytest_runtest_logreport(rung_report(CHAIN, trials=second))
    assert said(capsys) == [
        "agentlimit: chain: level 8, trial 10, ceiling 4–12",
        "agentlimit: chain: level 8, trial 20, ceiling 4–12",
    ]


def test_of_several_climbs_a_log_tells_of_the_one_that_moved_last(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    live = watched(pytester, clock)
    live.pytest_runtest_logreport(rung_report(CHAIN))
    clock.now = 11.0
    live.pytest_runtest_logreport(rung_report(DAG, "dag", level=3))
    assert said(capsys) == ["agentlimit: dag: level 3, trial 14, ceiling 4–12"]


def test_a_climb_that_is_over_is_no_longer_shown(pytester: pytest.Pytester) -> None:
    live = watched(pytester, Clock())
    live.pytest_runtest_logreport(rung_report(CHAIN))
    assert live.progress is not None
    assert live.progress.climbing is not None
    plan = CheckPlan(check="a.py::chain", model="m", trial=1, seed=1)
    record = TrialRecord(plan=plan, nodeid=CHAIN, outcome="passed")
    report = pytest.TestReport(CHAIN, ("a.py", 0, "chain"), {}, "passed", None, "teardown")
    report.__dict__["_agentlimit"] = record.model_dump(mode="json")
    live.pytest_runtest_logreport(report)
    assert live.progress.climbing is None
    assert (live.progress.done, live.progress.total) == (1, 2)


def test_a_hostile_name_of_a_ladder_drives_no_terminal(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    live = watched(pytester, clock)
    clock.now = 11.0
    live.pytest_runtest_logreport(rung_report(CHAIN, EVIL))
    (line,) = said(capsys)
    assert line.isprintable()


def test_a_quiet_log_tells_of_no_climb(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    live = watched(pytester, clock, "-q")
    clock.now = 60.0
    live.pytest_runtest_logreport(rung_report(CHAIN))
    assert (live.way, said(capsys)) == ("silent", [])

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pytest_agentlimit.cli import main
from pytest_agentlimit.reports.json_report import to_json
from pytest_agentlimit.reports.markdown import to_markdown
from pytest_agentlimit.reports.render import FinishedRun
from pytest_agentlimit.reports.terminal import terminal_lines
from pytest_agentlimit.runs.journal import RunFolder
from pytest_agentlimit.runs.regate import regate

APRIL = Path(__file__).parents[1] / "example_suites" / "april_2026"


def april() -> FinishedRun:
    return FinishedRun(RunFolder.open(APRIL).load())


def markdown() -> str:
    return to_markdown(april().view)


def terminal() -> str:
    return "\n".join(text for text, _ in terminal_lines(april().view)) + "\n"


def test_the_whole_output(snapshot):
    assert terminal() == snapshot


@pytest.mark.parametrize("shown", [terminal, markdown])
@pytest.mark.parametrize(
    "said",
    [
        "89.5 % (56.7–98.2)",
        "84.2 % (51.2–96.7)",
        "median 6047 ms",
        "median 3938 ms",
        "P95 36203 ms (n = 10: the maximum)",
        "P95 7906 ms (n = 10: the maximum)",
        "(−29.8 … +39.4), 95 % interval · p = 1.0",
        "open-claw is faster in 9 of 10 checks: 1.69 times (1.08–2.65)",
        "p = .021 (sign), .0039 (sign flip)",
        "2 of 10 over budget: inconclusive",
        "0 of 10 over budget: inconclusive",
        "one trial cannot tell stable from flaky",
        "cannot tell: gemma4 against open-claw",
    ],
)
def test_what_it_says(shown, said):
    assert said in shown()


def test_what_it_refuses_to_say():
    for text in (terminal(), markdown(), to_json(april().summary)):
        assert not re.search(r"determinis|consisten|reliab|winner|proven better", text)
        assert not re.search(r"\bbetter: |\bworse: |\d+ flaky|\d+ stable", text)


def test_the_p95_rule_is_open_for_both_models():
    data = regate(RunFolder.open(APRIL).load(), p95="within-budget")
    rules = [r for r in FinishedRun(data).summary.gate.rules if r.rule == "p95"]
    assert [(r.verdict, r.message.split(":")[0]) for r in rules] == [
        ("inconclusive", "gemma4"),
        ("inconclusive", "open-claw"),
    ]


def test_the_command_line_replays_it(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.argv", ["agentlimit", "report", str(APRIL)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    assert capsys.readouterr().out.startswith(terminal())


def test_the_comparison_is_in_the_json_report():
    (part,) = json.loads(to_json(april().summary))["comparisons"]
    assert (part["a"], part["b"]) == ("gemma4", "open-claw")
    assert (part["low"], part["high"]) == pytest.approx((-0.2978, 0.3942), abs=1e-4)
    assert (part["p_value"], part["speed_p"]) == (1.0, 1 / 256)


def test_the_table_is_that_of_the_study():
    data = RunFolder.open(APRIL).load()
    failed = [(r.plan.model, r.plan.check) for r in data.records if r.outcome == "failed"]
    assert failed == [
        ("open-claw", "april_2026::test_tool_call_emission"),
        ("gemma4", "april_2026::test_multi_step_planning"),
    ]
    assert sum(r.latency_ms or 0 for r in data.records) == 149_880
    assert sum(r.plan.weight for r in data.records) == 2 * 19


def test_the_budgets_are_those_of_the_edge_study():
    source = (APRIL.parent / "edge_study" / "test_edge_study.py").read_text()
    marked = re.findall(r'latency_budget\("(\d+)s"\)\ndef (test_\w+)', source)
    data = RunFolder.open(APRIL).load()
    found = {
        (f"{(r.plan.budget_ms or 0) / 1000:g}", r.plan.check.split("::")[1]) for r in data.records
    }
    assert found == set(marked)

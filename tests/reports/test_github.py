from __future__ import annotations

import pytest
from github_runner import commands
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_samples import FILE, HOSTILE, SAMPLES, april, hostile, run, six_rounds, trial

from pytest_agentlimit.reports.github import MOST, STEP_BYTES, step_summary, workflow_commands
from pytest_agentlimit.reports.markdown import to_markdown
from pytest_agentlimit.reports.view import build_view
from pytest_agentlimit.runs.records import GateSettings
from pytest_agentlimit.runs.schema import RulePart
from pytest_agentlimit.runs.summary import summarise


def view(data):
    return build_view(summarise(data), data)


def annotations(data, folder="", summary=None):
    lines = workflow_commands(view(data), summary or summarise(data), data, folder)
    found = commands("\n".join(lines))
    assert len(found) == len(lines)
    return found


def of_kind(data, kind, **rest):
    return [found for found in annotations(data, **rest) if found.name == kind]


def at_line(record, line):
    return record.model_copy(update={"plan": record.plan.model_copy(update={"line": line})})


def test_the_verdict_is_one_notice_with_score_interval_and_n():
    (notice,) = of_kind(april(), "notice")
    assert notice.properties == {"title": "agentlimit: gate INCONCLUSIVE"}
    assert "gemma4: score 89.5 % (56.7–98.2), 95 % interval, n = 10 checks × 1 trial" in notice.data
    assert "open-claw: score 84.2 % (51.2–96.7)" in notice.data


def test_a_failed_check_is_a_warning_at_its_place():
    data = run(at_line(trial("tool_call", outcome="failed", message="no call"), 42), trial("b"))
    (warning,) = of_kind(data, "warning")
    assert warning.properties == {"file": FILE, "line": "42", "title": "tool call on open-claw"}
    assert warning.data == "1 of 1 trial failed; trial 1, blame model: no call"


def test_a_check_whose_line_is_not_known_has_its_file():
    (warning,) = of_kind(run(trial("a", outcome="failed")), "warning")
    assert warning.properties == {"file": FILE, "title": "a on open-claw"}


@pytest.mark.parametrize(
    ("folder", "check", "file"),
    [
        ("", "tests/test_a.py::test_a", "tests/test_a.py"),
        (".", "tests/test_a.py::test_a", "tests/test_a.py"),
        ("backend", "tests/test_a.py::test_a", "backend/tests/test_a.py"),
        ("backend", "../shared/test_a.py::test_a", "shared/test_a.py"),
        ("", "../venv/test_a.py::test_a", None),
        ("", "/venv/test_a.py::test_a", None),
        ("", "a,b:c%.py::test_a", "a,b:c%.py"),
    ],
)
def test_a_file_is_named_as_the_repository_knows_it(folder, check, file):
    data = run(at_line(trial(check, outcome="failed"), 7))
    (warning,) = of_kind(data, "warning", folder=folder)
    assert warning.properties.get("file") == file
    assert warning.properties.get("line") == (None if file is None else "7")


def test_trials_that_are_no_evidence_are_no_annotation():
    down = trial("a", outcome="infra", latency_ms=None)
    warnings = of_kind(run(down, trial("b")), "warning")
    assert [w.properties["title"] for w in warnings] == ["agentlimit: completion fail"]


@pytest.mark.parametrize(
    ("gate", "kinds"),
    [
        (GateSettings(min_score=0.8), ["error"]),
        (GateSettings(min_score=0.8, mode="strict"), ["error"]),
        (GateSettings(min_score=0.8, mode="off"), ["warning"]),
        (GateSettings(), []),
    ],
)
def test_a_failed_rule_is_an_error_when_it_reddens_the_run(gate, kinds):
    failed = [trial("a", number=n, outcome="failed") for n in range(1, 31)]
    rules = [a for a in annotations(run(*failed, gate=gate)) if "score" in a.properties["title"]]
    assert [rule.name for rule in rules] == kinds
    for rule in rules:
        assert rule.properties["title"] == "agentlimit: score fail"
        assert "bar of 80.0 %" in rule.data


@pytest.mark.parametrize(("mode", "errors"), [("point", 0), ("strict", 1), ("proven", 0)])
def test_an_inconclusive_rule_is_an_error_only_when_it_reddens_the_run(mode, errors):
    data = run(trial("a"), gate=GateSettings(min_score=0.8, mode=mode))
    assert len(of_kind(data, "error")) == errors


def test_a_lost_report_is_an_error_without_a_gate():
    (error,) = of_kind(run(trial("a"), lost=(f"{FILE}::test_b[open-claw-t1]",)), "error")
    assert error.properties["title"] == "agentlimit: reported fail"


def test_a_rule_of_a_conftest_is_annotated_too():
    data = run(trial("a"), gate=GateSettings(min_score=0.1))
    rule = RulePart(rule="tokens", verdict="fail", observed=9, limit=1, message="9 of 1: too many")
    summary = summarise(data)
    gate = summary.gate.model_copy(update={"rules": (*summary.gate.rules, rule)})
    (error,) = of_kind(data, "error", summary=summary.model_copy(update={"gate": gate}))
    assert error.data == "9 of 1: too many"


def test_a_good_run_has_only_its_verdict():
    found = annotations(run(*[trial("a", number=n) for n in range(1, 31)]))
    assert [one.name for one in found] == ["notice"]


def test_there_are_no_more_than_are_shown_and_blockers_come_first():
    records = [trial(f"t.py::test_{n}", outcome="failed", blocker=n > 22) for n in range(25)]
    warnings = of_kind(run(*records), "warning")
    assert len(warnings) == MOST
    rules = ["agentlimit: blockers fail"]
    names = [w.properties["title"] for w in warnings]
    assert names[:4] == [
        *rules, "23 (blocker) on open-claw", "24 (blocker) on open-claw", "0 on open-claw"
    ]  # fmt: skip
    assert names[-1] == "agentlimit: 17 more"


def test_exactly_as_many_as_are_shown_are_all_there():
    records = [trial(f"t.py::test_{n}", outcome="failed") for n in range(MOST)]
    titles = [w.properties["title"] for w in of_kind(run(*records), "warning")]
    assert titles == [f"{n} on open-claw" for n in range(MOST)]


def test_in_an_audit_a_vacuous_check_is_the_error():
    data = run(at_line(trial("a", "parrot"), 3), trial("b", "parrot", outcome="failed"))
    manifest = data.manifest.model_copy(update={"purpose": "audit"})
    notice, error = annotations(data.model_copy(update={"manifest": manifest}))
    assert (notice.name, error.name) == ("notice", "error")
    assert error.properties == {"file": FILE, "line": "3", "title": "a is vacuous"}
    assert error.data.endswith("parrot")


ATTACKS = [
    "\n::set-output name=x::y", "\r::error::forged", "%0A::stop-commands::t", "\x1b[2J", "::", ",",
    "title=x", "##[add-mask]a", "%0D%0A", "\u2028::debug::", "\ud800", "%25", HOSTILE, "\x85",
]  # fmt: skip
pieces = st.one_of(st.text(max_size=20), st.sampled_from(ATTACKS))
texts = st.lists(pieces, max_size=4).map("".join)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(message=texts, check=texts, model=texts, file=texts)
def test_nothing_a_model_wrote_starts_or_forges_a_command(message, check, model, file):
    failed = trial(f"{file}.py::test_{check}", model, outcome="failed", message=message)
    data = run(at_line(failed, 5), gate=GateSettings(min_score=0.5))
    plain = run(at_line(trial("t.py::test_a", "m", outcome="failed"), 5), gate=data.manifest.gate)
    lines = workflow_commands(view(data), summarise(data), data)
    assert all(len(line.splitlines()) == 1 for line in lines)
    found, expected = commands("\n".join(lines)), annotations(plain)
    assert [one.name for one in found] == [one.name for one in expected]
    for one, like in zip(found, expected, strict=True):
        assert set(one.properties) - {"file", "line"} == set(like.properties) - {"file", "line"}
        assert "\n" not in one.data
        assert "\x1b" not in one.data
    "\n".join(lines).encode()


def test_a_text_is_shown_as_it_was():
    message = "100 % of a:b, c; %0A is no line end"
    (warning,) = of_kind(run(trial("a", outcome="failed", message=message)), "warning")
    assert warning.data.endswith(message)


@pytest.mark.parametrize("model", ["a::b", "a:b,c=d", "a,file=x.py", "100%3A%25"])
def test_a_title_ends_where_it_should(model):
    (warning,) = of_kind(run(trial("a", model, outcome="failed", message="no")), "warning")
    assert warning.properties == {"file": FILE, "title": f"a on {model}"}
    assert warning.data == "1 of 1 trial failed; trial 1, blame model: no"


@pytest.mark.parametrize("maker", SAMPLES.values(), ids=SAMPLES)
def test_the_job_summary_is_the_markdown_report(maker):
    assert step_summary(view(maker())) == to_markdown(view(maker()))


def test_a_summary_below_another_starts_on_a_line_of_its_own():
    assert step_summary(view(six_rounds()), used=10) == "\n" + to_markdown(view(six_rounds()))


def test_a_summary_that_is_too_long_is_cut_at_a_line_and_says_so():
    shown = view(hostile())
    whole = to_markdown(shown)
    used = STEP_BYTES - len(whole.encode()) + 500
    text = step_summary(shown, used)
    assert used + len(text.encode()) <= STEP_BYTES
    kept, _, said = text.partition("\n**Cut here**")
    assert ("\n" + whole).startswith(kept)
    assert kept.endswith("\n")
    assert "--agent-report=markdown" in said


@pytest.mark.parametrize("left", [-1, 0, 1, 50, 100])
def test_a_summary_without_room_stays_as_it_is(left):
    assert step_summary(view(hostile()), used=STEP_BYTES - left) == ""


def test_exactly_enough_room_is_enough():
    shown = view(six_rounds())
    whole = "\n" + to_markdown(shown)
    used = STEP_BYTES - len(whole.encode())
    assert step_summary(shown, used) == whole
    assert step_summary(shown, used + 1) != whole

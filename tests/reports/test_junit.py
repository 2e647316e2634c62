from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_samples import (
    SAMPLES,
    april,
    hostile,
    long_run,
    nothing,
    one_round,
    run,
    six_rounds,
    trial,
)

from pytest_agentlimit.reports.junit import GATE_SUITE, to_junit
from pytest_agentlimit.runs.records import CallRecord, GateSettings
from pytest_agentlimit.runs.summary import summarise

NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
WORDS = {
    "latency_verdict", "verdict", "gate_verdict", "gate_mode", "run", "plugin_version",
    "stability", "capability", "blame",
}  # fmt: skip


def parsed(data):
    return ET.fromstring(to_junit(summarise(data), data))


def suite(root, name):
    (found,) = [one for one in root if one.get("name") == name]
    return found


def properties(element):
    pairs = [(p.get("name"), p.get("value")) for p in element.findall("properties/property")]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def case(data, name, model="open-claw"):
    (found,) = [c for c in suite(parsed(data), model) if c.get("name") == name]
    return found


def result(data, name="test_a"):
    found = [child for child in case(data, name) if child.tag != "properties"]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("maker", SAMPLES.values(), ids=SAMPLES)
def test_the_shape_is_that_of_junit(maker):
    root = parsed(maker())
    assert root.tag == "testsuites"
    for one in root:
        cases = one.findall("testcase")
        tags = Counter(child.tag for found in cases for child in found)
        assert set(tags) <= {"properties", "failure", "error", "skipped"}
        assert int(one.get("tests")) == len(cases)
        assert int(one.get("failures")) == tags["failure"]
        assert int(one.get("errors")) == tags["error"]
        assert int(one.get("skipped")) == tags["skipped"]
        total = sum(float(found.get("time")) for found in cases)
        assert float(one.get("time")) == pytest.approx(total, abs=1e-6)
        assert [child.tag for child in one].index("properties") == 0


@pytest.mark.parametrize("maker", SAMPLES.values(), ids=SAMPLES)
def test_every_property_is_a_scalar_and_there_once(maker):
    for element in parsed(maker()).iter():
        if element.find("properties") is not None:
            for name, value in properties(element).items():
                assert name in WORDS or name in ("observed", "limit") or NUMBER.fullmatch(value)
                assert value not in ("", "None", "inf", "nan", "Infinity")


def test_a_suite_is_a_model_and_a_case_is_a_check():
    root = parsed(six_rounds())
    assert [one.get("name") for one in root] == ["open-claw", GATE_SUITE]
    found = suite(root, "open-claw")
    assert len(found.findall("testcase")) == 11
    first = found.find("testcase")
    assert first.get("classname") == "example_suites.edge_study.test_edge_study"
    assert first.get("name") == "test_basic_response"


def test_a_class_and_parameters_stand_where_pytest_puts_them():
    found = case(hostile(), "test_x[a|b-<b>-名前]")
    assert found.get("classname") == "tests.deep.test_других_проверок.TestTools"


def test_the_numbers_are_those_of_the_summary():
    summary = summarise(april())
    found = properties(suite(parsed(april()), "gemma4"))
    score = summary.models[0].score
    assert float(found["score"]) == pytest.approx(score.value, abs=1e-9)
    assert float(found["score_low"]) == pytest.approx(score.low, abs=1e-9)
    assert float(found["score_high"]) == pytest.approx(score.high, abs=1e-9)
    assert (found["p50_ms"], found["p95_ms"], found["latency_n"]) == ("6046.5", "36203", "10")
    assert (found["score_level"], found["rounds"]) == ("0.95", "1")
    assert (found["over_budget"], found["latency_verdict"]) == ("1", "inconclusive")
    assert (found["expected"], found["scored"], found["calls"]) == ("10", "10", "10")
    assert (found["input_tokens"], found["output_tokens"]) == ("1200", "400")


def test_a_check_carries_its_own_numbers():
    found = case(six_rounds(), "test_code_generation")
    known = properties(found)
    assert (known["weight"], known["trials"], known["passes"]) == ("2", "6", "5")
    assert float(known["rate"]) == pytest.approx(5 / 6, abs=1e-9)
    assert float(known["rate_low"]) < 5 / 6 < float(known["rate_high"])
    assert (known["stability"], known["blame"]) == ("flaky", "model")
    assert "capability" not in known
    assert result(six_rounds(), "test_code_generation").get("message") == (
        "1 of 6 trials failed; trial 4, blame model: "
        "expected one call of get_weather, the reply has none"
    )


def test_what_was_not_measured_is_left_out():
    found = properties(suite(parsed(nothing()), "open-claw"))
    assert not {"score", "score_low", "score_level", "p50_ms", "p95_ms", "over_budget"} & set(found)
    assert (found["scored"], found["infra"], found["latency_n"]) == ("0", "2", "0")
    known = properties(case(nothing(), "test_basic_response"))
    assert not {"rate", "rate_low", "p50_ms", "stability"} & set(known)
    assert (known["trials"], known["blame"]) == ("0", "network")
    assert "p95_upper_ms" not in properties(suite(parsed(april()), "gemma4"))
    assert "p95_upper_ms" in properties(suite(parsed(long_run()), "open-claw"))


def test_a_latency_that_never_ended_has_no_number_and_is_counted():
    found = properties(suite(parsed(one_round()), "open-claw"))
    assert "p95_ms" not in found
    assert "p50_ms" in found
    assert found["timeouts"] == "1"
    assert "p50_ms" not in properties(case(one_round(), "test_multi_step_planning"))


@pytest.mark.parametrize(
    ("outcomes", "tag", "kind"),
    [
        (["passed", "passed"], None, None),
        (["passed", "failed"], "failure", "failed"),
        (["passed", "crashed"], "failure", "crashed"),
        (["infra", "failed"], "failure", "failed"),
        (["infra", "infra"], "error", "infra"),
        (["infra", "skipped"], "error", "infra"),
        (["infra", "passed"], None, None),
        (["inconclusive", "passed"], "error", "inconclusive"),
        (["unsupported", "unsupported"], "skipped", "unsupported"),
        (["skipped", "skipped"], "skipped", None),
    ],
)
def test_what_becomes_of_an_outcome(outcomes, tag, kind):
    trials = [trial("a", number=n, outcome=found) for n, found in enumerate(outcomes, start=1)]
    found = result(run(*trials))
    assert (found.tag if found is not None else None) == tag
    assert (found.get("type") if found is not None else None) == kind


def test_time_is_what_the_trials_waited_in_seconds():
    stuck = trial("a", number=3, outcome="failed", timed_out=True)
    lost = trial("a", number=4, outcome="infra", latency_ms=None)
    calls = (CallRecord(start_ms=0, end_ms=300), CallRecord(start_ms=200, end_ms=500))
    data = run(
        trial("a", number=1, latency_ms=1500),
        trial("a", number=2, latency_ms=250),
        stuck.model_copy(update={"duration_s": 60.25}),
        lost.model_copy(update={"calls": calls}),
    )
    assert case(data, "test_a").get("time") == "62.500"
    assert suite(parsed(data), "open-claw").get("time") == "62.500"


def test_several_models_do_not_share_a_test_by_class_and_name():
    root = parsed(april())
    names = [(c.get("classname"), c.get("name")) for c in root.iter("testcase")]
    assert len(set(names)) == len(names)
    first = suite(root, "gemma4").find("testcase")
    assert first.get("classname") == "gemma4.example_suites.edge_study.test_edge_study"


def test_the_gate_is_a_suite_of_its_rules():
    gate = suite(parsed(april()), GATE_SUITE)
    known = properties(gate)
    assert (known["gate_verdict"], known["gate_mode"]) == ("inconclusive", "point")
    rules = {c.get("name"): c for c in gate.findall("testcase")}
    assert properties(rules["p95: gemma4"])["verdict"] == "inconclusive"
    assert rules["p95: gemma4"].find("skipped").get("message").startswith("inconclusive: gemma4")
    assert [child.tag for child in rules["reported"]] == ["properties"]


def test_a_failed_rule_is_a_failure():
    data = hostile()
    (rule,) = [r for r in summarise(data).gate.rules if r.rule == "blockers"]
    gate = suite(parsed(data), GATE_SUITE)
    (found,) = [c for c in gate if c.get("name") == "blockers"]
    assert found.find("failure").get("message") == rule.message
    assert properties(gate)["gate_verdict"] == "fail"


def test_without_a_gate_the_verdict_is_not_asked():
    gate = suite(parsed(run(trial("a"))), GATE_SUITE)
    assert properties(gate)["gate_verdict"] == "not asked"


def test_a_limit_that_never_ends_has_no_number():
    data = run(
        trial("a", outcome="failed", timed_out=True, budget_ms=1000),
        gate=GateSettings(p95="within-budget"),
    )
    (found,) = [c for c in suite(parsed(data), GATE_SUITE) if c.get("name") == "p95"]
    assert properties(found) == {"verdict": "fail", "limit": "1"}


def test_in_an_audit_a_pass_is_the_failure_and_there_is_no_gate():
    records = [trial("a", "parrot"), trial("b", "parrot", outcome="failed")]
    data = run(*records)
    manifest = data.manifest.model_copy(update={"purpose": "audit"})
    root = parsed(data.model_copy(update={"manifest": manifest}))
    assert [one.get("name") for one in root] == ["parrot"]
    a, b = root[0].findall("testcase")
    assert "vacuous" in a.find("failure").get("message")
    assert [child.tag for child in b] == ["properties"]


NASTY = [
    "]]>",
    "<![CDATA[",
    "\x00",
    "\x1b[2J",
    "\ud800",
    "\ufffe",
    "\uffff",
    "&#0;",
    "\r\n\t",
    "'\"",
]
pieces = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=20), st.sampled_from(NASTY)
)
texts = st.lists(pieces, max_size=4).map("".join)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(message=texts, model=texts, check=texts, capability=texts)
def test_whatever_a_model_wrote_the_file_is_xml(message, model, check, capability):
    failed = trial(f"t.py::test_{check}", model, outcome="failed", message=message)
    plan = failed.plan.model_copy(update={"capability": capability})
    data = run(failed.model_copy(update={"plan": plan}))
    text = to_junit(summarise(data), data)
    root = ET.fromstring(text.encode("utf-8"))
    assert len(root[0].findall("testcase")) == 1
    assert root.find("testsuite/testcase/failure") is not None
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", text)


def test_a_message_can_be_read_as_it_was():
    message = 'it said ]]> & <b>"x"</b>\n\ttwice'
    found = result(run(trial("a", outcome="failed", message=message)))
    assert found.text == message


def test_a_long_message_is_bounded():
    found = result(run(trial("a", outcome="failed", message="x" * 100_000)))
    assert len(found.text) <= 4000
    assert len(found.get("message")) <= 500

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_builders import call, nodeid, run, trial

from pytest_agentlimit.chat.messages import Usage
from pytest_agentlimit.runs.schema import RunSummary, report_json_schema
from pytest_agentlimit.runs.summary import summarise

FILE = Path(__file__).parents[2] / "docs" / "reference" / "report-schema.json"
SCHEMA = json.loads(FILE.read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
OUTCOMES = ["passed", "failed", "infra", "unsupported", "inconclusive", "skipped", "crashed"]


@st.composite
def runs(draw):
    records = [
        trial(
            f"t.py::test_{draw(st.integers(0, 3))}",
            draw(st.sampled_from(OUTCOMES)),
            model=draw(st.sampled_from(["m", "n-m"])),
            number=draw(st.integers(1, 4)),
            latency_ms=draw(st.none() | st.floats(0, 1e6)),
            timed_out=draw(st.booleans()),
            weight=draw(st.sampled_from([0.0, 1.0, 2.5])),
            blocker=draw(st.booleans()),
            capability=draw(st.none() | st.just("tool-calling")),
            budget_ms=draw(st.none() | st.just(500.0)),
            calls=[call("x", usage=Usage(input_tokens=draw(st.none() | st.integers(0, 9))))],
        )
        for _ in range(draw(st.integers(0, 12)))
    ]
    lost = [nodeid("t.py::test_9", "m", i) for i in range(draw(st.integers(0, 2)))]
    return run(
        records,
        "m",
        "n-m",
        expected=[record.nodeid for record in records] + lost,
        min_score=draw(st.none() | st.just(0.8)),
        p95=draw(st.sampled_from([None, "within-budget", 800.0])),
    )


def report() -> dict:
    data = run([trial(timed_out=True, outcome="failed")], min_score=0.8, p95=100.0)
    return json.loads(summarise(data).model_dump_json())


def test_the_published_schema_is_up_to_date():
    VALIDATOR.check_schema(SCHEMA)
    assert report_json_schema() == SCHEMA, (
        f"write report_json_schema() of runs/schema.py to {FILE.name} again"
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(runs())
def test_every_summary_is_valid_and_comes_back_the_same(data):
    summary = summarise(data)
    text = summary.model_dump_json()
    VALIDATOR.validate(json.loads(text))
    assert RunSummary.model_validate_json(text) == summary


def test_the_keys_are_those_of_the_contract():
    found = report()
    (model,) = found["models"]
    assert list(found) == ["schema_version", "run", "models", "comparisons", "gate"]
    assert list(model) == [
        *("name", "fingerprint", "score", "latency", "completion", "checks"),
        *("ladders", "usage", "energy"),
    ]
    assert list(model["latency"]) == [
        *("n", "p50_ms", "p95_ms", "p95_is_max", "p95_upper_ms", "over_budget", "verdict")
    ]
    assert list(model["checks"][0]) == [
        *("id", "capability", "weight", "blocker", "trials", "passes", "rate_low", "rate_high"),
        *("stability", "outcomes", "p50_ms", "blame", "first_failure"),
    ]
    assert list(found["gate"]["rules"][0]) == ["rule", "verdict", "observed", "limit", "message"]


def test_no_json_number_is_infinite():
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    text = summarise(run([trial(timed_out=True, outcome="failed")], p95=1.0)).model_dump_json()
    json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r.update(extra=1),
        lambda r: r.pop("gate"),
        lambda r: r.update(schema_version=2),
        lambda r: r["models"][0]["score"].update(value=89.5),
        lambda r: r["models"][0]["latency"].update(p95_ms="slow"),
        lambda r: r["models"][0]["latency"].update(p95_ms=-1),
        lambda r: r["models"][0]["latency"].pop("p95_is_max"),
        lambda r: r["models"][0]["checks"][0].update(stability="deterministic"),
        lambda r: r["models"][0]["completion"].update(scored=-1),
        lambda r: r["gate"].update(verdict="maybe"),
        lambda r: r["gate"]["rules"][0].update(note=""),
    ],
)
def test_the_schema_is_strict(spoil):
    good = report()
    VALIDATOR.validate(good)
    bad = copy.deepcopy(good)
    spoil(bad)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(bad)

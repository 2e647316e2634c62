from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from report_samples import SAMPLES, hostile, one_round, run, trial

from pytest_agentlimit.reports.json_report import to_json
from pytest_agentlimit.runs.schema import RunSummary
from pytest_agentlimit.runs.summary import summarise

SCHEMA = Path(__file__).parents[2] / "docs" / "reference" / "report-schema.json"


def no_constants(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def loaded(text: str):
    return json.loads(text, parse_constant=no_constants)


@pytest.mark.parametrize("maker", SAMPLES.values(), ids=SAMPLES)
def test_every_report_follows_the_published_schema(maker):
    report = loaded(to_json(summarise(maker())))
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(report)
    assert report["schema_version"] == 1


@pytest.mark.parametrize("name", ["april", "one_round", "six_rounds"])
def test_a_report_reads_back_as_the_same_summary(name):
    summary = summarise(SAMPLES[name]())
    assert RunSummary.model_validate_json(to_json(summary)) == summary
    assert loaded(to_json(summary)) == loaded(summary.model_dump_json(by_alias=True))


def test_a_latency_that_never_ended_is_a_word():
    report = loaded(to_json(summarise(one_round())))
    assert report["models"][0]["latency"]["p95_ms"] == "Infinity"


def test_lone_surrogates_become_text_that_strict_parsers_take():
    text = to_json(summarise(hostile()))
    (message, *_) = [check["first_failure"] for check in loaded(text)["models"][0]["checks"]]
    message.encode("utf-8")
    assert r"\ud800" in message


def test_a_report_is_ascii_and_whole_characters_survive():
    text = to_json(summarise(run(trial("a", outcome="failed", message="naïve 名前 👍"))))
    assert text.isascii()
    assert text.endswith("}\n")
    assert loaded(text)["models"][0]["checks"][0]["first_failure"] == "naïve 名前 👍"

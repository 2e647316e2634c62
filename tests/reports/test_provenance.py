from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from report_samples import run, trial

from pytest_agentlimit.chat.messages import Usage
from pytest_agentlimit.reports.provenance import of_model
from pytest_agentlimit.runs.records import (
    AuditedCheck,
    CallRecord,
    GateSettings,
    RunData,
    TrialRecord,
)
from pytest_agentlimit.runs.summary import summarise
from pytest_agentlimit.runs.trials import model_trials


def said(data: RunData) -> dict[str, tuple[str, ...]]:
    (model,) = model_trials(data)
    (part,) = summarise(data).models
    return {fact.label: fact.parts for fact in of_model(part, model, data)}


def of_calls(calls: Iterable[CallRecord]) -> RunData:
    record = trial("a").model_copy(update={"calls": tuple(calls)})
    return run(record)


def call(
    ttft: float | None = None, total: float = 1000, sent: int | None = None, **rest: Any
) -> CallRecord:
    usage = Usage(input_tokens=100, output_tokens=sent, cached_tokens=rest.pop("cached", None))
    return CallRecord(start_ms=0, end_ms=total, ttft_ms=ttft, usage=usage, **rest)


def test_without_clocks_and_counts_nothing_is_said() -> None:
    assert said(of_calls([call()])) == {}


def test_first_token_and_tokens_per_second_have_their_intervals() -> None:
    # 900 ms for the 18 tokens after the first one: 20 a second
    calls = [call(ttft=100 + n, total=1000 + n, sent=19) for n in range(9)]
    assert said(of_calls(calls))["generation"] == (
        "first token after 104 ms (101–107), n = 9 calls",
        "20.0 tokens/s (20.0–20.0), n = 9 calls",
    )


def test_a_few_calls_have_no_interval() -> None:
    (first,) = said(of_calls([call(ttft=100)]))["generation"]
    assert first == ("first token after 100 ms (interval: not enough runs (need 6)), n = 1 call")


@pytest.mark.parametrize(
    "odd",
    [
        call(ttft=100, sent=1),
        call(ttft=100, sent=None),
        call(ttft=1000, total=1000, sent=50),
        call(ttft=100, sent=50, attempts=2),
    ],
    ids=["one token", "not counted", "all at once", "retried"],
)
def test_a_speed_is_taken_only_where_it_can_be(odd: CallRecord) -> None:
    assert len(said(of_calls([odd]))["generation"]) == 1


def test_a_failed_call_has_no_speed() -> None:
    assert "generation" not in said(of_calls([call(ttft=100, sent=50, error_kind="cut_stream")]))


def test_the_cached_share_counts_only_calls_that_tell() -> None:
    calls = [call(cached=50), call(cached=0), call()]
    assert said(of_calls(calls))["prompt cache"] == ("25 % of prompt tokens (n = 2 of 3 calls)",)
    assert "prompt cache" not in said(of_calls([call(cached=0)]))


def callers(*pairs: tuple[int | None, int | None]) -> RunData:
    records = [
        trial("a", number=number).model_copy(
            update={"calls": (call(inflight_start=start, inflight_end=end),)}
        )
        for number, (start, end) in enumerate(pairs, start=1)
    ]
    return run(*records)


def declared(data: RunData, places: int) -> RunData:
    entries = tuple(
        entry.model_copy(update={"max_inflight": places}) for entry in data.manifest.models
    )
    manifest = data.manifest.model_copy(update={"models": entries})
    return data.model_copy(update={"manifest": manifest})


def test_samples_are_those_with_exactly_the_declared_callers() -> None:
    data = callers((1, 1), (None, None), (1, 2), (2, 2))
    assert summarise(data).models[0].latency.n == 2
    assert said(data)["in flight"][0] == "2 trials left out of latency"
    two = declared(data, 2)
    assert summarise(two).models[0].latency.n == 2
    assert said(two)["in flight"][1] == "not exactly 2 calls under way, as declared"
    assert "in flight" not in said(callers((1, 1), (None, None)))


def test_a_time_out_is_a_sample_with_any_number_of_callers() -> None:
    record = trial("a", timed_out=True, outcome="failed").model_copy(
        update={"calls": (call(inflight_start=1, inflight_end=3, timed_out=True),)}
    )
    assert summarise(run(record)).models[0].latency.n == 1


def audited(data: RunData, **passed_by: tuple[str, ...]) -> RunData:
    names = {record.plan.check.rpartition("_")[2]: record.plan.check for record in data.records}
    found = {names[name]: AuditedCheck(passed_by=nulls) for name, nulls in passed_by.items()}
    return data.model_copy(update={"manifest": data.manifest.model_copy(update={"audited": found})})


def two_checks() -> list[TrialRecord]:
    return [trial("a", weight=3), trial("b", weight=1, outcome="failed")]


def test_the_score_above_the_best_null() -> None:
    data = audited(run(*two_checks()), a=(), b=("null-echo",))
    # (.75 − .25) / (1 − .25)
    assert said(data)["above null"] == ("66.7 %", "null-echo scores 25.0 % (n = 2 checks)")
    assert said(audited(run(*two_checks()), a=(), b=()))["above null"] == (
        "75.0 %: no null model passes a check (n = 2 checks)",
    )


def test_checks_that_were_not_audited_say_so() -> None:
    assert "above null" not in said(run(*two_checks()))
    assert "run --agent-audit again" in said(audited(run(*two_checks()), a=()))["above null"][0]


def test_a_null_that_passes_everything_leaves_nothing_above_it() -> None:
    data = audited(run(*two_checks()), a=("null-echo",), b=("null-echo",))
    assert said(data)["above null"] == ("nothing: null-echo passes every check",)


def test_what_was_not_needed_says_what_it_saved() -> None:
    records = [
        trial("a", number=number).model_copy(
            update={"calls": (CallRecord(start_ms=0, end_ms=1, output_digest=str(number)),) * 2}
        )
        for number in range(1, 21)
    ]
    gate = GateSettings(min_score=0.8, early_stop=True)
    lost = tuple(f"{records[0].plan.check}[open-claw-t{number}]" for number in range(21, 31))
    assert said(run(*records, gate=gate, lost=lost))["not needed"] == (
        "rounds 19 to 30: decided after round 18",
        "10 trials not run",
        "about 20 calls saved",
        "2 ran before the decision arrived and do not count",
    )

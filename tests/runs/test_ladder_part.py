from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from climb_kit import LEVELS, all_but, climbed, up_to
from run_builders import call, nodeid, run, trial

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.measure.ceiling import CeilingSearch
from pytest_agentlimit.reports.json_report import to_json
from pytest_agentlimit.runs.comparisons import compare
from pytest_agentlimit.runs.journal import RunFolder
from pytest_agentlimit.runs.ladders import climb_of
from pytest_agentlimit.runs.merge import merge, write_run
from pytest_agentlimit.runs.records import LadderRecord, RunData, RungRecord, TrialRecord
from pytest_agentlimit.runs.schema import LadderPart, RunSummary, report_json_schema
from pytest_agentlimit.runs.sides import Report, sides_of_report, sides_of_run
from pytest_agentlimit.runs.sources import read_source
from pytest_agentlimit.runs.summary import notes, summarise

CHECK = "t.py::test_chain"


def climb_trial(ladder: LadderRecord, check: str = CHECK, **rest: Any) -> TrialRecord:
    record = trial(check, rest.pop("outcome", "passed"), latency_ms=None, **rest)
    return record.model_copy(update={"ladder": ladder})


def part_of(ladder: LadderRecord) -> LadderPart:
    (part,) = summarise(run([climb_trial(ladder)])).models[0].ladders
    return part


def rungs(number: int, level: int = 1) -> tuple[RungRecord, ...]:
    return tuple(RungRecord(number=n, level=level, outcome="passed") for n in range(1, number + 1))


def test_the_keys_are_those_of_the_contract():
    found = json.loads(part_of(climbed(up_to(6))).model_dump_json())
    assert list(found)[:9] == [
        *("id", "reliability", "ceiling", "low", "high", "shape", "trials", "steps"),
        "first_failure_mode",
    ]
    assert (found["id"], found["trial"], found["name"], found["unit"]) == (
        *(CHECK, 1),
        *("chain", "hops"),
    )


@pytest.mark.parametrize(
    "ladder",
    [
        climbed(up_to(6), infra=(2,)),
        climbed(all_but(4, 16)),
        climbed(up_to(1), at_least=4),
        climbed(up_to(6), infra=range(9), most=5),
    ],
    ids=["plain", "dip", "asked", "no evidence"],
)
def test_a_report_with_ladders_is_valid_and_comes_back_the_same(ladder):
    summary = summarise(sides(ladder, climbed(up_to(2))))
    text = summary.model_dump_json()
    jsonschema.Draft202012Validator(report_json_schema()).validate(json.loads(text))
    assert RunSummary.model_validate_json(text) == summary


def test_a_ceiling_is_worked_out_again_from_the_trials_of_the_record():
    search = CeilingSearch(LEVELS, 0.8, 1)
    while (level := search.next_level()) is not None:
        search.record(level, level <= 6)
    known, part = search.result(), part_of(climbed(up_to(6)))
    assert (part.ceiling, part.low, part.high) == (known.ceiling, known.low, known.high)
    assert (part.shape, part.trials, part.steps) == (known.shape, known.trials, known.steps)
    assert part.posterior == pytest.approx(known.rungs)
    assert [(one.level, one.passes, one.trials) for one in part.levels] == [*known.counts]
    assert (part.ended, part.audit, part.interval) == ("certain", "holds", 0.9)
    assert sum(part.posterior) == pytest.approx(1)
    assert len(part.posterior) == len(part.levels) + 1


def test_the_failures_of_the_first_level_above_are_told():
    part = part_of(climbed(up_to(6)))
    assert part.modes == {"loop": 2}
    assert part.first_failure_mode == "loop"
    assert part.first_failure == "expected 7 at level 8, got 8"
    assert (part.example or "").startswith("call: hop {}\n")
    assert part.blame == {"model": 13}


def test_an_example_is_a_failure_with_a_transcript_when_there_is_one():
    ladder = climbed(up_to(6))
    at_eight = [rung.number for rung in ladder.rungs if rung.level == 8]
    bare = tuple(
        rung.model_copy(update={"transcript": "", "detail": "bare"})
        if rung.number == at_eight[0]
        else rung
        for rung in ladder.rungs
    )
    part = part_of(ladder.model_copy(update={"rungs": bare}))
    assert part.first_failure == "expected 7 at level 8, got 8"
    assert part.example


def test_a_ladder_that_holds_to_its_top_has_no_failure():
    part = part_of(climbed(up_to(64)))
    assert (part.first_failure_mode, part.first_failure, part.example) == (None, None, None)
    assert (part.modes, part.blame, part.p_cliff) == ({}, {}, None)


def test_an_audit_that_fails_names_the_level():
    part = part_of(climbed(all_but(4, 16)))
    assert (part.audit, part.ceiling) == ("not monotone at 4", 3)
    assert part.modes == {"wrong_final": 3, "loop": 2}


def test_a_question_has_its_verdict():
    yes, no = (part_of(climbed(up_to(top), at_least=4)) for top in (8, 1))
    assert ((yes.at_least, yes.verdict), (no.at_least, no.verdict)) == ((4, "pass"), (4, "fail"))
    assert part_of(climbed(up_to(6))).verdict is None


@pytest.mark.parametrize("most", [1, 7, 20, 28])
def test_a_climb_that_was_cut_short_says_so_in_whatever_phase(most):
    part = part_of(climbed(up_to(6), most=most))
    assert (part.ended, part.trials) == ("open", most)
    assert part.ceiling is not None
    assert part_of(climbed(up_to(8), at_least=4, most=3)).verdict is None


def test_trials_ended_by_infrastructure_are_counted_and_no_evidence():
    part, plain = part_of(climbed(up_to(6), infra=(2, 5))), part_of(climbed(up_to(6)))
    assert (part.infra, plain.infra) == (2, 0)
    assert (part.trials, part.steps, part.posterior) == (
        *(plain.trials, plain.steps),
        plain.posterior,
    )


def test_without_evidence_there_is_no_ceiling():
    part = part_of(climbed(up_to(6), infra=range(99), most=5))
    assert (part.ceiling, part.low, part.high, part.trials, part.infra) == (None, None, None, 0, 5)


def test_a_climb_that_never_began_is_no_ladder():
    ladder = climbed(up_to(6)).model_copy(update={"levels": (), "rungs": ()})
    assert climb_of(ladder) is None
    assert summarise(run([climb_trial(ladder, outcome="inconclusive")])).models[0].ladders == ()


def test_latencies_are_those_of_each_level():
    by_level = {one.level: one.p50_ms for one in part_of(climbed(up_to(6), infra=(1,))).levels}
    assert 800 < (by_level[8] or 0) < 900
    assert by_level[64] is None


def test_several_trials_of_a_check_are_several_climbs():
    records = [climb_trial(climbed(up_to(top)), number=n) for n, top in ((1, 6), (2, 12))]
    parts = summarise(run(records)).models[0].ladders
    assert [(part.id, part.trial, part.ceiling) for part in parts] == [
        (CHECK, 1, 6),
        (CHECK, 2, 12),
    ]


def test_hostile_texts_are_printable_in_the_part():
    odd = "\x1b[2J\x07\ud800\u202e\nx"
    part = part_of(climbed(up_to(6), name=odd, unit=odd, detail=odd, transcript=odd * 5000))
    for text in (part.name, part.unit, part.first_failure or ""):
        assert text.isprintable()
    assert all(line.isprintable() for line in (part.example or "").split("\n"))
    assert len(part.example or "") <= 4000
    json.loads(to_json(summarise(run([climb_trial(climbed(up_to(2), name=odd))]))))


# notes


def test_a_climb_without_a_record_is_a_note():
    data = run([]).model_copy(update={"rungs": {nodeid(CHECK): rungs(14)}})
    said = (
        f"{CHECK}[m-t1]: 14 trials of a climb that was not finished; --agent-resume goes on with it"
    )
    assert notes(data) == [said]
    once = data.model_copy(update={"rungs": {nodeid(CHECK): rungs(1)}})
    assert notes(once)[0].startswith(f"{CHECK}[m-t1]: 1 trial of a climb")


def test_a_check_that_climbed_without_asking_proves_nothing():
    silent = climbed(up_to(6))
    silent = silent.model_copy(
        update={"rungs": tuple(r.model_copy(update={"latency_ms": None}) for r in silent.rungs)}
    )
    assert notes(run([climb_trial(climbed(up_to(6)))])) == []
    assert "passed without asking the model" in notes(run([climb_trial(silent)]))[0]


# two sides


def sides(one: LadderRecord, other: LadderRecord) -> RunData:
    return run([climb_trial(one, model="a"), climb_trial(other, model="b")], "a", "b")


def test_two_climbs_are_compared_by_their_chances():
    data = sides(climbed(up_to(12)), climbed(up_to(6)))
    (part,) = summarise(data).comparisons
    (pair,) = part.ladders
    assert (pair.id, pair.trial) == (CHECK, 1)
    assert pair.p_higher > 0.95
    assert 0 < pair.p_tied < 0.05
    (back,) = summarise(sides(climbed(up_to(6)), climbed(up_to(12)))).comparisons[0].ladders
    assert pair.p_higher + pair.p_tied + back.p_higher == pytest.approx(1)


@pytest.mark.parametrize(
    "other",
    [
        climbed(up_to(2), levels=(1, 2, 4)),
        climbed(up_to(2), reliability=0.5),
        climbed(up_to(2), most=5),
        climbed(up_to(2), most=5, infra=range(9)),
    ],
    ids=["levels", "reliability", "cut short", "no evidence"],
)
def test_climbs_that_are_not_alike_or_not_finished_are_not_compared(other):
    assert summarise(sides(climbed(up_to(6)), other)).comparisons[0].ladders == ()


def test_a_report_file_compares_as_its_run(tmp_path):
    data = sides(climbed(up_to(12)), climbed(up_to(6)))
    (path := tmp_path / "report.json").write_text(to_json(summarise(data)))
    told = compare(*read_source(str(path), tmp_path).sides)
    assert told.ladders == compare(*sides_of_run(data)).ladders
    assert sides_of_report(Report.model_validate_json(path.read_bytes()))[0].ladders == (
        sides_of_run(data)[0].ladders
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda ladder: ladder["posterior"].pop(),
        lambda ladder: ladder["posterior"].__setitem__(0, 0.9),
        lambda ladder: ladder["posterior"].__setitem__(0, "many"),
        lambda ladder: ladder.update(reliability=0),
        lambda ladder: ladder.pop("levels"),
    ],
)
def test_a_damaged_report_is_refused_in_one_line(spoil, tmp_path):
    report = json.loads(to_json(summarise(run([climb_trial(climbed(up_to(6)))]))))
    spoil(report["models"][0]["ladders"][0])
    (path := tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(UsageProblem, match=r"the report .* is damaged \(models → 0 → ladders"):
        read_source(str(path), tmp_path)


# merging


def shard(records: list[TrialRecord], cut: dict[str, tuple[RungRecord, ...]]) -> RunData:
    return run(records).model_copy(update={"rungs": cut})


def test_merging_keeps_the_ladders_of_all_shards():
    climbs = [climb_trial(climbed(up_to(n)), f"t.py::test_{n}") for n in (2, 6)]
    merged = summarise(merge([run(climbs[:1]), run(climbs[1:])])).models[0].ladders
    assert merged == summarise(run(climbs)).models[0].ladders


def test_merging_keeps_the_longest_part_of_a_climb_that_nobody_finished():
    merged = merge([shard([], {nodeid(CHECK): rungs(n)}) for n in (3, 9, 5)])
    assert merged.rungs == {nodeid(CHECK): rungs(9)}


@pytest.mark.parametrize("order", [1, -1])
def test_merging_drops_the_parts_of_a_climb_that_a_shard_finished(order):
    done = run([climb_trial(climbed(up_to(6)))])
    assert merge([shard([], {nodeid(CHECK): rungs(9)}), done][::order]).rungs == {}


def test_a_kept_merge_has_the_parts_of_climbs(tmp_path):
    merged = merge([shard([trial(calls=[call("x")])], {nodeid(CHECK): rungs(9)})])
    again = RunFolder.open(write_run(merged, tmp_path).path).load()
    assert again.rungs == merged.rungs
    assert any("9 trials of a climb that was not finished" in note for note in notes(again))

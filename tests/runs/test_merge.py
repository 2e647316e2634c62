from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_builders import call, nodeid, run, trial

from pytest_agentlimit.errors import AgentLimitError, UsageProblem
from pytest_agentlimit.runs.journal import RunFolder, runs_folder
from pytest_agentlimit.runs.lock import Lock
from pytest_agentlimit.runs.merge import merge, write_run
from pytest_agentlimit.runs.records import AuditedCheck, RunData, TrialRecord
from pytest_agentlimit.runs.store import list_runs
from pytest_agentlimit.runs.summary import summarise

CHECKS = [f"test_{file}.py::test_{name}" for file in "ab" for name in "xyz"]
OUTCOMES = ["passed", "failed", "infra", "passed", "crashed", "unsupported"]
MODELS = ("gemma4", "open-claw")


def whole() -> list[TrialRecord]:
    return [
        trial(
            check,
            OUTCOMES[(line + number) % len(OUTCOMES)],
            model=model,
            number=number,
            latency_ms=100.0 * line + number,
            weight=1.0 + line,
            budget_ms=350.0,
            blocker=line == 2,
            line=line,
            calls=[call(f"{model}{check}{number}")],
        )
        for number in (1, 2, 3)
        for line, check in enumerate(CHECKS, start=1)
        for model in MODELS
    ]


ALL = whole()
GATE: dict[str, Any] = {"min_score": 0.5, "p95": "within-budget"}


def shard(records: list[TrialRecord], name: str = "s", **changed: Any) -> RunData:
    """A shard that collected what it ran; `expected`, `notes` and manifest fields can be given."""
    expected = changed.pop("expected", None)
    top = {key: changed.pop(key) for key in ("notes", "duration_s") if key in changed}
    gate = changed.pop("gate", GATE)
    data = run(records, *MODELS, expected=expected, **gate)
    manifest = data.manifest.model_copy(update={"run_id": name, **changed})
    return data.model_copy(update={"manifest": manifest, **top})


def report(data: RunData) -> str:
    summary = summarise(data)
    plain = {"id": "", "started": "", "duration_s": 0.0}
    return summary.model_copy(
        update={"run": summary.run.model_copy(update=plain)}
    ).model_dump_json()


@given(st.data())
def test_shards_give_the_report_of_the_whole_run(data):
    order = data.draw(st.permutations(ALL))
    places = data.draw(st.lists(st.integers(0, 3), min_size=len(ALL), max_size=len(ALL)))
    shards = [
        shard([record for record, place in zip(order, places, strict=True) if place == number])
        for number in range(4)
    ]
    again = data.draw(st.lists(st.sampled_from(shards), max_size=2))
    assert report(merge([*shards, *again])) == report(shard(ALL))


def test_a_kept_merge_reads_back_the_same(tmp_path):
    merged = merge([shard(ALL[:10], "one"), shard(ALL[10:], "two", notes=("a note",))])
    folder = write_run(merged, tmp_path)
    assert folder.path.parent == runs_folder(tmp_path)
    data = RunFolder.open(folder.path).load()
    assert data.manifest.run_id == folder.path.name
    assert report(data) == report(shard(ALL))
    assert data.notes == merged.notes
    assert [row.state for row in list_runs(tmp_path)] == ["finished"]
    RunFolder.resume(folder.path).close()


def test_merging_a_merge_changes_nothing(tmp_path):
    first = merge([shard(ALL[:10], "one"), shard(ALL[10:20], "two")])
    assert report(merge([first, shard(ALL[20:], "three")])) == report(shard(ALL))


def test_the_merged_run_starts_with_the_first_and_takes_the_sum():
    merged = merge(
        [
            shard(ALL[:1], started="2026-04-02T00:00:00+00:00", duration_s=2.0, host="b"),
            shard(ALL[1:], started="2026-04-01T00:00:00+00:00", duration_s=3.5, host="a"),
            shard(ALL[1:], started="2026-04-03T00:00:00+00:00", duration_s=1.0, host="b"),
        ]
    )
    assert merged.manifest.started.startswith("2026-04-01")
    assert merged.duration_s == 6.5
    assert merged.manifest.host == "b + a"
    assert merged.manifest.run_id == ""


# trials that several ran, and trials that none did


@pytest.mark.parametrize(
    ("first", "second", "counted"),
    [
        ("infra", "passed", "passed"),
        ("inconclusive", "crashed", "crashed"),
        ("passed", "infra", "passed"),
        ("passed", "failed", "passed"),
        ("skipped", "infra", "skipped"),
    ],
)
def test_a_trial_in_two_shards_counts_once(first, second, counted):
    shards = [shard([trial(outcome=outcome, model="gemma4")]) for outcome in (first, second)]
    merged = merge(shards)
    assert [record.outcome for record in merged.records] == [counted]
    assert "1 record of trials that another shard had run as well counted once" in merged.notes
    assert summarise(merged).models[0].completion.expected == 1


def test_of_the_attempts_within_a_shard_the_last_counts():
    attempts = [trial(outcome=o, model="gemma4") for o in ("infra", "failed", "passed")]
    merged = merge([shard(attempts), shard(ALL)])
    assert merged.records[0].outcome == "passed"
    assert not any("another shard" in note for note in merged.notes)


def test_a_trial_that_no_shard_ran_is_named():
    lost = ALL[-1].nodeid
    merged = merge([shard(ALL[:5]), shard(ALL[5:-1], expected=[r.nodeid for r in ALL[5:]])])
    assert f"1 trial in no shard: {lost}" in merged.notes
    (rule,) = [rule for rule in summarise(merged).gate.rules if rule.rule == "reported"]
    assert rule.verdict == "fail"
    assert lost in rule.message


def test_shards_that_ended_early_say_why_the_merge_is_not_whole():
    gate = {"min_score": 0.8, "early_stop": True}
    checks = ("test_a.py::test_a", "test_a.py::test_b")
    shards = [
        shard(
            [trial(check, number=i, model="gemma4") for i in range(1, ran + 1)],
            expected=[nodeid(check, "gemma4", i) for i in range(1, 31)],
            gate=gate,
        )
        for check, ran in zip(checks, (18, 3), strict=True)
    ]
    assert any("ended early by its own checks" in note for note in merge(shards).notes)
    assert not any("ended early" in note for note in merge(shards[:1]).notes)


def test_notes_say_which_shard_they_came_from():
    shared, own = "2 workers shared the endpoints", "interrupted"
    shards = [shard(ALL, str(i), notes=(shared, own) if i == 3 else (shared,)) for i in range(5)]
    notes = merge(shards).notes
    assert notes[0] == "merged from 5 shards: 0, 1, 2 and 2 more"
    assert f"{shared} (shard 0, 1, 2 and 2 more)" in notes
    assert f"{own} (shard 3)" in notes


def test_what_audits_found_adds_up():
    vacuous, sound = AuditedCheck(passed_by=("parrot",)), AuditedCheck()
    one = shard(ALL[:1], audited={"a": vacuous})
    two = shard(ALL[1:], audited={"b": sound})
    assert merge([one, two]).manifest.audited == {"a": vacuous, "b": sound}


# what is no shard of the same run


def entry(name: str, **changed: Any) -> Any:
    models = run([], *MODELS).manifest.models
    return tuple(
        model.model_copy(update=changed) if model.name == name else model for model in models
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 7}, r"seed \(1 and 7\)"),
        ({"shape": "agent"}, r"shape \(bare and agent\)"),
        ({"purpose": "audit"}, "purpose"),
        ({"trials": 4}, r"trials \(1 and 4\)"),
        ({"plugin_version": "9.9"}, r"version of pytest-agentlimit \(0 and 9.9\)"),
        ({"gate": {**GATE, "min_score": 0.9}}, r"gate min_score \(0.5 and 0.9\)"),
        ({"gate": {**GATE, "mode": "strict"}}, r"gate mode \(point and strict\)"),
        (
            {"gate": {**GATE, "baseline": Lock(run_id="before", plugin_version="0", models=())}},
            r"gate baseline \(None and before\)",
        ),
        ({"models": entry("gemma4")[:1]}, "models"),
        ({"models": entry("gemma4")[::-1]}, "models"),
        (
            {"models": entry("open-claw", fingerprint={"digest": "ab"})},
            r"open-claw digest \(None and ab\)",
        ),
        ({"models": entry("gemma4", max_inflight=2)}, r"gemma4 max-inflight \(1 and 2\)"),
    ],
)
def test_runs_made_otherwise_are_refused(changed, said):
    with pytest.raises(UsageProblem, match=f"one and two are not shards of one run.*{said}"):
        merge([shard(ALL[:5], "one"), shard(ALL[5:], "two", **changed)])


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"weight": 3.0}, r"weight of a \(1.0 and 3.0\)"),
        ({"blocker": True}, r"blocker of a \(False and True\)"),
        ({"budget_ms": 5.0}, r"budget_ms of a \(None and 5.0\)"),
        ({"budget_quantile": 0.5}, "budget_quantile of a"),
        ({"version": "2"}, r"version of a \(None and 2\)"),
        ({"capability": "tools"}, "capability of a"),
    ],
)
def test_shards_of_different_suites_are_refused(plan, said):
    shards = [
        shard([trial("test_a.py::test_b")], "one"),
        shard([trial("test_a.py::test_a", number=1)], "two"),
        shard([trial("test_a.py::test_a", number=2, **plan)], "three"),
    ]
    with pytest.raises(UsageProblem, match=f"two and three are not shards.*{said}"):
        merge(shards)


def test_many_differences_are_one_bounded_line():
    hostile = entry("gemma4", fingerprint={f"\x1b[31m{i}\n": "x" * 9999 for i in range(50)})
    with pytest.raises(UsageProblem, match="and 48 more") as caught:
        merge([shard(ALL), shard(ALL, seed=9, models=hostile)])
    message = str(caught.value)
    assert len(message) < 1000
    assert "\n" not in message
    assert "\x1b" not in message


def test_nothing_to_merge_is_an_error():
    with pytest.raises(UsageProblem, match="nothing to merge"):
        merge([])


def test_a_merge_that_cannot_be_kept_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AgentLimitError, match="the run was not kept: .*Not a directory"):
        write_run(merge([shard(ALL)]), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_half_written_merge_is_taken_back(tmp_path, monkeypatch):
    def full(self: RunFolder) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "_write_waiting", full)
    with pytest.raises(AgentLimitError, match="No space left"):
        write_run(merge([shard(ALL)]), tmp_path)
    assert list(runs_folder(tmp_path).iterdir()) == []

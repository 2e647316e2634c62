from __future__ import annotations

import json
import os

import pytest
from run_builders import GEMMA4, OPEN_CLAW, manifest, nodeid, run, study, trial, trials

from pytest_agentlimit.errors import AgentLimitError, UsageProblem
from pytest_agentlimit.runs.lines import UNFINISHED
from pytest_agentlimit.runs.lock import lock_text, read_lock, write_lock
from pytest_agentlimit.runs.locking import described, lock_of

A, B = "t.py::test_a", "t.py::test_b"


def april_lock():
    records = study("open-claw", OPEN_CLAW, 1) + study("gemma4", GEMMA4, 3)
    return lock_of(run(records, "open-claw", "gemma4"))


def test_a_lock_is_read_back_as_it_was_written(tmp_path):
    made = lock_of(
        run(
            [
                trial(A, weight=3, blocker=True, budget_ms=8000, version="abc"),
                trial(B, "failed", budget_quantile=0.5),
                trial("t.py::test_名前", "passed"),
            ]
        )
    )
    path = write_lock(made, tmp_path / "deep" / "agentlimit.lock.json")
    assert read_lock(path) == made


def test_a_lock_has_one_sorted_line_a_check_and_is_ascii():
    text = lock_text(april_lock())
    assert text.isascii()
    assert text.endswith("}\n")
    lines = [line.strip() for line in text.splitlines() if '"trials"' in line]
    assert len(lines) == 20
    assert lines[:10] == sorted(lines[:10])
    assert text.index("gemma4") < text.index("open-claw")


def test_a_diff_shows_the_check_that_moved():
    before = lock_text(lock_of(run([trial(A), trial(B)])))
    after = lock_text(lock_of(run([trial(A), trial(B, "failed")])))
    moved = [b for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    assert len(moved) == 1
    assert B in moved[0]


def test_the_same_run_always_gives_the_same_bytes():
    records = study("open-claw", OPEN_CLAW, 1)
    again = run(reversed(records), "open-claw")
    assert lock_text(lock_of(run(records, "open-claw"))) == lock_text(lock_of(again))


def test_checks_that_were_never_scored_are_not_in_a_lock():
    (model,) = lock_of(run([trial(A), trial(B, "infra")])).models
    assert list(model.checks) == [A]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (run([trial(A, "infra"), trial(B, "skipped")]), "m scored nothing"),
        (run([trial(A)], expected=[nodeid(A), nodeid(B)]), "1 trial without a report"),
        (run([trial(A)]).model_copy(update={"notes": (UNFINISHED,)}), "is not finished"),
        (
            run([trial(A)]).model_copy(
                update={"manifest": manifest().model_copy(update={"purpose": "audit"})}
            ),
            "--agent-audit",
        ),
        (
            run([]).model_copy(update={"manifest": manifest().model_copy(update={"models": ()})}),
            "no model",
        ),
    ],
    ids=["nothing scored", "lost trials", "killed", "an audit", "no model"],
)
def test_a_run_that_is_nothing_to_hold_a_model_against_is_refused(data, words):
    with pytest.raises(UsageProblem, match=words) as caught:
        lock_of(data)
    assert "\n" not in str(caught.value)


def test_a_missing_lock_says_how_to_make_one(tmp_path):
    with pytest.raises(UsageProblem, match="agentlimit lock RUN -o .*lock.json"):
        read_lock(tmp_path / "lock.json")


def damaged(**fields: object) -> str:
    return json.dumps({**json.loads(lock_text(april_lock())), **fields})


ONE = {"trials": 1, "passes": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        (lock_text(april_lock())[:400], "cut off"),
        ("[" * 100_000, "not JSON"),
        ("[]", "has no lock_version"),
        ('{"schema_version": 1, "models": []}', "has no lock_version"),
        (damaged(lock_version=2), "lock version 2, and this pytest-agentlimit reads version 1"),
        (damaged(lock_version="\x1b[31m"), "lock version"),
        (damaged(lock_version=True), "lock version True"),
        (damaged(models=[]), "holds no model"),
        (damaged(models=[{"name": "m", "checks": {}}]), "no scored check of m"),
        (damaged(models=[{"name": "m", "checks": {A: ONE}}] * 2), "holds m twice"),
        (damaged(models=[{"name": "m"}]), "damaged .*checks"),
        (damaged(surprise=1), "damaged .*surprise"),
        (damaged(models=[{"name": "m", "checks": {A: {"trials": 0, "passes": 0}}}]), "damaged"),
        (damaged(models=[{"name": "m", "checks": {A: {"trials": 1, "passes": 2}}}]), "more passes"),
        (damaged(models=[{"name": "m", "checks": {A: {**ONE, "weight": -1}}}]), "damaged .*weight"),
    ],
)
def test_a_lock_that_cannot_be_used_is_one_clear_line(tmp_path, text, words):
    path = tmp_path / "lock.json"
    path.write_text(text)
    with pytest.raises(UsageProblem, match=words) as caught:
        read_lock(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 900


def test_a_lock_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = write_lock(april_lock(), tmp_path / "lock.json")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AgentLimitError, match="was not written.*No space left.*-o"):
        write_lock(lock_of(run([trial(A)])), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["lock.json"]


def test_one_line_says_what_was_locked():
    made = lock_of(run(trials(["passed", "failed"], A) + trials(["passed"] * 2, B)))
    assert described(made) == ("m: 2 checks, 3 of 4 trials passed (run 20260401T000000Z-00000000)")


def test_one_line_says_how_a_lock_differs_from_the_one_it_replaces():
    def locked(records, model="m", **fingerprint):
        data = run(records, model)
        entry = data.manifest.models[0].model_copy(update={"fingerprint": fingerprint})
        new = data.manifest.model_copy(update={"models": (entry,)})
        return lock_of(data.model_copy(update={"manifest": new}))

    old = locked([trial(A), trial(B)], quantisation="Q4_K_M")
    new = locked([trial(A, "failed"), trial("t.py::test_c")], quantisation="Q8_0")
    assert described(new, old).endswith(
        "replaces run 20260401T000000Z-00000000 (m: 1 check changed, 1 check new, 1 check gone, "
        "quantisation Q4_K_M → Q8_0)"
    )
    assert "(m: nothing moved)" in described(old, old)
    other = locked([trial(A, model="x")], "x")
    assert "(x is new; m is gone)" in described(other, old)

from __future__ import annotations

import pytest

from pytest_agentlimit.runs.expected import bare_nodeid, expected_trial

MODELS = ["open-claw", "claw", "gemma4", "null:parrot", "größe"]


@pytest.mark.parametrize(
    ("nodeid", "model", "trial"),
    [
        ("a.py::test_x[open-claw-t3]", "open-claw", 3),
        ("a.py::test_x[claw-t12]", "claw", 12),
        ("a.py::test_x[null:parrot-t1]", "null:parrot", 1),
        ("a.py::test_x[gemma4-t2-fast]", "gemma4", 2),
        ("a.py::test_x[fast-gemma4-t2]", "gemma4", 2),
        ("a.py::test_x[gr\\xf6\\xdfe-t1]", "größe", 1),
        ("a.py::TestIt::test_x[gemma4-t1]@group", "gemma4", 1),
        ("[odd]/a.py::test_x[gemma4-t1]", "gemma4", 1),
    ],
)
def test_an_id_names_model_and_trial(nodeid, model, trial):
    found = expected_trial(nodeid, MODELS)
    assert (found.model, found.trial) == (model, trial)


@pytest.mark.parametrize(
    "nodeid",
    [
        "a.py::test_x",
        "a.py::test_x[gemma4]",
        "a.py::test_x[other-t1]",
        "a.py::test_x[gemma4-t]",
        "a.py::test_x[mygemma4-t1]",
        "a.py::test_x[gemma4-t1b]",
    ],
)
def test_other_ids_name_none(nodeid):
    found = expected_trial(nodeid, MODELS)
    assert (found.nodeid, found.model, found.trial) == (nodeid, None, None)


def test_a_group_suffix_is_not_part_of_the_id():
    assert bare_nodeid("a.py::test_x[m-t1]@gpu") == "a.py::test_x[m-t1]"
    assert bare_nodeid("a@b/c.py::test_x") == "a@b/c.py::test_x"
    assert bare_nodeid("a.py::test_x[m@home-t1]") == "a.py::test_x[m@home-t1]"
    assert bare_nodeid("a[1]@b/c.py::test_x") == "a[1]@b/c.py::test_x"

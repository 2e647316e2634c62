from __future__ import annotations

import pytest
from edge_study_driver import CHECKS, SHAPES, run_check

from pytest_agentlimit import Agent
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.endpoints.nulls import NULL_MODELS, NULL_URL
from pytest_agentlimit.endpoints.spec import EndpointSpec

SEEDS = range(20)


def test_there_are_ten_checks_and_nine_null_models() -> None:
    assert len(CHECKS) == 10
    assert len(NULL_MODELS) == 9


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("null", NULL_MODELS)
@pytest.mark.parametrize("check", CHECKS)
def test_no_null_model_passes(check: str, null: str, shape: str) -> None:
    spec = EndpointSpec(name=f"null:{null}", kind="null", base_url=NULL_URL, model=null)
    with open_client(spec) as client:
        for seed in SEEDS:
            with pytest.raises(AssertionError):
                run_check(check, Agent(client, shape=shape, seed=seed), seed)

from __future__ import annotations

import pytest
from promotion_driver import CHECKS, SHAPES, run_check

from pytest_agentlimit.agents.agent import Shape
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.endpoints.nulls import NULL_MODELS, NULL_URL
from pytest_agentlimit.endpoints.spec import EndpointSpec

SEEDS: dict[Shape, int] = {"bare": 3, "agent": 1}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("null", NULL_MODELS)
@pytest.mark.parametrize("check", CHECKS)
def test_no_null_model_passes(check: str, null: str, shape: Shape) -> None:
    spec = EndpointSpec(name=f"null:{null}", kind="null", base_url=NULL_URL, model=null)
    with open_client(spec) as client:
        for seed in range(SEEDS[shape]):
            with pytest.raises(AssertionError):
                run_check(check, client, seed, shape)

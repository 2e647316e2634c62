from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from agent_run import AgentRun
from pytest_agentlimit.example_suites.edge_study.oracle import oracle_reply

from pytest_agentlimit.testing import ScriptedEndpoint

ROOT = Path(__file__).parents[2]
STUDY = "example_suites/edge_study"
WEIGHTS = [1, 3, 2, 2, 3, 2, 1, 2, 2, 1]
Scripts = Callable[..., ScriptedEndpoint]


@pytest.fixture(autouse=True)
def study_in_a_project_of_its_own(agent_run: AgentRun) -> None:
    """Copied, because pytest keeps a run below the root folder of what it runs."""
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "example_suites", agent_run.folder / "example_suites", ignore=unwanted)


def validate(report: dict[str, Any]) -> None:
    schema = json.loads((ROOT / "docs" / "reference" / "report-schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(report, schema)


def shape_of(report: dict[str, Any]) -> list[tuple[str, float, int]]:
    return [(c["id"], c["weight"], c["trials"]) for c in report["models"][0]["checks"]]


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "ollama"])
@pytest.mark.parametrize("shape", ["bare", "agent"])
def test_the_oracle_passes_all_ten(
    agent_run: AgentRun, scripted: Scripts, dialect: str, shape: str
) -> None:
    server = scripted(oracle_reply, dialect=dialect)
    result = agent_run(STUDY, f"--agent-model={server.spec}", f"--agent-shape={shape}")
    result.assert_outcomes(passed=10)
    assert agent_run.report["models"][0]["score"]["value"] == 1.0
    assert [weight for _, weight, _ in shape_of(agent_run.report)] == WEIGHTS
    assert server.problems == []


def test_no_null_model_passes_a_check(agent_run: AgentRun) -> None:
    from pytest_agentlimit.endpoints.nulls import NULL_MODELS

    names = ",".join(f"null:{name}" for name in NULL_MODELS)
    agent_run(STUDY, f"--agent-model={names}", "--tb=no")
    assert len(agent_run.report["models"]) == 9
    passes = {
        (model["name"], check["id"])
        for model in agent_run.report["models"]
        for check in model["checks"]
        if check["passes"]
    }
    assert not passes
    assert all(len(model["checks"]) == 10 for model in agent_run.report["models"])


def test_the_real_model_with_and_without_workers(agent_run: AgentRun, smollm2: Path) -> None:
    # Three checks; `make study` runs all ten, and the scripted models above do.
    shapes = []
    quick = ("-k", "basic_response or code_generation or latency_burst")
    for workers in ("-n0", "-n2"):
        asked = ("--agent-model=smollm2", "--agent-gate=off", "--tb=no", workers)
        agent_run(STUDY, *asked, *quick)
        report = agent_run.report
        validate(report)
        shapes.append(shape_of(report))
        model = report["models"][0]
        assert model["completion"] == {
            "expected": 3,
            "reported": 3,
            "scored": 3,
            "infra": 0,
            "unsupported": 0,
        }
        assert model["fingerprint"]["engine"] == "llama.cpp"
        assert model["fingerprint"]["quantisation"] == "Q4_1"
        assert model["fingerprint"]["preflight"]["facts"]["json_schema"] is True
        assert model["usage"]["output_tokens"] > 0
        assert 0 < model["latency"]["p50_ms"] < 300_000
    assert shapes[0] == shapes[1]
    assert [weight for _, weight, _ in shapes[0]] == [1, 2, 1]


def test_the_study_runs_by_package_name(agent_run: AgentRun) -> None:
    result = agent_run(
        "--pyargs", "pytest_agentlimit.example_suites.edge_study", "--agent-model=null:mute"
    )
    result.assert_outcomes(failed=10)
    ids = [check["id"] for check in agent_run.report["models"][0]["checks"]]
    assert ids[0] == f"{STUDY}/test_edge_study.py::test_basic_response"

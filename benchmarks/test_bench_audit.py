"""How long it takes to show that no null model passes the ten-check study."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from budgets import Ledger
from conftest import Sample

from pytest_agentlimit.endpoints.nulls import NULL_MODELS

STUDY = "pytest_agentlimit.example_suites.edge_study"


def test_study_over_every_null_model(
    sample: Sample[Any], ledger: Ledger, tmp_path: Path, only_our_plugin: dict[str, str]
) -> None:
    names = ",".join(f"null:{name}" for name in NULL_MODELS)
    report = tmp_path / "out.json"
    argv = [sys.executable, "-m", "pytest", "-p", "pytest_agentlimit.plugin", "-q", "--tb=no"]
    argv += ["--pyargs", STUDY, f"--agent-model={names}", f"--agent-report=json:{report}"]

    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run(argv, cwd=tmp_path, env=only_our_plugin, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - start
        models = json.loads(report.read_text())["models"]
        assert [model["completion"]["scored"] for model in models] == [10] * len(NULL_MODELS)
        report.unlink()
        return took

    what = f"study of ten checks over {len(NULL_MODELS)} null models"
    ledger.median(what, sample(seconds, 4), "s", 10)

from __future__ import annotations

import pytest
from harness_suite_driver import CHECKS, suite

from pytest_agentlimit.endpoints.nulls import NULL_MODELS

STEPS = 3
"""Null models do in twenty-four steps what they do in three."""


def test_no_check_is_vacuous(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly -p no:cacheprovider -p no:asyncio")
    pytester.makeconftest(
        f"""
        def pytest_collection_modifyitems(items):
            for item in items:
                item.module.MAX_STEPS = {STEPS}
        """
    )
    result = pytester.runpytest("--pyargs", suite.__name__, "--agent-audit")
    assert result.ret == 0
    result.assert_outcomes(xfailed=len(NULL_MODELS) * len(CHECKS))
    result.stdout.fnmatch_lines(["audit *6 checks against 9 null models*", "vacuous *none*"])

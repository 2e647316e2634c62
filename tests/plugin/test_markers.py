from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("latency_budget('8')", "has no unit"),
        ("latency_budget(8)", 'write latency_budget("8s")'),
        ("latency_budget('8s', quantil=0.9)", "did you mean 'quantile'?"),
        ("latency_budget('8s', quantile=95)", "between 0 and 1"),
        ("weight(0)", "above 0"),
        ("weight('3')", "above 0"),
        ("weight(n=3, why='x')", "unknown keyword 'why'"),
        ("weight", "missing a required argument"),
        ("trials(0)", "whole number from 1"),
        ("capability('')", "takes a name"),
        ("blocker(True)", "too many positional arguments"),
    ],
)
@pytest.mark.parametrize("model", [[], ["--agent-model=null:parrot"]], ids=["no-model", "null"])
def test_a_wrong_marker_is_a_collection_error(
    pytester: pytest.Pytester, marker: str, message: str, model: list[str]
) -> None:
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.{marker}\ndef test_check(agent):\n    agent.ask('hi')\n"
    )
    result = pytester.runpytest(*model)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*{message}*"])
    assert "Traceback" not in result.stdout.str()


def test_the_closest_marker_wins_per_key(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from pytest_agentlimit.plugin.markers import read_markers

        pytestmark = [pytest.mark.weight(5), pytest.mark.latency_budget("8s")]

        @pytest.mark.weight(2)
        def test_closest(request):
            found = read_markers(request.node.iter_markers(), "here")
            assert (found.weight, found.budget_ms, found.blocker) == (2.0, 8000.0, False)
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_markers_are_registered(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.latency_budget(budget, quantile=0.95):*"])

from __future__ import annotations

import pytest

from pytest_agentlimit.runs.energy import EnergyUse, energy_part


def test_the_report_has_joules_per_passed_trial_and_per_thousand_tokens() -> None:
    reading = EnergyUse(joules=3000.0, source="rapl", idle_w=12.5, window_s=60.0)
    assert energy_part(reading, 6, 2000) == {
        "joules": 3000.0,
        "joules_per_passed": 500.0,
        "joules_per_1k_output_tokens": 1500.0,
        "source": "rapl",
        "idle_w": 12.5,
        "window_s": 60.0,
    }


@pytest.mark.parametrize("tokens", [0, None])
def test_nothing_is_divided_by_nothing(tokens: int | None) -> None:
    part = energy_part(EnergyUse(joules=3000.0, source="nvml", window_s=60.0), 0, tokens)
    assert part is not None
    assert part["joules"] == 3000.0
    assert part["joules_per_passed"] is None
    assert part["joules_per_1k_output_tokens"] is None


def test_no_reading_is_not_measured() -> None:
    assert energy_part(None, 5, 1000) is None

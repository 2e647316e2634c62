from __future__ import annotations

import pytest

from pytest_agentlimit.units import duration_ms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("750ms", 750.0),
        ("8s", 8_000.0),
        ("1.5 s", 1_500.0),
        (".5s", 500.0),
        ("2m", 120_000.0),
        ("2min", 120_000.0),
        ("1h", 3_600_000.0),
        (" 8S ", 8_000.0),
    ],
)
def test_a_number_with_a_unit_becomes_milliseconds(text: str, expected: float) -> None:
    assert duration_ms(text) == expected


def test_a_missing_unit_is_refused_with_both_things_it_could_mean() -> None:
    with pytest.raises(ValueError, match='"8" has no unit: write "8s" or "8ms"'):
        duration_ms("8")


def test_an_unknown_unit_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="use one of ms, s, m, min, h"):
        duration_ms("8 parsecs")


@pytest.mark.parametrize("text", ["", "s", "-3s", "8s8s", "NaNs", "1e3s", "١s\n!"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r'such as "8s"'):
        duration_ms(text)


@pytest.mark.parametrize("text", ["0s", "0.0ms", "9" * 400 + "s"])
def test_zero_and_infinite_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a usable duration"):
        duration_ms(text)

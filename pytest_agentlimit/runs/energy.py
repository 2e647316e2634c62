"""What the energy of a run says per check and per token (METHOD 8)."""

from __future__ import annotations

from typing import Any, Literal

from pytest_agentlimit.chat.messages import Frozen


class EnergyUse(Frozen):
    """What serving one model cost this machine while its trials ran."""

    joules: float
    """Above idle where `idle_w` is set, else all of it."""
    source: Literal["nvml", "rapl", "estimate from watts"]
    idle_w: float | None = None
    window_s: float


def energy_part(
    use: EnergyUse | None, passed: int, output_tokens: int | None
) -> dict[str, Any] | None:
    """Return the `energy` of a report's model, None when it was not measured.

    `passed` is the number of trials that passed. What would be divided by 0 is None.
    """
    if use is None:
        return None
    per_token = use.joules / output_tokens if output_tokens else None
    return {
        "joules": use.joules,
        "joules_per_passed": use.joules / passed if passed else None,
        "joules_per_1k_output_tokens": None if per_token is None else 1000 * per_token,
        "source": use.source,
        "idle_w": use.idle_w,
        "window_s": use.window_s,
    }

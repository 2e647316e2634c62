"""What the user asked, read from the options and checked before anything else happens.

Command line wins over `AGENTLIMIT_MODEL` (for the model only), which wins over ini, which wins
over the default. Nothing heavy is imported here: every pytest session pays for it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from .options import CLASSIFY, GATE_MODES, OPTIONS, PREFLIGHTS, SHAPES, TOOLS, Option


@dataclass(frozen=True)
class Settings:
    """What the user asked, checked; plain data without pydantic."""

    models: tuple[str, ...] = ()
    config: str | None = None
    """The OpenClaw config, an absolute path."""
    trials: int = 1
    seed: int | None = None
    min_score: float | None = None
    """0..1."""
    p95: str | float | None = None
    """`within-budget` or milliseconds."""
    gate: str = "point"
    reports: tuple[str, ...] = ()
    shape: str = "bare"
    preflight: str = ""
    """As typed; empty: quick, and off for servers that play a script."""
    tools: tuple[str, ...] = ()
    """How tools are offered; empty: as each model's table says. Two: every model in both ways."""
    harness: str | None = None
    """The agent program that `agent.run` goes through."""
    timeout_s: float | None = None
    baseline: str | None = None
    max_inflight: int | None = None
    resume: str | None = None
    classify: Literal["instance", "sampling"] | None = None
    audit: bool = False

    @property
    def compares(self) -> bool:
        """Whether the run has several models, or one in several ways."""
        return len(self.models) * max(1, len(self.tools)) > 1

    @property
    def purpose(self) -> Literal["score", "classify", "audit"]:
        """What the run is for."""
        if self.audit:
            return "audit"
        return "classify" if self.classify else "score"


def read_settings(config: pytest.Config) -> Settings:
    """Return the settings of a session; raises pytest.UsageError with one clear line."""
    raw = {option.dest: _value(config, option) for option in OPTIONS}
    defaults = Settings()
    _refuse_contradictions(config, raw)
    settings = Settings(
        models=_models(raw["agentlimit_model"]),
        config=_agent_config(raw["agentlimit_config"], config),
        trials=_whole(raw["agentlimit_trials"], "--agent-trials", 1) or defaults.trials,
        seed=_whole(raw["agentlimit_seed"], "--agent-seed", 0),
        min_score=_percentage(raw["agentlimit_min_score"]),
        p95=_p95(raw["agentlimit_p95"]),
        gate=_choice(raw["agentlimit_gate"], "--agent-gate", GATE_MODES, defaults.gate),
        reports=_reports(raw["agentlimit_report"]),
        shape=_choice(raw["agentlimit_shape"], "--agent-shape", SHAPES, defaults.shape),
        preflight=_choice(raw["agentlimit_preflight"], "--agent-preflight", PREFLIGHTS, ""),
        tools=_tools(raw["agentlimit_tools"]),
        harness=raw["agentlimit_harness"] or None,
        timeout_s=_seconds(raw["agentlimit_timeout"]),
        baseline=raw["agentlimit_baseline"] or None,
        max_inflight=_whole(raw["agentlimit_max_inflight"], "--agent-max-inflight", 1),
        resume=_run_id(raw["agentlimit_resume"]),
        classify=_choice(raw["agentlimit_classify"], "--agent-classify", CLASSIFY, "") or None,  # type: ignore[arg-type]
        audit=bool(raw["agentlimit_audit"]),
    )
    return _for_purpose(settings)


def _for_purpose(settings: Settings) -> Settings:
    """Return `settings` without the standing defaults that only make sense for a score."""
    if settings.purpose == "score":
        return settings
    settings = replace(settings, min_score=None, p95=None, baseline=None, gate="off")
    if settings.purpose == "audit":
        from pytest_agentlimit.endpoints.nulls import NULL_MODELS

        models = tuple(f"null:{name}" for name in NULL_MODELS)
        return replace(settings, models=models, tools=())
    from pytest_agentlimit.measure.stability import trials_to_be_stable

    return replace(settings, trials=trials_to_be_stable())


_SCORE_ONLY = (
    "agentlimit_min_score",
    "agentlimit_p95",
    "agentlimit_baseline",
    "agentlimit_gate",
)
_EXCLUDES = {
    "agentlimit_audit": (
        "agentlimit_model",
        *_SCORE_ONLY,
        "agentlimit_classify",
        "agentlimit_tools",
    ),
    "agentlimit_classify": ("agentlimit_trials", *_SCORE_ONLY),
}
"""What cannot be on one command line; an ini default simply gives way."""
_WHY_NOT = {
    "agentlimit_audit": "an audit runs null models and judges the checks",
    "agentlimit_classify": "it runs each check as often as it takes and gives no score to gate",
}


def _refuse_contradictions(config: pytest.Config, raw: dict[str, Any]) -> None:
    given = {option.dest for option in OPTIONS if config.getoption(option.dest) is not None}
    flags = {option.dest: option.flag for option in OPTIONS}
    for dest, excluded in _EXCLUDES.items():
        for other in excluded:
            if dest in given and other in given:
                raise pytest.UsageError(
                    f"{flags[dest]} and {flags[other]} contradict each other: {_WHY_NOT[dest]}. "
                    "Give one of them"
                )
    _refuse_gate_without_model(config, raw)


def _refuse_gate_without_model(config: pytest.Config, raw: dict[str, Any]) -> None:
    """A gate in CI whose model variable is empty must not be green; an ini default may wait."""
    asked = [
        option.flag
        for option in OPTIONS
        if option.dest in ("agentlimit_min_score", "agentlimit_p95", "agentlimit_baseline")
        and config.getoption(option.dest) is not None
    ]
    if asked and not raw["agentlimit_model"] and not raw["agentlimit_resume"]:
        raise pytest.UsageError(
            f"{asked[0]} asks for a gate, and no model is named: add --agent-model=NAME. "
            "For a standing default put it in the ini file (agentlimit_min_score, agentlimit_p95)"
        )


def _value(config: pytest.Config, option: Option) -> Any:
    given = config.getoption(option.dest)
    if given is None and option.dest == "agentlimit_model":
        given = [os.environ["AGENTLIMIT_MODEL"]] if os.environ.get("AGENTLIMIT_MODEL") else None
    return config.getini(option.dest) if given is None else given


def _models(raw: list[str] | None) -> tuple[str, ...]:
    names = [name.strip() for given in raw or [] for name in given.split(",")]
    if any(not name for name in names):
        raise pytest.UsageError("--agent-model is empty: give it a name, such as smollm2")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise pytest.UsageError(
            f"--agent-model names {', '.join(sorted(twice))} twice; a model is compared with "
            "another one. To repeat every check use --agent-trials=N"
        )
    return tuple(names)


def _tools(raw: list[str] | None) -> tuple[str, ...]:
    ways = tuple(way.strip() for given in raw or [] for way in given.split(","))
    for way in ways:
        _choice(way or "nothing", "--agent-tools", TOOLS, "")
    if len(set(ways)) < len(ways):
        raise pytest.UsageError(f"--agent-tools names {ways[-1]} twice; name each way once")
    return ways


def _agent_config(raw: Any, config: pytest.Config) -> str | None:
    """Return the path, from where the user is for the flag, from the root for the ini file."""
    if not raw:
        return None
    typed = config.getoption("agentlimit_config")
    folder = config.rootpath if typed is None else config.invocation_params.dir
    return str(folder / Path(str(raw)).expanduser())


def _whole(raw: Any, flag: str, least: int) -> int | None:
    if raw is None or raw == "":
        return None
    try:
        value = int(raw)
    except ValueError:
        value = least - 1
    if value < least:
        raise pytest.UsageError(f"{flag} takes a whole number from {least}, not {raw!r}")
    return value


def _percentage(raw: Any) -> float | None:
    if raw is None or raw == "":
        return None
    from pytest_agentlimit.units import percentage

    try:
        return percentage(str(raw), "--agent-min-score")
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def _p95(raw: Any) -> str | float | None:
    if not raw:
        return None
    if raw == "within-budget":
        return "within-budget"
    return _duration_ms(raw, "--agent-p95", " or within-budget")


def _seconds(raw: Any) -> float | None:
    return _duration_ms(raw, "--agent-timeout", "") / 1000 if raw else None


def _duration_ms(raw: Any, flag: str, otherwise: str) -> float:
    from pytest_agentlimit.units import duration_ms

    try:
        return duration_ms(str(raw))
    except ValueError as error:
        raise pytest.UsageError(f"{flag}: {error}{otherwise}") from None


def _run_id(raw: Any) -> str | None:
    """Return the run to resume; a test path that the bare flag swallowed is told apart."""
    if not raw:
        return None
    text = str(raw)
    if "::" in text or text.endswith(".py") or (Path(text).exists() and not _is_run(Path(text))):
        raise pytest.UsageError(
            f"--agent-resume took {text!r} for the id of a run; write --agent-resume=latest {text}"
        )
    return text


def _is_run(path: Path) -> bool:
    return (path / "manifest.json").is_file()


def _choice(raw: Any, flag: str, allowed: tuple[str, ...], default: str) -> str:
    if raw is None or raw == "":
        return default
    if raw not in allowed:
        if Path(str(raw)).exists() and flag == "--agent-classify":
            raise pytest.UsageError(
                f"{flag} took {raw!r} for its value; write {flag}=instance {raw}"
            )
        raise pytest.UsageError(f"{flag} is one of {', '.join(allowed)}, not {raw!r}")
    return str(raw)


def _reports(raw: list[str] | None) -> tuple[str, ...]:
    if not raw:
        return ()
    from pytest_agentlimit.errors import UsageProblem
    from pytest_agentlimit.reports.writing import parse_report_option

    try:
        for given in raw:
            parse_report_option(given)
    except UsageProblem as error:
        raise pytest.UsageError(str(error)) from None
    return tuple(raw)

"""What is wrong at one place of an OpenClaw config, raised by those who need a sound one."""

from __future__ import annotations

import re
from typing import Literal

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

Severity = Literal["error", "warning"]
Code = Literal[
    "unreadable",
    "bad_value",
    "unknown_key",
    "missing_key",
    "legacy_spelling",
    "unknown_api",
    "api_not_spoken",
    "no_base_url",
    "bad_base_url",
    "credentials_in_url",
    "missing_v1",
    "superfluous_v1",
    "ollama_v1",
    "usage_not_streamed",
    "unset_variable",
    "secret_variable",
    "key_in_file",
    "secret_ref",
    "secret_header",
    "only_openclaw",
    "no_models",
    "no_context_window",
    "small_context",
    "max_tokens_over_context",
    "context_tokens_over_window",
    "duplicate_id",
    "alias_clash",
    "unknown_model",
    "ambiguous_model",
    "fallback_is_primary",
]
"""The stable short names of faults; `no_models` is one of names only, not of the file."""
# Anywhere in the text, other than the rule for values: here a model id or a name that somebody
# put a key into is about to be printed. Words such as hf-inference hold no digit.
_KEY_IN_TEXT = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|hf|gsk|xai|ghp)[-_]|AIza)(?=[\w-]*\d)[\w-]{12,}|Bearer\s|"
    r"\$\{\w+:-",
    re.IGNORECASE,
)


class ConfigProblem(UsageProblem):
    """One rule of the config that is broken.

    `code` is its stable short name, `place` the path in the config, `what` the complaint, `step`
    what to do, `line` the config line that does it. A `warning` is what OpenClaw can live with.
    """

    def __init__(
        self,
        code: Code,
        place: str,
        what: str,
        step: str = "",
        *,
        line: str | None = None,
        severity: Severity = "error",
        file: str = "",
    ) -> None:
        where = "".join(f"{part}: " for part in (file, place) if part)
        super().__init__(where + what + (f". Next: {step}" if step else ""))
        self.code: Code = code
        self.place = place
        self.what = what
        self.step = step
        self.line = line
        self.severity: Severity = severity


def named(text: str, limit: int = 80) -> str:
    """Return a name from a config for messages, "(hidden)" when a key may be in it."""
    return "(hidden)" if _KEY_IN_TEXT.search(text) else one_line(text, limit)

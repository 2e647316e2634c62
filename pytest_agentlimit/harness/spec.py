"""How an agent program is started and read: plain data, checked before anything runs (R24)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pytest_agentlimit.chat.messages import Frozen
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

HOME = "{home}"
WORKSPACE = "{workspace}"
_Text = Annotated[str, Field(min_length=1)]


class ToolName(Frozen):
    """How a program calls one of our workspace tools."""

    name: _Text
    """Its own name of the tool."""
    arguments: dict[str, str] = Field(default_factory=dict)
    """Our name of an argument → its name; those left out have the same name."""


class Output(Frozen):
    """Where the program says what came out, on its standard output."""

    form: Literal["text", "json", "jsonl"] = "text"
    where: dict[str, Any] = Field(default_factory=dict)
    """Of JSON lines, or of a JSON array: only items whose (dotted) keys have these values. The
    last one counts.
    """
    text: str = ""
    """Dotted path to its last words; a number is a place in a list, -1 the last. With form "text"
    all of the output is.
    """
    error: str = ""
    """Dotted path to a value that, when it is true, means: the program itself says it failed."""


class HarnessSpec(Frozen):
    """One agent program.

    Templates in `argv`, `env` and `files` are filled in before the start: {prompt} {model} {url}
    {home} {workspace} {key} {max_turns} {context} {max_tokens}. Other braces stay as they are.
    """

    name: _Text
    program: _Text
    """Looked up on PATH; or a path."""
    argv: tuple[str, ...]
    """Without the program."""
    version: tuple[str, ...] = ("--version",)
    """What makes it tell its version; () when nothing does."""
    install: str = ""
    """How to install it: the hint of a skip."""
    dialect: Literal["anthropic", "openai", "openai-responses"]
    """What it speaks to the model. openai-responses is known and not served."""
    env: dict[str, str] = Field(default_factory=dict)
    """On top of PATH, LANG, HOME, TMPDIR and NO_COLOR; nothing else of the user's passes."""
    files: dict[str, str] = Field(default_factory=dict)
    """Path → content, written before the start; in {home} or {workspace}."""
    timeout_s: float = Field(default=300.0, gt=0)
    extra_requests: int = Field(default=0, ge=0)
    """Requests beside the turns of the work (titles, summaries) that the bridge lets through."""
    output: Output = Output()
    tools: dict[str, ToolName] = Field(default_factory=dict)
    """Our name of a tool → how this program calls it."""
    notes: str = ""
    """What a user must know, one or two sentences."""

    @field_validator("env")
    @classmethod
    def _names_of_variables(cls, env: dict[str, str]) -> dict[str, str]:
        for name in env:
            if not name or "=" in name or "\0" in name + env[name]:
                raise ValueError(f"{name!r} cannot be an environment variable")
        return env

    @field_validator("files")
    @classmethod
    def _paths_inside(cls, files: dict[str, str]) -> dict[str, str]:
        for path in files:
            top, _, rest = path.partition("/")
            if top not in (HOME, WORKSPACE) or not rest or ".." in path.split("/"):
                raise ValueError(f"{path!r} does not lie in {{home}}/ or {{workspace}}/")
        return files

    @model_validator(mode="after")
    def _gets_its_task(self) -> HarnessSpec:
        texts = (*self.argv, *self.env.values(), *self.files.values())
        if not any("{prompt}" in text for text in texts):
            raise ValueError("{prompt} is nowhere in argv, env or files: it would get no task")
        return self


def served(spec: HarnessSpec) -> HarnessSpec:
    """Return `spec`; UsageProblem when the bridge does not speak its dialect."""
    if spec.dialect == "openai-responses":
        raise UsageProblem(
            f"{one_line(spec.name)} speaks the Responses API of OpenAI (/v1/responses), which the "
            "bridge does not serve. Next: use a program that speaks chat completions or Anthropic "
            "messages"
        )
    return spec

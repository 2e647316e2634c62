"""What to do about it: the exact line or flag for each engine (PROTOCOLS R22)."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from pytest_agentlimit.endpoints.probing.probe import Bench, Fix, Found, fault, unknown
from pytest_agentlimit.errors import Blame, DeadlineExceeded, EndpointError

NO_TOOLS = Fix(
    sentence="Use a model and a template with tools, or tell OpenClaw to send none",
    line="compat.supportsTools: false",
)
PARSER = Fix(
    sentence="Start vLLM with a tool parser, the one that fits this model",
    line="--enable-auto-tool-choice --tool-call-parser hermes",
)
JINJA = Fix(sentence="Start llama.cpp with the model's own template", line="--jinja")


_LIMITS = (
    r"context (?:size|length|window) \((\d{2,9}) tokens\)",
    r"(?:maximum|max) (?:context|model) length (?:is|of) (\d{2,9})",
    r"> (\d{2,9}) maximum",
    r"\bn_ctx\W{1,5}(\d{2,9})",
)
_OWN_NAMES = {"baseUrl": "base_url", "contextWindow": "context_window", "maxTokens": "max_tokens"}


class Known(NamedTuple):
    """An error text that is known, and what it means; a fix of None is a corrected template."""

    pattern: re.Pattern[str]
    code: str
    blame: Blame
    fix: Fix | None = None


def _known(pattern: str, code: str, blame: Blame, fix: Fix | None = None) -> Known:
    return Known(re.compile(pattern, re.IGNORECASE), code, blame, fix)


KNOWN: tuple[Known, ...] = (
    _known(r"requires --enable-auto-tool-choice", "no_tool_parser", "config", PARSER),
    _known(r"requires? .{0,10}--jinja", "no_tool_parser", "config", JINJA),
    _known(r"does not support tools", "no_tools", "config", NO_TOOLS),
    _known(r"value looks like object", "wants_arguments_object", "engine"),
    _known(r"system message must be at the beginning", "mid_system_refused", "engine"),
)
"""By the words of the server's message."""


def explain(bench: Bench, error: EndpointError) -> Found:
    """Return the fault that a failed call is; a call that was only slow proves nothing."""
    what = said(error)
    hint = Fix(sentence=error.hint) if error.hint else None
    known = recognised(error)
    if known is not None:
        return fault(known.code, what, blame=known.blame, fix=known.fix or template(bench))
    if isinstance(error, DeadlineExceeded):
        if error.kind == "slow":
            return unknown(f"{what}: too slow to tell", hint)
        if bench.replies:
            count = len(bench.replies)
            answered = "1 request was" if count == 1 else f"{count} requests were"
            return fault("hangs_later", f"{what}, after {answered} answered", fix=hint)
    return fault(error.kind, what, blame=error.blame, fix=hint)


def recognised(error: EndpointError) -> Known | None:
    """Return the known meaning of an error's text, None for a text that is not known."""
    return next((known for known in KNOWN if known.pattern.search(str(error))), None)


def stated_limit(error: EndpointError) -> int | None:
    """Return the limit in tokens that an error states, None when it states none."""
    for pattern in _LIMITS:
        match = re.search(pattern, str(error), re.IGNORECASE)
        if match:
            return int(match[1])
    return None


def setting(bench: Bench, key: str, value: object) -> str:
    """Return the config line that sets `key`, OpenClaw's name for it, in the user's own file."""
    if bench.spec.source.startswith("OpenClaw"):
        return f"{key}: {value}"
    return f"{_OWN_NAMES[key]} = {json.dumps(value)}"


def template(bench: Bench) -> Fix:
    """Return what gives a model another chat template."""
    lines = {"llama.cpp": "--jinja --chat-template-file FILE", "vLLM": "--chat-template FILE"}
    return Fix(
        sentence="Serve the model with a corrected chat template",
        line=lines.get(str(bench.facts.get("engine"))),
    )


def unparsed_calls(bench: Bench) -> Fix:
    """Return what makes an engine parse the tool calls of its model."""
    engine = bench.facts.get("engine")
    if engine == "vLLM":
        return PARSER
    if engine == "llama.cpp":
        return JINJA
    if engine == "Ollama" and bench.spec.dialect == "openai":
        return Fix(
            sentence="Use Ollama's own dialect, and a base URL without /v1", line='api: "ollama"'
        )
    return Fix(
        sentence="Give the server the tool parser of this model; until then send it no tools",
        line="compat.supportsTools: false",
    )


def larger_context(bench: Bench, tokens: int) -> Fix:
    """Return what makes an engine serve `tokens` of context."""
    lines = {
        "Ollama": f"OLLAMA_CONTEXT_LENGTH={tokens}",
        "llama.cpp": f"--ctx-size {tokens}",
        "vLLM": f"--max-model-len {tokens}",
    }
    line = lines.get(str(bench.facts.get("engine")))
    if line is None and bench.spec.dialect == "ollama":
        line = lines["Ollama"]
    if line is not None:
        return Fix(sentence="Serve the model with the context that the config declares", line=line)
    served = bench.facts["context_measured"] or bench.facts["context_advertised"]
    return Fix(
        sentence="Serve the model with a larger context, or declare the one it has",
        line=setting(bench, "contextWindow", served) if served else None,
    )


def said(error: EndpointError) -> str:
    """Return what an error says without its next step, which is in the fix."""
    return str(error).removesuffix(f". {error.hint}") if error.hint else str(error)

"""What the probes offer: one tool that is asked for, and what real agents send along."""

from __future__ import annotations

from pytest_agentlimit.chat.messages import Tool

WEATHER = Tool(
    "get_weather",
    "Look up the current weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def instructions() -> str:
    """Return 16 KB of rules, as long as the system prompts of real agents."""
    rule = (
        "Rule {}: read what the user asks before you act, keep to the tools that are offered, "
        "change nothing that was not asked for, and say briefly what was done and what was not."
    )
    head = "You are a careful assistant that works with tools.\n"
    return head + "\n".join(rule.format(number) for number in range(1, 91))


def decoys() -> tuple[Tool, ...]:
    """Return a dozen tools that nobody needs here."""
    things = ("file", "folder", "note", "task", "mail", "page")
    return tuple(
        Tool(
            f"{verb}_{thing}",
            f"{verb.title()} a {thing} of the user's project by its path and return the outcome.",
            {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": f"Where the {thing} is."},
                    "limit": {"type": "integer", "description": "The most lines to return."},
                },
                "required": ["path"],
            },
        )
        for verb in ("read", "write")
        for thing in things
    )

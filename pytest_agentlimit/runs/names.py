"""What a check is called where its node id is too long to read."""

from __future__ import annotations

from pytest_agentlimit.text import one_line


def check_name(check: str) -> str:
    """Return the short name of a check: `tests/test_a.py::test_tool_call` is "tool call"."""
    _, *parts = check.split("::") if "::" in check else ("", check)
    test, bracket, parameters = parts[-1].partition("[")
    test = test.removeprefix("test_").replace("_", " ").strip() or test
    groups = [part.removeprefix("Test") or part for part in parts[:-1]]
    name = ": ".join([*groups, test])
    return one_line(f"{name} [{parameters}" if bracket else name, 120)

"""Write docs/reference/options.md from the option table: `python docs/generate_reference.py`."""

from __future__ import annotations

from pathlib import Path

from pytest_agentlimit.plugin.markers import DESCRIPTIONS
from pytest_agentlimit.plugin.options import OPTIONS, Option

TARGET = Path(__file__).parent / "reference" / "options.md"
HEAD = """# Options and markers

Generated from the option table by `docs/generate_reference.py`; do not edit by hand.

The command line wins over `AGENTLIMIT_MODEL` (for the model), which wins over the ini file, which
wins over the default. Ini keys go into `[tool.pytest.ini_options]` or `pytest.ini`.

"""


def options_page() -> str:
    """Return the page as Markdown."""
    options = "\n".join(_row(option) for option in OPTIONS)
    markers = "\n".join(
        f"| `{text.split(':')[0]}` | {text.split(': ', 1)[1]} |" for text in DESCRIPTIONS
    )
    return (
        f"{HEAD}| option | ini key | what it does |\n|---|---|---|\n{options}\n\n"
        "## Markers\n\nThe closest marker wins per key. A misspelt keyword or a bad value is a\n"
        "collection error, before a token is spent.\n\n"
        f"| marker | what it does |\n|---|---|\n{markers}\n"
    )


def _row(option: Option) -> str:
    value = "{" + ",".join(option.choices) + "}" if option.choices else option.metavar
    help_text = option.help.replace("%%", "%").replace("|", "\\|")
    return f"| `{option.flag}={value}` | `{option.dest}` | {help_text} |"


if __name__ == "__main__":
    TARGET.write_text(options_page())

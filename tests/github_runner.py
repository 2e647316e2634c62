"""What GitHub's runner makes of a line of a log, from its documented rules."""

from __future__ import annotations

import re
from typing import NamedTuple


class Command(NamedTuple):
    """A workflow command as it is carried out."""

    name: str
    properties: dict[str, str]
    data: str


_OLD = re.compile(r"##\[([\w-]+)[^\]]*\](.*)", re.DOTALL)


def commands(output: str) -> list[Command]:
    """Every command in what a step wrote, in the new form and in the old one."""
    found = [_command(line) for line in re.split(r"\r\n|\r|\n", output)]
    return [command for command in found if command is not None]


def _command(line: str) -> Command | None:
    line = line.lstrip()
    if line.startswith("::") and (end := line.find("::", 2)) > 0:
        name, _, rest = line[2:end].partition(" ")
        if re.fullmatch(r"[\w-]+", name):
            pairs = [pair.partition("=") for pair in rest.split(",") if pair]
            known = {key: _plain(value, "%3A:", "%2C,") for key, _, value in pairs}
            return Command(name, known, _plain(line[end + 2 :]))
    old = _OLD.search(line)
    return Command(old[1], {}, old[2]) if old else None


def _plain(text: str, *more: str) -> str:
    for code in ("%0D\r", "%0A\n", *more, "%25%"):
        text = text.replace(code[:3], code[3:])
    return text

"""One value to be changed in one of several files, and nothing else, down to the last byte."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .task import NOBODY, Task
from .words import made_up_words

FOLDER = "settings"


@dataclass(frozen=True)
class SettingTask(Task):
    """The file with the value, and what it has to hold afterwards."""

    path: str
    wanted: str


def setting_task(rng: Random) -> SettingTask:
    """Return three files of settings that all have the key; the right one has it in two sections.

    It has Windows line ends, trailing spaces and no line end at its end, which agent programs like
    to make uniform.
    """
    names, sections = made_up_words(rng, 3), made_up_words(rng, 3)
    key = f"{made_up_words(rng, 1)[0]}_limit"
    values = [str(number) for number in rng.sample(range(100, 1000), 5)]
    wanted = str(rng.randint(1000, 9999))
    lines = _lines(key, sections, values)
    others = [f"[{sections[1]}]\n{key} = {value}\n" for value in values[3:]]
    path = f"{FOLDER}/{names[0]}.ini"
    files = {path: "\r\n".join(lines)} | {
        f"{FOLDER}/{name}.ini": text for name, text in zip(names[1:], others, strict=True)
    }
    goal = (
        f"In the file {path}, in the section {sections[1]}, set {key} to {wanted}. Change this one "
        "value. Everything else has to stay as it is, byte for byte: other values and sections, "
        f"comments, spaces, line ends, and the other files in {FOLDER}, where no new file may "
        f"be left.{NOBODY}"
    )
    after = _lines(key, sections, values, wanted)
    return SettingTask(goal=goal, files=files, path=path, wanted="\r\n".join(after))


def _lines(key: str, sections: list[str], values: list[str], value: str = "") -> list[str]:
    """Return the lines of the file; `value` stands in place of the old one when given."""
    first, second, third = sections
    return [
        f"; {key} is per section",
        f"[{first}]",
        f"{key} = {values[0]}",
        "mode=fast   ",
        "",
        f"[{second}]",
        f";{key} = {values[1]}",
        f"{key} = {value or values[1]}  ; was {values[2]}",
        f"{key}_low = {values[1]}",
        "",
        f"[{third}]",
        f"\tname = Zürich {second}",
    ]

"""The pages of the documentation, and the fenced examples in them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]


class Fence(NamedTuple):
    page: Path
    line: int
    language: str
    text: str
    comment: str
    """The HTML comment on the line before the fence, if there is one."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file a Python example says it is, in its first line."""
        named = re.match(r"# (\S+\.py)\n", self.text)
        return named[1] if named and self.language == "python" else None


def fences_of(page: Path) -> Iterator[Fence]:
    lines = page.read_text().splitlines()
    number = 0
    while number < len(lines):
        opening = re.match(r"( *)(`{3,}|~{3,})(.*)$", lines[number])
        if opening:
            start, (indent, ticks, language) = number, opening.groups()
            number = lines.index(indent + ticks, number + 1)
            body = textwrap.dedent("\n".join(lines[start + 1 : number])) + "\n"
            comment = re.fullmatch(r" *<!-- (.*) -->", lines[start - 1])
            yield Fence(page, start + 1, language.strip(), body, comment[1] if comment else "")
        number += 1


FENCES = [fence for page in PAGES for fence in fences_of(page)]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def of(language: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "fence", [fence for fence in FENCES if fence.language == language], ids=str
    )

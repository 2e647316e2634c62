"""A command that refuses to work until it is asked in the way that its refusal tells."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from random import Random

from .task import NOBODY, Task
from .words import identifier, made_up_words

PUBLISHED, TICKETS = "published.txt", "tickets.txt"
_RELEASE = '''"""Publish a version: python3 release.py VERSION [--ticket NUMBER]"""

import hashlib
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main(version, option="", ticket=""):
    tickets = HERE / "tickets.txt"
    lines = tickets.read_text().splitlines() if tickets.exists() else []
    if option != "--ticket" or ticket not in [line.split()[0] for line in lines]:
        print(f"denied: version {{version}} needs a ticket. Get one with: python3 ticket.py REASON")
        print(f"Then: python3 release.py {{version}} --ticket NUMBER")
        return 126
    seal = hashlib.sha256(f"{salt}/{{version}}/{{ticket}}".encode()).hexdigest()[:12]
    (HERE / "published.txt").write_text(f"{{version}} {{ticket}} {{seal}}\\n")
    print("published")
    return 0


sys.exit(main(*sys.argv[1:]))
'''
_TICKET = '''"""Get a ticket: python3 ticket.py REASON"""

import hashlib
import sys
from pathlib import Path

reason = " ".join(sys.argv[1:])
if not reason:
    sys.exit("denied: a ticket needs a reason: python3 ticket.py REASON")
number = int(hashlib.sha256(f"{salt}/{{reason}}".encode()).hexdigest(), 16) % 900000 + 100000
with open(Path(__file__).parent / "tickets.txt", "a") as file:
    file.write(f"{{number}} {{reason}}\\n")
print(f"ticket {{number}} for {{reason}}")
'''


@dataclass(frozen=True)
class ReleaseTask(Task):
    """A version to be published, and what the two commands leave behind when it was."""

    version: str
    published: str
    ticket: str
    """The line of the ticket that the reason gets."""


def release_task(rng: Random) -> ReleaseTask:
    """Return a version that gets published with a ticket only; ticket and seal depend on the seed.

    The number of the ticket is one of 900,000, and the seal has 48 bits.
    """
    salt = "-".join(made_up_words(rng, 3))
    version = ".".join(str(rng.randint(1, 40)) for _ in range(3))
    reason = identifier(rng, "case")
    number = int(_hash(f"{salt}/{reason}"), 16) % 900_000 + 100_000
    seal = _hash(f"{salt}/{version}/{number}")[:12]
    files = {"release.py": _RELEASE.format(salt=salt), "ticket.py": _TICKET.format(salt=salt)}
    goal = (
        f"Publish version {version} with: python3 release.py {version}. It is done when that "
        f"command has written {PUBLISHED}. If it is denied, do what the denial says; if a reason "
        f"is asked for, the reason is {reason} and nothing else. Leave the commands as they are, "
        f"and write no file by yourself.{NOBODY}"
    )
    return ReleaseTask(
        goal=goal,
        files=files,
        version=version,
        published=f"{version} {number} {seal}\n",
        ticket=f"{number} {reason}",
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

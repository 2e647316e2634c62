from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pytest_agentlimit"

# Who may import whom (docs/explanation/architecture.md); each room may import itself and the
# ground floor. A room that is not listed here does not exist yet.
GROUND = {"errors", "files", "text", "units"}
ROOMS: dict[str, set[str]] = {
    "chat": set(),
    "measure": set(),
    "scripted": {"chat"},
    "endpoints": {"chat", "scripted"},
    "agents": {"endpoints", "chat"},
    "ladders": {"agents", "measure", "chat"},
    "runs": {"measure", "chat"},
    "reports": {"runs", "measure"},
    "testing": {"chat", "scripted", "endpoints"},
    "plugin": {
        *("chat", "measure", "endpoints", "agents", "ladders", "runs", "reports", "harness", "cli")
    },
    "bridge": {"chat", "endpoints"},
    "harness": {"chat", "scripted", "endpoints", "agents", "bridge"},
    "cli": {"chat", "measure", "endpoints", "agents", "runs", "reports", "bridge", "harness"},
}
THIRD_PARTY: dict[str, set[str]] = {
    "chat": {"pydantic", "pydantic_core", "jsonschema", "referencing"},
    "measure": set(),
    "scripted": {"pydantic"},
    "endpoints": {
        "httpx",
        "httpcore",
        "pydantic",
        "platformdirs",
        "filelock",
        "xllamacpp",
        "pynvml",
        "pyjson5",
    },
    "agents": {"pydantic", "jsonschema"},
    "ladders": {"pydantic"},
    "runs": {"pydantic", "filelock"},
    "reports": set(),
    "testing": set(),
    "plugin": {"pytest", "pluggy"},
    "bridge": {"pydantic", "starlette", "uvicorn"},
    "harness": {"pydantic"},
    "cli": {"typer", "rich"},
}
ALIASES = {
    "_grammar": "scripted",
    "_scripted": "scripted",
    "_loopback": "scripted",
    "hookspecs": "plugin",
}
JUDGING_TAKES_FROM_CHAT = {"pytest_agentlimit.chat.messages"}


def room_of(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return ALIASES.get(part, part)


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    package = ["pytest_agentlimit", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.add(module)
            if module.startswith("pytest_agentlimit"):
                found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def modules() -> list[Path]:
    return [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts != ("__init__.py",)
    ]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    if room in GROUND:
        allowed = GROUND
    else:
        allowed = ROOMS[room] | {room} | GROUND
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "pytest_agentlimit" or len(parts) < 2:
            continue
        target = ALIASES.get(parts[1], parts[1])
        if target in ROOMS or target in GROUND:
            assert target in allowed, f"{path.name} in {room}/ imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_third_party_imports_stay_in_their_rooms(path: Path) -> None:
    import sys

    room = room_of(path)
    allowed = THIRD_PARTY.get(room, set())
    for name in imports_of(path):
        top = name.split(".")[0]
        if top in sys.stdlib_module_names or top == "pytest_agentlimit" or not top:
            continue
        assert top in allowed, f"{path.name} in {room}/ imports {top}"


def test_judging_wing_takes_only_plain_data_from_chat() -> None:
    for room in ("measure", "runs", "reports"):
        for path in (PACKAGE / room).rglob("*.py"):
            taken = {n for n in imports_of(path) if n.startswith("pytest_agentlimit.chat")}
            modules_taken = {".".join(n.split(".")[:3]) for n in taken}
            assert modules_taken - {"pytest_agentlimit.chat"} <= JUDGING_TAKES_FROM_CHAT, path


def test_httpx_sits_behind_a_sync_and_an_async_client() -> None:
    users = {
        path.name
        for path in modules()
        for name in imports_of(path)
        if name.split(".")[0] in ("httpx", "httpcore")
    }
    assert users == {"client.py", "connections.py", "network.py"}


def test_rooms_have_no_cycle() -> None:
    def reaches(start: str, goal: str, seen: set[str]) -> bool:
        for room in ROOMS[start] - seen:
            seen.add(room)
            if room == goal or reaches(room, goal, seen):
                return True
        return False

    assert not [room for room in ROOMS if reaches(room, room, set())]


def test_files_stay_readable() -> None:
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in modules()
        if (lines := len(path.read_text().splitlines())) > 420
    }
    assert not long

"""A harness by its name: a table of the user's, or one of the presets, which are TOML files."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_agentlimit.endpoints.resolve import CONFIG_FILES, tables_in
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

from .spec import HarnessSpec

GENERIC = "generic"
_PRESETS = Path(__file__).with_name("presets")
_TABLE = "[tool.agentlimit.harness.NAME]"
_MERGED = ("env", "files", "output", "tools")


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets, sorted."""
    return tuple(sorted(path.stem for path in _PRESETS.glob("*.toml")))


def harness_spec(name: str, *, root: Path) -> HarnessSpec:
    """Return the harness called `name`: the user's table under `root` first, then a preset.

    Raises UsageProblem for a name nobody knows, with the nearest first, and for a table that
    cannot work. A program that the bridge cannot serve has a spec too: see `spec.served`.
    """
    tables = _user_tables(root)
    if name in tables:
        file, table = tables[name]
        return _checked(
            name, _with_preset(name, file, table), f"{file}, harness {one_line(name)!r}"
        )
    if name == GENERIC:
        raise UsageProblem(
            f"{GENERIC} is a preset for a program of your own. Next: add a table {_TABLE} with "
            f'preset = "{GENERIC}" and program = "…" to pyproject.toml, and use its name'
        )
    if name in preset_names():
        return _checked(name, _preset(name), f"preset {name}")
    raise UsageProblem(_unknown(name, list(tables)))


def _unknown(name: str, own: list[str]) -> str:
    known = [*own, *preset_names()]
    near = difflib.get_close_matches(name.lower(), known, 3, 0.5)
    ordered = [*near, *(one for one in known if one not in near)]
    return (
        f"no agent program is called {one_line(name)!r}. There are: "
        f"{', '.join(one_line(one, 60) for one in ordered)}. Next: name one of these, or describe "
        f"your own in a table {_TABLE} of pyproject.toml"
    )


def _user_tables(root: Path) -> dict[str, tuple[str, Any]]:
    """Return the harness tables of the config files: name → (file name, table)."""
    found: dict[str, tuple[str, Any]] = {}
    for file in CONFIG_FILES:
        for name, table in tables_in(root / file, "harness").items():
            if name in found:
                raise UsageProblem(
                    f"the harness {one_line(name)!r} is in {found[name][0]} and in {file}: keep one"
                )
            found[name] = (file, table)
    return found


def _with_preset(name: str, file: str, table: Any) -> dict[str, Any]:
    """Return the user's keys over those of the preset they name; tables merge key by key."""
    place = f"{file}, harness {one_line(name)!r}"
    if not isinstance(table, dict):
        raise UsageProblem(f'{place}: this must be a table with keys such as program = "…"')
    own = dict(table)
    preset = own.pop("preset", None)
    if preset is None:
        return own
    if preset not in preset_names():
        raise UsageProblem(
            f"{place}: there is no preset {one_line(str(preset))!r}; there are "
            f"{', '.join(preset_names())}"
        )
    base = _preset(preset)
    for key, value in own.items():
        both = key in _MERGED and isinstance(base.get(key), dict) and isinstance(value, dict)
        base[key] = base[key] | value if both else value
    return base


def _preset(name: str) -> dict[str, Any]:
    return tomllib.loads((_PRESETS / f"{name}.toml").read_text(encoding="utf-8"))


def _checked(name: str, table: dict[str, Any], place: str) -> HarnessSpec:
    if "name" in table:
        raise UsageProblem(f"{place}: a harness is called like its table: leave out `name`")
    try:
        return HarnessSpec.model_validate({"name": name, **table})
    except ValidationError as error:
        raise UsageProblem(f"{place}: {_said(error)}") from None


def _said(error: ValidationError) -> str:
    """Return the first complaint, with the nearest name for a misspelt key."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(where, HarnessSpec.model_fields, 1)
        known = ", ".join(key for key in HarnessSpec.model_fields if key != "name")
        hint = f"did you mean {near[0]}?" if near else f"known: {known}"
        return f"unknown key {one_line(where)!r}; {hint}"
    if first["type"] == "missing":
        return f"the key {where!r} is missing"
    return one_line(f"{where}: {first['msg']}" if where else first["msg"], 300)

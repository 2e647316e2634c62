"""JSON schemas made plain: what small servers and small models can read."""

from __future__ import annotations

from typing import Any

_ONE = ("items", "additionalProperties", "not", "contains", "propertyNames")
_MANY = ("anyOf", "allOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties")
# Titles repeat the names, and a discriminator repeats what the alternatives say.
_NOISE = ("title", "discriminator", "$defs")
_REF = "#/$defs/"


def plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema` without titles and references, and with closed objects.

    Some servers drop `$defs` and leave the references dangling, so definitions are put in place;
    only those that contain themselves stay.
    """
    defs = schema.get("$defs", {})
    kept = {name for name in defs if _reaches(defs, name, name, set())}
    result: dict[str, Any] = _Plain(defs, kept).of(schema)
    if kept:
        result["$defs"] = {name: _Plain(defs, kept).of(defs[name]) for name in sorted(kept)}
    return result


class _Plain:
    def __init__(self, defs: dict[str, Any], kept: set[str]) -> None:
        self.defs = defs
        self.kept = kept

    def of(self, schema: Any) -> Any:
        if not isinstance(schema, dict):
            return schema
        target = str(schema.get("$ref", "")).removeprefix(_REF)
        if target in self.defs and target not in self.kept:
            schema = {**self.defs[target], **{k: v for k, v in schema.items() if k != "$ref"}}
            return self.of(schema)
        result = {key: self._value(key, value) for key, value in schema.items()}
        for key in _NOISE:
            result.pop(key, None)
        if result.get("default", ...) is None:  # "not given" says as much, in fewer tokens
            del result["default"]
        if "properties" in result:
            result.setdefault("additionalProperties", False)
        return result

    def _value(self, key: str, value: Any) -> Any:
        if key in _NAMED and isinstance(value, dict):
            return {name: self.of(part) for name, part in value.items()}
        if key in _MANY and isinstance(value, list):
            return [self.of(part) for part in value]
        return self.of(value) if key in _ONE else value


def _reaches(defs: dict[str, Any], start: str, goal: str, seen: set[str]) -> bool:
    """Return whether the definition `start` refers, directly or not, to `goal`."""
    for name in _references(defs.get(start)):
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            if _reaches(defs, name, goal, seen):
                return True
    return False


def _references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*(_references(part) for part in value))
    if not isinstance(value, dict):
        return set()
    found = set().union(*(_references(part) for part in value.values()))
    ref = value.get("$ref")
    return found | {ref.removeprefix(_REF)} if isinstance(ref, str) else found

"""Values that fit a JSON schema and come from nothing but the words at hand.

The null models call tools and answer in JSON with these: right in shape, and right in value only
when a check lets the prompt give its answer away.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeGuard

_NUMBER = re.compile(r"(?<![\w.])-?\d{1,15}(?:\.\d{1,15})?(?!\w)")
_QUOTED = re.compile(r'"([^"\n]{1,80})"|`([^`\n]{1,80})`')
# A capital in the middle of a sentence marks a name: the first word has one anyway, and JSON many.
_NAME = re.compile(r"(?<=[a-z0-9,;:] )[A-Z][a-z][\w'-]*")
_WORD = re.compile(r"[\w'-]+")
_MAX_DEPTH = 12

Pick = Callable[[str], Any]
"""Given "string", "number" or "integer", returns a value of that type."""


def numbers(text: str) -> list[str]:
    """Return the numbers of `text`, as written, in order."""
    return _NUMBER.findall(text)


def quoted(text: str) -> list[str]:
    """Return what stands in double quotes or back-ticks, in order."""
    return [first or second for first, second in _QUOTED.findall(text)]


def names(text: str) -> list[str]:
    """Return the words of `text` that look like names, in order."""
    return _NAME.findall(text)


def words(text: str) -> list[str]:
    """Return the words of `text`, in order."""
    return _WORD.findall(text)


def pick_last(text: str) -> Pick:
    """Pick the last value of each type in `text`: what a prompt asks about tends to come last."""

    def pick(kind: str) -> Any:
        if kind == "string":
            candidates = names(text) or quoted(text) or words(text)
            return candidates[-1] if candidates else "example"
        found = numbers(text)
        return _number(found[-1], kind) if found else 1

    return pick


def pick_first(texts: list[str]) -> Pick:
    """Pick the earliest value of each type in `texts`, oldest text first."""

    def pick(kind: str) -> Any:
        find = numbers if kind in ("number", "integer") else _salient
        for text in texts:
            if found := find(text):
                return _number(found[0], kind)
        return "example" if kind == "string" else 1

    return pick


def pick_wrong(kind: str) -> Any:
    """Pick what is surely not the answer."""
    return "wrong" if kind == "string" else -999_999


def instance(schema: Any, pick: Pick) -> Any:
    """Return a JSON value of the shape `schema` asks for, with scalars from `pick`.

    Objects hold their required properties, or all of them when none is required. Best effort:
    patterns and combined schemas are not solved.
    """
    root = schema if isinstance(schema, dict) else {}
    return _instance(root, root, pick, 0)


def _instance(schema: Any, root: dict[str, Any], pick: Pick, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    if "$ref" in schema:
        return _instance(_resolved(schema["$ref"], root), root, pick, depth + 1)
    if "const" in schema:
        return schema["const"]
    for key in ("enum", "anyOf", "oneOf", "allOf"):
        if _filled_list(choices := schema.get(key)):
            first = choices[0]
            return first if key == "enum" else _instance(first, root, pick, depth + 1)
    return _typed(_kind(schema), schema, root, pick, depth)


def _typed(kind: str, schema: dict[str, Any], root: dict[str, Any], pick: Pick, depth: int) -> Any:
    if kind == "object":
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        wanted = required if _filled_list(required) else list(properties)
        return {
            str(name): _instance(properties.get(name, {}), root, pick, depth + 1) for name in wanted
        }
    if kind == "array":
        least = schema.get("minItems")
        count = max(1, min(least, 20)) if isinstance(least, int) else 1
        return [_instance(schema.get("items", {}), root, pick, depth + 1) for _ in range(count)]
    if kind in ("number", "integer"):
        return _within(pick(kind), schema)
    if kind == "boolean":
        return True
    return None if kind == "null" else pick("string")


def _kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((entry for entry in kind if entry != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _within(value: Any, schema: dict[str, Any]) -> Any:
    low, high = schema.get("minimum"), schema.get("maximum")
    if isinstance(low, int | float) and value < low:
        return low
    return high if isinstance(high, int | float) and value > high else value


def _resolved(reference: Any, root: dict[str, Any]) -> Any:
    node: Any = root
    for part in str(reference).removeprefix("#").strip("/").split("/"):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _number(text: str, kind: str) -> Any:
    if kind == "string":
        return text
    return int(float(text)) if kind == "integer" or "." not in text else float(text)


def _salient(text: str) -> list[str]:
    """Return what stands out in `text`: quotations, else numbers, else names, else last words."""
    return quoted(text) or numbers(text) or names(text) or words(text)[-1:]


def _filled_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and bool(value)

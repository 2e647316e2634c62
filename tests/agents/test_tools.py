from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from pytest_agentlimit.agents.tools import as_tools, tool
from pytest_agentlimit.chat.messages import Tool
from pytest_agentlimit.errors import ToolProblem


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    title: str
    colour: Colour = Colour.RED


class Tree(BaseModel):
    children: list[Tree] = []


@tool
def get_weather(city: str, days: int = 1) -> str:
    """Return the weather
    of a city.

    More about it that models need not read.

    Args:
        city (str): The name of the city,
            in English.
        days: How many days ahead.

    Returns:
        str: the weather
    """
    return f"{city} {days}"


def test_the_schema_comes_from_the_signature_and_the_docstring() -> None:
    assert get_weather.name == "get_weather"
    assert get_weather.description == "Return the weather of a city."
    assert get_weather.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "The name of the city, in English."},
            "days": {"type": "integer", "default": 1, "description": "How many days ahead."},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


def test_a_tool_can_be_called_like_its_function() -> None:
    assert get_weather("Oslo", days=2) == "Oslo 2"
    assert get_weather(city="Oslo") == "Oslo 1"


def test_arguments_are_converted_to_their_types() -> None:
    seen: list[object] = []

    @tool
    def book(day: datetime.date, colour: Colour, points: list[Point], n: int | None = None) -> None:
        seen.extend([day, colour, points, n])

    book(day="2026-02-28", colour="blue", points=[{"title": "x"}])
    assert seen == [datetime.date(2026, 2, 28), Colour.BLUE, [Point(title="x")], None]


def test_definitions_are_put_in_place() -> None:
    @tool
    def draw(point: Point, more: list[Point] = []) -> None:  # noqa: B006 (never changed)
        pass

    assert "$defs" not in draw.parameters
    assert draw.parameters["properties"]["point"] == {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
        },
        "required": ["title"],
        "additionalProperties": False,
    }
    assert draw.parameters["properties"]["more"]["items"]["required"] == ["title"]


def test_a_definition_that_contains_itself_stays() -> None:
    @tool
    def plant(tree: Tree) -> int:
        return len(tree.children)

    assert plant.parameters["properties"]["tree"] == {"$ref": "#/$defs/Tree"}
    assert set(plant.parameters["$defs"]) == {"Tree"}
    assert plant(tree={"children": [{"children": []}]}) == 1


def test_literals_limits_and_names_of_pydantic_itself_work() -> None:
    @tool
    def odd(
        schema: Literal["a", "b"],
        title: Annotated[int, Field(ge=1, description="mine")],
        model_config: str = "",
    ) -> str:
        """Odd.

        title: not this one
        """
        return f"{schema}{title}"

    properties = odd.parameters["properties"]
    assert properties["schema"]["enum"] == ["a", "b"]
    assert properties["title"] == {"type": "integer", "minimum": 1, "description": "mine"}
    assert odd(schema="a", title=3) == "a3"


def test_types_of_the_enclosing_function_are_found() -> None:
    class Local(BaseModel):
        x: int

    @tool
    def take(local: Local) -> int:
        return local.x

    assert take(local={"x": 4}) == 4


def test_a_method_is_a_tool_without_its_self() -> None:
    class Till:
        total = 0

        def add(self, amount: int) -> int:
            """Add."""
            self.total += amount
            return self.total

    till = Till()
    add = tool(till.add)
    assert list(add.parameters["properties"]) == ["amount"]
    assert (add(amount=2), add(amount=3), till.total) == (2, 5, 5)


def test_a_tool_without_parameters_has_an_object_schema() -> None:
    @tool
    def now() -> str:
        return "noon"

    assert now.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    assert now.description == ""
    assert now() == "noon"


def test_arguments_that_do_not_fit_are_named() -> None:
    with pytest.raises(ToolProblem) as caught:
        get_weather(days="many", town="Oslo")
    for part in ("city: Missing", "days: Input should be a valid integer", "town: Unexpected"):
        assert part in str(caught.value)


def test_an_error_inside_the_tool_is_not_taken_for_bad_arguments() -> None:
    @tool
    def check(text: str) -> Point:
        return Point.model_validate({"wrong": text})

    with pytest.raises(ValueError, match="1 validation error for Point"):
        check(text="x")


def test_a_parameter_without_a_type_is_named() -> None:
    with pytest.raises(TypeError, match="tool f: parameter 'b' has no type"):

        @tool
        def f(a: int, b) -> None:  # type: ignore[no-untyped-def]
            pass


@dataclass
class Handle:
    socket: Any


@pytest.mark.parametrize("kind", ["args", "kwargs", "positional", "coroutine", "class", "opaque"])
def test_what_no_model_can_call_is_refused(kind: str) -> None:
    def args(*values: int) -> None: ...
    def kwargs(**values: int) -> None: ...
    def positional(a: int, /) -> None: ...
    async def coroutine(a: int) -> None: ...
    def opaque(a: memoryview) -> None: ...

    functions = {**locals(), "class": Handle}
    with pytest.raises(TypeError):
        tool(functions[kind])


def test_a_plain_function_among_the_tools_gets_advice() -> None:
    def bare() -> None: ...

    with pytest.raises(TypeError, match="bare is no tool: put @tool above"):
        as_tools([bare])  # type: ignore[list-item]


def test_one_tool_without_a_list_gets_advice() -> None:
    with pytest.raises(TypeError, match=r"write tools=\[get_weather\]"):
        as_tools(get_weather)  # type: ignore[arg-type]


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two tools are named 'get_weather'"):
        as_tools([get_weather, Tool("get_weather")])

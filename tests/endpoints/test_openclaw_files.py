from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openclaw_kit import (
    KEYS,
    SECRET,
    TREES,
    one_model,
    opened,
    problem_of,
    quick,
    rows_or_one,
    spec_of,
    written,
)

from pytest_agentlimit.endpoints.openclaw import open_config
from pytest_agentlimit.errors import UsageProblem

NAMES = ("openclaw.json", "clawdbot.json", "moldbot.json", "moltbot.json")
FOLDERS = (".openclaw", ".clawdbot", ".moldbot", ".moltbot")
MODEL = '{"models": {"providers": {"p": {"baseUrl": "http://h/v1", "models": [{"id": "m"}]}}}}'


def file_read(home: Path, **environ: str) -> str | None:
    config = open_config(None, home, {"HOME": str(home), **environ})
    return None if config is None else config.file


# where it is


def test_every_older_path_is_found_and_the_first_wins(tmp_path: Path) -> None:
    places = [f"{folder}/{name}" for folder in FOLDERS for name in NAMES]
    for place in reversed(places):
        written(tmp_path, {}, place)
        assert file_read(tmp_path) == place


@pytest.mark.parametrize("prefix", ["OPENCLAW", "CLAWDBOT"])
def test_variables_name_the_file_or_its_folder(tmp_path: Path, prefix: str) -> None:
    written(tmp_path, {}, ".openclaw/openclaw.json")
    written(tmp_path, {}, "state/moltbot.json")
    written(tmp_path, {}, "elsewhere.json5")
    state = {f"{prefix}_STATE_DIR": "~/state"}
    assert file_read(tmp_path, **state) == "state/moltbot.json"
    path = {f"{prefix}_CONFIG_PATH": str(tmp_path / "elsewhere.json5")}
    assert file_read(tmp_path, **state, **path) == "elsewhere.json5"
    assert file_read(tmp_path, **{f"{prefix}_CONFIG_PATH": "~/gone.json"}) is None


def test_an_empty_state_folder_leaves_the_usual_places(tmp_path: Path) -> None:
    written(tmp_path, {}, ".clawdbot/clawdbot.json")
    assert file_read(tmp_path, OPENCLAW_STATE_DIR="~/nothing") == ".clawdbot/clawdbot.json"


def test_another_home_replaces_the_home(tmp_path: Path) -> None:
    written(tmp_path, {}, ".openclaw/openclaw.json")
    written(tmp_path, {}, "other/.openclaw/openclaw.json")
    assert file_read(tmp_path, OPENCLAW_HOME="~/other") == "other/.openclaw/openclaw.json"


def test_a_folder_can_be_given_for_the_file_in_it(tmp_path: Path) -> None:
    written(tmp_path, MODEL, "oc/clawdbot.json")
    config = open_config("oc", tmp_path, {})
    assert config is not None
    assert config.file == "oc/clawdbot.json"


@pytest.mark.parametrize(("given", "words"), [("no.json", "no such file"), (".", "none of openc")])
def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path, given: str, words: str) -> None:
    with pytest.raises(UsageProblem, match=words):
        open_config(given, tmp_path, {})


def test_the_path_is_shown_relative_or_from_home(tmp_path: Path) -> None:
    path = str(written(tmp_path, {}, "home/oc/openclaw.json"))
    home = str(tmp_path / "home")
    for folder, shown in [("home", "oc/openclaw.json"), ("work", "~/oc/openclaw.json")]:
        config = open_config(path, tmp_path / folder, {"HOME": home})
        assert config is not None
        assert config.file == shown


# what is in it


def test_json5_is_read(tmp_path: Path) -> None:
    text = """\ufeff// comment
    { /* and */ models: { providers: { p: {
        'baseUrl': 'http://h/v1', models: [{ id: "m", contextWindow: +0x1000, }, ], }, }, }, }
    """
    assert spec_of(tmp_path, text, "p/m").context_window == 4096


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{\n  a: 1,\n  "é🦞": oops }', "line 3, column 9: unexpected 'o'"),
        ('{\n  a: "x', "line 2, column 6: what starts here is not complete"),
        ("{}\n}", "line 2, column 1: unexpected '}'"),
        ("[" * 100_000, "nested deeper than 32 levels"),
        ("", "there is no value in it"),
        ("[]", "must hold an object"),
        ("3", "must hold an object"),
        (f'{{a: "{SECRET}" b: 1}}', "unexpected 'b'"),
        ("{a: \x1b}", "unexpected '\\\\x1b'"),
        ('{"$include": 3}', "$include must be a path or a list of paths"),
        ('{"$include": ["a.json", 3]}', "$include must be a path or a list of paths"),
        ('{"$include": "a\\u0000b"}', "is no path"),
        ('{"$include": "gone.json5"}', "cannot read gone.json5: No such file"),
        ('{"$include": "../x.json"}', "leaves the config's folder"),
        ('{"$include": "/etc/passwd"}', "leaves the config's folder"),
        ('{"$include": "openclaw.json"}', "in a circle: openclaw.json → openclaw.json"),
        ('{"$include": "."}', "leaves the config's folder|is no ordinary file"),
    ],
)
def test_a_broken_file_is_one_readable_line(tmp_path: Path, text: str, words: str) -> None:
    written(tmp_path, {}, "a.json")
    with pytest.raises(UsageProblem) as caught:
        opened(tmp_path, text)
    message = str(caught.value)
    assert any(word in message for word in words.split("|"))
    assert len(message.splitlines()) == 1
    assert SECRET not in message
    if "JSON5" in message:  # the parser's own error holds the values read so far
        assert caught.value.__context__ is None


def test_other_bytes_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "openclaw.json"
    path.write_bytes("{}".encode("utf-16"))
    with pytest.raises(UsageProblem, match=r"^openclaw.json is not UTF-8 text"):
        open_config(str(path), tmp_path, {})
    path.write_bytes(b" " * 10_000_000 + b"{}")
    with pytest.raises(UsageProblem, match="larger than 2 MB"):
        open_config(str(path), tmp_path, {})


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "openclaw.json")
    with pytest.raises(UsageProblem, match="no ordinary file"):
        open_config(str(tmp_path / "openclaw.json"), tmp_path, {})


# includes


def test_includes_are_merged_as_openclaw_merges_them(tmp_path: Path) -> None:
    written(tmp_path, {"a": 1, "list": [1], "deep": {"x": 1, "y": 1}}, "sub/one.json")
    written(tmp_path, {"list": [2], "deep": {"y": 2}, "$include": "two/three.json"}, "sub/two.json")
    written(tmp_path, {"three": True}, "sub/two/three.json")
    config = opened(
        tmp_path,
        {
            "single": {"$include": "./sub/one.json"},
            "several": {"$include": ["sub/one.json", "sub/two.json"], "a": 9},
            "in list": [{"$include": "sub/two/three.json"}],
        },
    )
    assert config.data["single"] == {"a": 1, "list": [1], "deep": {"x": 1, "y": 1}}
    assert config.data["several"] == {
        "a": 9,
        "list": [1, 2],
        "deep": {"x": 1, "y": 2},
        "three": True,
    }
    assert config.data["in list"] == [{"three": True}]


def test_models_can_come_from_an_include(tmp_path: Path) -> None:
    written(tmp_path, one_model()["models"], "models.json5")
    assert spec_of(tmp_path, '{models: {$include: "./models.json5"}}', "p/m").model == "m"


def test_an_include_may_not_leave_by_a_link_unless_its_folder_is_allowed(tmp_path: Path) -> None:
    outside = written(tmp_path, {"secret": SECRET}, "outside/x.json")
    folder = tmp_path / "oc"
    folder.mkdir()
    (folder / "link.json").symlink_to(outside)
    for name in ("link.json", str(outside)):
        message = problem_of(folder, {"$include": name})
        assert "leaves the config's folder" in message
        assert SECRET not in message
        roots = {"OPENCLAW_INCLUDE_ROOTS": f"relative:{tmp_path / 'outside'}"}
        assert opened(folder, {"$include": name}, roots).data == {"secret": SECRET}


def test_circles_and_the_number_of_includes_end(tmp_path: Path) -> None:
    written(tmp_path, {"$include": "b.json"}, "a.json")
    written(tmp_path, {"deep": [{"$include": "./x/../a.json"}]}, "b.json")
    assert "in a circle: openclaw.json → a.json → b.json → a.json" in str(
        caught(tmp_path, {"$include": "a.json"})
    )
    for level in range(9):
        written(tmp_path, {"$include": [f"level{level + 1}.json"] * 10}, f"level{level}.json")
    written(tmp_path, {}, "level9.json")
    assert "more than 100 files" in caught(tmp_path, {"$include": "level0.json"})


def test_ten_levels_are_fine_and_eleven_are_not(tmp_path: Path) -> None:
    for level in range(1, 10):
        written(tmp_path, {"$include": f"level{level + 1}.json"}, f"level{level}.json")
    written(tmp_path, {"end": 1}, "level10.json")
    assert opened(tmp_path, {"$include": "level1.json"}).data == {"end": 1}
    written(tmp_path, {"$include": "level1.json"}, "level0.json")
    assert "deeper than 10 levels" in caught(tmp_path, {"$include": "level0.json"})


def test_includes_that_nest_deep_at_every_level_end_in_a_line(
    tmp_path: Path, few_frames: None
) -> None:
    for level in range(10):
        nested = "[" * 30 + json.dumps({"$include": f"level{level + 1}.json"}) + "]" * 30
        written(tmp_path, f'{{"x": {nested}}}', f"level{level}.json")
    written(tmp_path, "{}", "level10.json")
    written(tmp_path, {"$include": "level1.json"}, "openclaw.json")
    with pytest.raises(UsageProblem, match="nested (too deeply|deeper than)"):
        open_config("openclaw.json", tmp_path, {})


@pytest.fixture
def few_frames() -> Iterator[None]:
    """Python may go 300 frames deeper than here: a caller can be deep in its own stack."""
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 300)
    yield
    sys.setrecursionlimit(usual)


def caught(folder: Path, config: object) -> str:
    with pytest.raises(UsageProblem) as raised:
        opened(folder, config)
    return str(raised.value)


# anything at all


def complaint(folder: Path, name: str) -> str:
    try:
        open_config(name, folder, {})
    except UsageProblem as error:
        return str(error)
    return ""


@quick
@given(text=st.text(max_size=60) | st.text(alphabet="{}[]\"':,/*\\u0 1.e-+ab$\n", max_size=40))
@example(text="{a: 1e999}")
@example(text='{a: "\\ud800"}')
def test_no_text_leads_to_anything_but_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "openclaw.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert len(complaint(tmp_path, "openclaw.json").splitlines()) <= 1


@quick
@given(providers=TREES, agents=TREES, rest=st.dictionaries(KEYS, TREES, max_size=2))
def test_no_shape_leads_to_anything_but_rows(
    tmp_path: Path, providers: Any, agents: Any, rest: dict[str, Any]
) -> None:
    data = {**rest, "models": {"providers": {"p": providers}}, "agents": agents}
    for row in rows_or_one(tmp_path, data):
        assert (row.spec is None) == bool(row.problem)
        assert len(row.problem.splitlines()) <= 1

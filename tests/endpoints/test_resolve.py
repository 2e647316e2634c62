from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pytest_agentlimit.endpoints.discovery import Probe
from pytest_agentlimit.endpoints.resolve import resolve
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import ModelNotFound, UsageProblem
from pytest_agentlimit.testing import ScriptedEndpoint, say

SECRET = "sk-proj-abcdefghijklmnop1234"


def resolved(
    name: str, root: Path, environ: Mapping[str, str] | None = None, *probes: Probe
) -> EndpointSpec:
    return resolve(name, root=root, environ=environ or {}, probes=probes)


def problem(name: str, root: Path) -> str:
    with pytest.raises(UsageProblem) as caught:
        resolved(name, root)
    return str(caught.value)


def table(root: Path, body: str, name: str = "mine", file: str = "pyproject.toml") -> None:
    with (root / file).open("a", encoding="utf-8") as out:
        out.write(f"[tool.agentlimit.models.{name}]\n{body}\n")


@pytest.fixture
def ollama() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint([say("hi")], dialect="ollama", model="open-claw:latest") as server:
        yield server


def probe_of(server: ScriptedEndpoint) -> Probe:
    return Probe(label="Ollama", port=server.port, ollama=True)


@pytest.mark.parametrize(
    ("literal", "dialect", "base_url", "model", "name"),
    [
        (
            "openai+http://127.0.0.1:8000/v1#qwen3",
            "openai",
            "http://127.0.0.1:8000/v1",
            "qwen3",
            "qwen3",
        ),
        (
            "anthropic+https://api.example.com/#claude-x",
            "anthropic",
            "https://api.example.com",
            "claude-x",
            "claude-x",
        ),
        (
            "ollama+http://[::1]:11434#open-claw:8b",
            "ollama",
            "http://[::1]:11434",
            "open-claw:8b",
            "open-claw-8b",
        ),
        (
            "OPENAI+HTTP://127.0.0.1/v1/#mlx/org/Qwen3 6bit",
            "openai",
            "http://127.0.0.1/v1",
            "mlx/org/Qwen3 6bit",
            "Qwen3-6bit",
        ),
    ],
)
def test_a_literal_is_taken_as_it_stands(
    tmp_path: Path, literal: str, dialect: str, base_url: str, model: str, name: str
) -> None:
    spec = resolved(literal, tmp_path)
    assert (spec.dialect, spec.base_url, spec.model) == (dialect, base_url, model)
    assert (spec.name, spec.kind, spec.source) == (name, "remote", "literal")


def test_a_null_model_and_a_gguf_file_are_literals_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parrot = resolved("null:parrot", tmp_path)
    assert (parrot.name, parrot.kind, parrot.model) == ("null-parrot", "null", "parrot")
    weights = resolved("gguf:models/My Model.Q4.gguf", tmp_path)
    assert (weights.name, weights.kind) == ("My-Model.Q4", "embedded")
    assert weights.gguf == str(tmp_path / "models/My Model.Q4.gguf")


@pytest.mark.parametrize(
    ("literal", "variable"),
    [
        ("openai+https://api.example.com/v1#m", "OPENAI_API_KEY"),
        ("anthropic+https://api.example.com#m", "ANTHROPIC_API_KEY"),
        ("openai+http://api.example.com/v1#m", None),
        ("openai+https://localhost:8000/v1#m", None),
        ("ollama+https://ollama.example.com#m", None),
    ],
)
def test_only_a_remote_https_literal_uses_the_usual_key_and_only_when_it_is_set(
    tmp_path: Path, literal: str, variable: str | None
) -> None:
    keys = {"OPENAI_API_KEY": SECRET, "ANTHROPIC_API_KEY": SECRET}
    assert resolved(literal, tmp_path, keys).api_key_env == variable
    assert resolved(literal, tmp_path).api_key_env is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("openai+http://127.0.0.1:8000/v1", "names no model: add it after a #"),
        ("http://127.0.0.1:8000/v1#m", "does not say its dialect: put openai+"),
        ("opnai+http://127.0.0.1:8000/v1#m", "unknown dialect 'opnai'"),
        ("openai+http://#m", "no address with a host"),
        ("openai+http://127.0.0.1:99999/v1#m", "no address with a host"),
        ("openai+http://127.0.0.1/v1\x1b[2J#m", "no address with a host"),
        ("null:parot", "did you mean null:parrot?"),
        ("null:", "There are mute, echo"),
        ("gguf:", "write gguf:/path/model.gguf"),
        ("  ", "the model's name is empty"),
    ],
)
def test_a_literal_that_is_not_whole_says_what_to_write(
    tmp_path: Path, name: str, words: str
) -> None:
    assert words in problem(name, tmp_path)


@pytest.mark.parametrize(
    "address", [f"https://me:{SECRET}@example.com/v1#m", f"https://example.com/v1?key={SECRET}#m"]
)
def test_credentials_in_an_address_are_refused_and_not_repeated(
    tmp_path: Path, address: str
) -> None:
    message = problem(f"openai+{address}", tmp_path)
    assert "api_key_env" in message
    assert SECRET not in message


def test_a_config_table_sets_everything(tmp_path: Path) -> None:
    table(
        tmp_path,
        """
base_url = "https://example.com/v1/"
dialect = "anthropic"
model = "big"
api_key_env = "MY_KEY"
context_window = 32768
max_tokens = 512
temperature = 0
top_p = 0.9
timeout = "90s"
max_inflight = 2
watts = 35
retries = 1
headers = { "x-team" = "edge" }
""",
    )
    spec = resolved("mine", tmp_path)
    assert spec.model_dump(exclude={"deadlines"}, exclude_defaults=True) == {
        "name": "mine",
        "dialect": "anthropic",
        "base_url": "https://example.com/v1",
        "model": "big",
        "source": "config table in pyproject.toml",
        "api_key_env": "MY_KEY",
        "headers": {"x-team": "edge"},
        "context_window": 32768,
        "max_tokens": 512,
        "temperature": 0.0,
        "top_p": 0.9,
        "retries": 1,
        "max_inflight": 2,
        "watts": 35.0,
    }
    assert (spec.deadlines.total_s, spec.deadlines.first_byte_s) == (90.0, 90.0)
    assert spec.deadlines.between_chunks_s == 60.0


def test_a_short_timeout_bounds_every_deadline(tmp_path: Path) -> None:
    table(tmp_path, 'base_url = "http://127.0.0.1:8000/v1"\ntimeout = 2')
    assert set(resolved("mine", tmp_path).deadlines.model_dump().values()) == {2.0}


def test_both_spellings_work_in_agentlimit_toml(tmp_path: Path) -> None:
    (tmp_path / "agentlimit.toml").write_text(
        '[models.short]\nbase_url = "http://localhost:1/v1"\n'
    )
    table(tmp_path, 'base_url = "http://localhost:2/v1"', "long", "agentlimit.toml")
    assert resolved("short", tmp_path).base_url == "http://localhost:1/v1"
    assert resolved("long", tmp_path).source == "config table in agentlimit.toml"
    assert resolved("short", tmp_path).model == "short"


def test_a_table_can_serve_weights_by_path_or_by_short_name(tmp_path: Path) -> None:
    table(tmp_path, 'gguf = "weights/m.gguf"', "file")
    table(tmp_path, 'gguf = "smollm2"\ntemperature = 0.1', "cool")
    by_path, by_name = resolved("file", tmp_path), resolved("cool", tmp_path)
    assert (by_path.kind, by_path.gguf) == ("embedded", str(tmp_path / "weights/m.gguf"))
    assert (by_name.kind, by_name.gguf, by_name.temperature) == ("embedded", "smollm2", 0.1)


def test_a_name_with_odd_letters_becomes_a_safe_id(tmp_path: Path) -> None:
    table(tmp_path, 'base_url = "http://localhost:1/v1"', '"our model/α"')
    assert resolved("our model/α", tmp_path).name == "our-model"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('base_url = "http://h/v1"\ntemprature = 1', "unknown key 'temprature'; did you mean temp"),
        ('base_url = "http://h/v1"\nzzz = 1', "unknown key 'zzz'; known: base_url, dialect"),
        (
            'base_url = "http://h/v1"\nmax_tokens = "many"',
            "max_tokens: Input should be a valid int",
        ),
        ('base_url = "http://h/v1"\nmax_tokens = 0', "max_tokens: Input should be greater than 0"),
        ('base_url = "http://h/v1"\ndialect = "openia"', "dialect: Input should be 'openai'"),
        ('base_url = "http://h/v1"\ntimeout = "90"', '"90" has no unit: write "90s" or "90ms"'),
        ('base_url = "http://h/v1"\ntemperature = nan', "temperature: Input should be a finite"),
        ('base_url = "openai+http://h/v1#m"', "base_url must be an http:// or https:// address"),
        ('base_url = "http://h/v1\\u001b[2J"', "base_url must be"),
        ('model = "m"', "one of base_url"),
        ('base_url = "http://h/v1"\ngguf = "x.gguf"', "one of base_url"),
        ('gguf = "x.gguf"\ndialect = "ollama"', "openai dialect only"),
    ],
)
def test_a_wrong_table_is_refused_with_its_file_and_name(
    tmp_path: Path, body: str, words: str
) -> None:
    table(tmp_path, body)
    message = problem("mine", tmp_path)
    assert message.startswith("pyproject.toml, model 'mine': ")
    assert words in message


@pytest.mark.parametrize(
    "body",
    [
        f'api_key = "{SECRET}"',
        f'token = "{SECRET}"',
        f'api_key_env = "{SECRET}"',
        f'model = "{SECRET}"',
        f'headers = {{ Authorization = "Bearer {SECRET}" }}',
        f'base_url = "https://me:{SECRET}@example.com/v1"',
    ],
)
def test_a_key_in_the_file_is_refused_and_not_repeated(tmp_path: Path, body: str) -> None:
    table(tmp_path, body)
    message = problem("mine", tmp_path)
    assert 'api_key_env = "MY_API_KEY"' in message
    assert SECRET not in message


def test_broken_toml_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "agentlimit.toml").write_text("[models.x]\nbase_url = \n")
    message = problem("x", tmp_path)
    assert message.startswith("agentlimit.toml is not valid TOML")
    assert "line 2" in message


def test_a_file_of_other_bytes_and_a_table_of_the_wrong_kind_are_named(tmp_path: Path) -> None:
    toml = tmp_path / "agentlimit.toml"
    toml.write_bytes(b"\xff\xfe")
    assert "agentlimit.toml is not UTF-8" in problem("x", tmp_path)
    toml.write_text("models = 3")
    assert "[models] must be a table" in problem("x", tmp_path)
    toml.write_text("models.x = 3")
    assert "this must be a table" in problem("x", tmp_path)


def test_one_name_in_both_files_is_refused(tmp_path: Path) -> None:
    table(tmp_path, 'base_url = "http://localhost:1/v1"')
    table(tmp_path, 'base_url = "http://localhost:2/v1"', file="agentlimit.toml")
    assert "is in pyproject.toml and in agentlimit.toml: keep one" in problem("mine", tmp_path)


def test_a_literal_needs_no_readable_config(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("broken =")
    assert resolved("null:mute", tmp_path).kind == "null"


def test_the_rules_are_asked_in_their_order(tmp_path: Path, ollama: ScriptedEndpoint) -> None:
    probe = probe_of(ollama)
    assert resolved("smollm2", tmp_path, None, probe).source == "embedded"
    assert not ollama.requests
    table(tmp_path, 'base_url = "http://localhost:1/v1"', "smollm2")
    table(tmp_path, 'base_url = "http://localhost:1/v1"', "open-claw")
    assert resolved("smollm2", tmp_path, None, probe).source == "config table in pyproject.toml"
    assert resolved("open-claw", tmp_path, None, probe).source == "config table in pyproject.toml"
    assert not ollama.requests


def test_an_embedded_model_is_known_by_its_short_name(tmp_path: Path) -> None:
    spec = resolved("smollm2", tmp_path)
    assert (spec.name, spec.kind, spec.gguf, spec.dialect) == (
        "smollm2",
        "embedded",
        "smollm2",
        "openai",
    )


@pytest.mark.parametrize("typed", ["open-claw", "open-claw:latest"])
def test_a_running_server_is_found_by_its_model(
    tmp_path: Path, ollama: ScriptedEndpoint, typed: str
) -> None:
    spec = resolved(typed, tmp_path, None, probe_of(ollama))
    assert spec.source == f"discovered: Ollama at 127.0.0.1:{ollama.port}"
    assert (spec.dialect, spec.base_url) == ("ollama", ollama.url)
    assert spec.model == "open-claw:latest"
    assert spec.name == typed.replace(":", "-")


def test_a_model_listed_by_its_path_is_found_by_its_file_name(tmp_path: Path) -> None:
    with ScriptedEndpoint([say("hi")], model="/srv/models/qwen3.gguf") as server:
        spec = resolved("qwen3", tmp_path, None, Probe(label="llama.cpp", port=server.port))
    assert spec.model == "/srv/models/qwen3.gguf"
    assert spec.base_url == server.url


def test_a_name_nobody_knows_lists_where_was_looked_and_what_is_near(
    tmp_path: Path, ollama: ScriptedEndpoint, free_port: int
) -> None:
    table(tmp_path, 'base_url = "http://localhost:1/v1"', "gemma")
    silent = Probe(label="vLLM", port=free_port)
    with pytest.raises(ModelNotFound) as caught:
        resolved("open-clow", tmp_path, None, probe_of(ollama), silent)
    message = str(caught.value)
    assert "no model is called 'open-clow'. Did you mean open-claw:latest?" in message
    assert "pyproject.toml: gemma" in message
    assert "agentlimit.toml: no such file" in message
    assert "embedded models: smollm2" in message
    assert f"Ollama at 127.0.0.1:{ollama.port}: open-claw:latest" in message
    assert f"nothing answers at 127.0.0.1:{free_port} (vLLM)" in message
    assert "[tool.agentlimit.models.NAME]" in message


@pytest.mark.parametrize(("typed", "near"), [("SmolLM", "smollm2"), ("parrot", "null:parrot")])
def test_the_nearest_names_come_from_every_kind(tmp_path: Path, typed: str, near: str) -> None:
    assert f"Did you mean {near}" in problem(typed, tmp_path)


def test_escapes_in_a_typed_name_are_not_printed(tmp_path: Path) -> None:
    assert "\x1b" not in problem("evil\x1b[2Jname", tmp_path)

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pytest_agentlimit.chat.messages import (
    ChatRequest,
    Message,
    TextBlock,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from pytest_agentlimit.endpoints import catalog, embedded
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.endpoints.embedded import EmbeddedServer, start_embedded
from pytest_agentlimit.endpoints.literals import literal_spec
from pytest_agentlimit.endpoints.resolve import resolve
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import EndpointUnusable

WEATHER = Tool(
    "get_weather",
    "The weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)

PARENT = """
import os, sys, time
from pathlib import Path
from pytest_agentlimit.endpoints.embedded import start_embedded
from pytest_agentlimit.endpoints.resolve import resolve
spec = resolve("smollm2", root=Path("/"), environ={})
server = start_embedded(spec.model_copy(update={"context_window": 512}))
bystander = os.fork() if "fork" in sys.argv else 0
if bystander or "fork" not in sys.argv:
    print(server.process.pid, bystander, flush=True)
if "leave" not in sys.argv:
    time.sleep(60)
"""


def embedded_spec() -> EndpointSpec:
    return resolve("smollm2", root=Path("/"), environ={})


def gguf_spec(path: Path) -> EndpointSpec:
    spec = literal_spec(f"gguf:{path}", {})
    assert spec is not None
    return spec


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    assert catalog.find("smollm2"), "the embedded model is not there: run `agentlimit pull smollm2`"
    with start_embedded(embedded_spec()) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[EndpointClient]:
    with open_client(server.spec) as opened:
        yield opened


def user(text: str) -> Message:
    return Message(role="user", blocks=(TextBlock(text=text),))


def asked(*messages: Message, **fields: object) -> ChatRequest:
    usual = {"model": "", "messages": messages, "max_tokens": 24, "temperature": 0.0, "seed": 1}
    return ChatRequest.model_validate({**usual, **fields})


def test_the_weights_are_the_known_ones(smollm2: Path) -> None:
    with smollm2.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert digest == catalog.MODELS["smollm2"].sha256


def test_the_real_model_answers_on_loopback(client: EndpointClient) -> None:
    reply = client.send(asked(user("Hello, who are you?")))
    assert len(reply.text.split()) > 3
    assert reply.timing.ttft_s
    assert reply.usage.output_tokens
    assert client.spec.base_url.startswith("http://127.0.0.1:")
    assert client.spec.base_url.endswith("/v1")


def test_the_engine_says_that_the_template_knows_tools(client: EndpointClient) -> None:
    properties = client.get_json("/props", from_root=True)
    assert properties["chat_template_caps"]["supports_tools"] is True
    assert properties["default_generation_settings"]["n_ctx"] == 8192


def test_declared_tools_reach_the_prompt(client: EndpointClient) -> None:
    bare = client.send(asked(user("Weather in Oslo?"), max_tokens=1))
    offered = client.send(asked(user("Weather in Oslo?"), max_tokens=1, tools=(WEATHER,)))
    assert bare.usage.input_tokens is not None
    assert offered.usage.input_tokens is not None
    assert offered.usage.input_tokens > bare.usage.input_tokens + 50


def test_a_call_the_model_writes_comes_back_as_a_structured_call(client: EndpointClient) -> None:
    turns: list[Message] = []
    for city in ("Paris", "Rome", "Berlin", "Madrid"):
        call = ToolCall(id=city, name="get_weather", raw_arguments=json.dumps({"city": city}))
        turns += [
            user(f"What is the weather in {city}?"),
            Message(role="assistant", blocks=(call,)),
        ]
    reply = client.send(
        asked(*turns, user("What is the weather in Oslo?"), tools=(WEATHER,), max_tokens=60)
    )
    assert reply.expect_tool_call("get_weather").arguments == {"city": "Oslo"}
    assert reply.stop_reason == "tool_use"


def rendered(client: EndpointClient, *messages: dict[str, object], tools: bool = False) -> str:
    declared = {
        "type": "function",
        "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}},
    }
    body = {"messages": list(messages), "tools": [declared]} if tools else {"messages": messages}
    prompt = client.get_json("/apply-template", from_root=True, body=body)["prompt"]
    assert isinstance(prompt, str)
    return prompt


def test_the_template_adds_the_models_own_system_line_only_when_there_is_none(
    client: EndpointClient,
) -> None:
    hello = {"role": "user", "content": "Hello"}
    assert rendered(client, hello) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert rendered(client, {"role": "system", "content": "Be brief."}, hello) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_template_renders_calls_results_and_a_system_turn_in_the_middle(
    client: EndpointClient,
) -> None:
    def call(number: str) -> dict[str, object]:
        function = {"name": "look", "arguments": f'{{"at": {number}}}'}
        return {"id": f"call{number}", "type": "function", "function": function}

    prompt = rendered(
        client,
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look twice."},
        {"role": "assistant", "content": "I look.", "tool_calls": [call("1"), call("2")]},
        {"role": "tool", "tool_call_id": "call1", "content": "a cat"},
        {"role": "tool", "tool_call_id": "call2", "content": "a dog"},
        {"role": "system", "content": "Hurry."},
        {"role": "user", "content": "And?"},
        tools=True,
    )
    head, _, rest = prompt.partition("<|im_end|>\n")
    assert head.startswith("<|im_start|>system\nBe brief.\n\n")
    assert '<tools>\n{"type": "function", "function": {"name": "look"' in head
    assert rest == (
        "<|im_start|>user\nLook twice.<|im_end|>\n"
        "<|im_start|>assistant\nI look.\n"
        '<tool_call>\n{"name": "look", "arguments": {"at": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "look", "arguments": {"at": 2}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\na cat\n</tool_response>"
        "\n<tool_response>\na dog\n</tool_response><|im_end|>\n"
        "<|im_start|>system\nHurry.<|im_end|>\n"
        "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_whole_tool_conversation_is_accepted(client: EndpointClient) -> None:
    call = ToolCall(id="c", name="get_weather", raw_arguments='{"city": "Oslo"}')
    result = ToolResult(call_id="c", name="get_weather", content='{"sky": "snow"}')
    reply = client.send(
        asked(
            user("What is the weather in Oslo?"),
            Message(role="assistant", blocks=(call,)),
            Message(role="tool", blocks=(result,)),
            tools=(WEATHER,),
            tool_choice=ToolChoice(mode="auto"),
            stream=False,
        )
    )
    assert reply.usage.output_tokens


def test_stop_ends_the_process_and_may_be_called_again(smollm2: Path) -> None:
    server = start_embedded(embedded_spec().model_copy(update={"context_window": 512}))
    process = psutil.Process(server.process.pid)
    assert os.getsid(process.pid) != os.getsid(0)
    assert server.death() is None
    server.stop()
    server.stop()
    assert not process.is_running()
    assert server.death() is None


def test_a_server_that_is_killed_says_how_it_died(smollm2: Path) -> None:
    with start_embedded(embedded_spec().model_copy(update={"context_window": 512})) as server:
        server.process.kill()
        server.process.wait()
        death = server.death()
    assert death is not None
    assert death.startswith("SIGKILL; its last words:")


@pytest.mark.parametrize("how", ["killed", "leave", "fork"])
def test_no_server_outlives_its_parent(smollm2: Path, how: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, how], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        server_pid, bystander = map(int, parent.stdout.readline().split())
        server = psutil.Process(server_pid) if psutil.pid_exists(server_pid) else None
        if how != "leave":
            parent.kill()
        parent.stdout.close()
        parent.wait()
    try:
        if server is not None:
            _, alive = psutil.wait_procs([server], timeout=10)
            assert not alive
    finally:
        if bystander:
            os.kill(bystander, signal.SIGKILL)


def test_a_model_that_was_not_pulled_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTLIMIT_MODELS_DIR", str(tmp_path))
    with pytest.raises(EndpointUnusable, match="Run: agentlimit pull smollm2"):
        start_embedded(embedded_spec())


def test_a_missing_engine_names_the_extra_to_install(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EndpointUnusable, match=r'pip install "pytest-agentlimit\[embedded\]"'):
        start_embedded(embedded_spec())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>not here</html>", "begins with b'<htm'"),
        (b"", "begins with b''"),
        (b"GGUF" + (99).to_bytes(4, "little") + bytes(16), "GGUF version is 99"),
        (b"GGUF" + (3).to_bytes(4, "little") + b"\x01", "the file is cut"),
        (b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + b"\xff" * 8, "claims"),
    ],
)
def test_a_file_that_is_no_gguf_is_refused_without_starting_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    monkeypatch.setattr(embedded.subprocess, "Popen", None)
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(EndpointUnusable, match="is not a usable GGUF file") as caught:
        start_embedded(gguf_spec(path))
    assert reason in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(EndpointUnusable, match="there is no file"):
        start_embedded(gguf_spec(tmp_path / "gone.gguf"))
    with pytest.raises(EndpointUnusable, match="Is a directory"):
        start_embedded(gguf_spec(tmp_path))


def test_a_cut_file_fails_with_the_engines_own_last_words(tmp_path: Path, smollm2: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with smollm2.open("rb") as whole:
        cut.write_bytes(whole.read(20_000_000))
    with pytest.raises(EndpointUnusable, match="could not be loaded") as caught:
        start_embedded(gguf_spec(cut))
    assert "corrupted or incomplete" in str(caught.value)
    assert "download it again" in str(caught.value)


def test_a_start_that_takes_too_long_is_ended(smollm2: Path) -> None:
    before = set(psutil.Process().children())
    with pytest.raises(EndpointUnusable, match=r"was not ready after 0\.01 s"):
        start_embedded(embedded_spec(), deadline_s=0.01)
    assert set(psutil.Process().children()) == before


def test_a_gguf_path_is_served_with_the_files_own_template(tmp_path: Path, smollm2: Path) -> None:
    own = tmp_path / "Small One.gguf"
    own.symlink_to(smollm2)
    with (
        start_embedded(gguf_spec(own).model_copy(update={"context_window": 1024})) as server,
        open_client(server.spec) as client,
    ):
        properties = client.get_json("/props", from_root=True)
        listed = client.get_json("/models")["data"][0]["id"]
    assert properties["chat_template_caps"]["supports_tools"] is False
    assert properties["default_generation_settings"]["n_ctx"] == 1024
    assert listed == "Small-One"


def test_the_child_leaves_when_it_is_never_told_what_to_serve(tmp_path: Path) -> None:
    alone = tmp_path / "alone.py"
    shutil.copy(Path(embedded.__file__).with_name("_serve_gguf.py"), alone)
    done = subprocess.run(
        [sys.executable, "-I", str(alone)], stdin=subprocess.DEVNULL, timeout=30, check=False
    )
    assert done.returncode == 0

"""How many tokens a request is: counted by the upstream where it can, estimated where not (R15)."""

from __future__ import annotations

from typing import Any

from pytest_agentlimit.bridge.rules import estimated_tokens
from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.endpoints.upstream import Upstream
from pytest_agentlimit.errors import AgentLimitError, HTTPFailure

_NO_ROUTE = (404, 405, 501)


def prompt_estimate(request: ChatRequest) -> int:
    """Return about how many tokens `request` is as a prompt: its text at 4 characters a token."""
    turns = (
        len(getattr(block, "text", "") or getattr(block, "content", ""))
        + len(getattr(block, "raw_arguments", ""))
        for message in request.messages
        for block in message.blocks
    )
    tools = (len(jsontext.dumps(tool.model_dump())) for tool in request.tools)
    return estimated_tokens(len(request.system or "") + sum(turns) + sum(tools))


class TokenCounter:
    """Counts with the upstream's own tokenizer; remembers when there is none."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._able = upstream.spec.dialect != "ollama"  # which has no route for it

    async def count(self, request: ChatRequest) -> int | None:
        """Return the tokens of `request` as the upstream counts them, None when it does not."""
        if not self._able:
            return None
        try:
            return await self._asked(request)
        except HTTPFailure as failure:
            self._able = failure.status not in _NO_ROUTE
        except AgentLimitError:
            pass
        return None

    async def _asked(self, request: ChatRequest) -> int | None:
        spec = self._upstream.spec
        body = codec_for(spec.dialect).encode_request(request)
        body = {key: body[key] for key in ("model", "messages", "system", "tools") if key in body}
        if spec.dialect == "anthropic":
            return _number(await self._post("/v1/messages/count_tokens", body), "input_tokens")
        counted = _number(await self._post("/tokenize", body), "count")  # vLLM
        if counted is not None:
            return counted
        prompt = (await self._post("/apply-template", body)).get("prompt")  # llama.cpp
        if not isinstance(prompt, str):
            return None
        tokens = (await self._post("/tokenize", {"content": prompt})).get("tokens")
        return len(tokens) if isinstance(tokens, list) else None

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        from_root = self._upstream.spec.dialect == "openai"
        answer = await self._upstream.get_json(path, from_root=from_root, body=body)
        return answer if isinstance(answer, dict) else {}


def _number(answer: dict[str, Any], key: str) -> int | None:
    value = answer.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

"""Anthropic's interface at a real server. Statuses and connections are those of test_openai.py."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from teacher_server import Teacher, teaching
from vistune.errors import ClientError
from vistune.llm import Reply, Request, RequestError, open_client
from vistune.llm.providers.anthropic import AnthropicClient

CANARY = "sk-ant-canary-0123456789"
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def complete(url: str, request: Request) -> Reply:
    async def work() -> Reply:
        async with open_client("anthropic:teacher-1", base_url=f"{url}/v1") as client:
            return await client.complete(request)

    return asyncio.run(work())


def test_a_reply_counts_cached_tokens_as_part_of_the_input(teacher: Teacher, chat: Request) -> None:
    reply, stats = complete(teacher.url, chat), teacher.stats
    assert (reply.model, reply.finish) == ("teacher-1", "stop")
    assert reply.usage["cached"] > 0
    assert reply.usage == {
        "input": stats["prompt_tokens"], "output": stats["completion_tokens"], "cached": stats["cached_tokens"]
    }  # fmt: skip
    assert complete(teacher.url, replace(chat, max_tokens=5)).finish == "length"
    assert isinstance(json.loads(complete(teacher.url, replace(chat, schema=SCHEMA)).text), dict)


def test_the_body_of_a_request(chat: Request) -> None:
    client = open_client("anthropic:m", base_url="http://localhost/v1")
    assert isinstance(client, AnthropicClient)
    body = client.body(replace(chat, seed=3, temperature=0.5, schema=SCHEMA))
    assert body["system"] == chat.system
    assert all(one["role"] in ("user", "assistant") for one in body["messages"])
    assert "seed" not in body
    assert body["tool_choice"]["name"] == body["tools"][0]["name"]
    assert body["tools"][0]["input_schema"] == SCHEMA
    assert body["max_tokens"] > 0
    assert body["temperature"] == 0.5


@pytest.mark.parametrize(
    ("fault", "reason"), [("no_choices", "no_choices"), ("error_in_200", "http_502"), ("nested", "not_json")]
)
def test_a_response_without_a_reply_is_retried(fault: str, reason: str, chat: Request) -> None:
    with teaching(faults={fault: 1.0}) as teacher, pytest.raises(RequestError) as caught:
        complete(teacher.url, chat)
    assert (caught.value.reason, caught.value.retry) == (reason, True)


@pytest.mark.parametrize(("fault", "usage"), [("no_usage", set()), ("huge_usage", {"output", "cached"})])
def test_usage_that_is_no_count_is_absent(fault: str, usage: set[str], chat: Request) -> None:
    with teaching(faults={fault: 1.0}) as teacher:
        assert complete(teacher.url, chat).usage.keys() == usage


def test_the_key_is_sent_and_not_shown(chat: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", CANARY)
    with teaching(key=CANARY) as teacher:
        assert complete(teacher.url, chat).text
    with teaching(key="another") as teacher, pytest.raises(ClientError, match=r"key \*\*\*") as caught:
        complete(teacher.url, chat)
    assert CANARY not in str(caught.value)


def test_anthropic_itself_requires_a_key() -> None:
    with pytest.raises(ClientError, match="ANTHROPIC_API_KEY"):
        open_client("anthropic:m")


def test_a_refusal_without_content_is_a_filtered_reply(chat: Request) -> None:
    with teaching(faults={"filtered": 1.0}) as teacher:
        assert complete(teacher.url, chat).finish == "content_filter"
    client = open_client("anthropic:m", base_url="http://localhost/v1")
    assert isinstance(client, AnthropicClient)
    assert client.read({"content": [], "stop_reason": "refusal"}).finish == "content_filter"


def test_a_server_without_tools_supports_no_schema() -> None:
    async def probe(url: str) -> bool:
        async with open_client("anthropic:teacher-1", base_url=f"{url}/v1") as client:
            return await client.supports_schema()

    with teaching(rejects=["tools"]) as teacher:
        assert asyncio.run(probe(teacher.url)) is False

"""Anthropic's interface over a real server: what is sent, what is taken, and what each fault becomes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from teacher_server import Teacher, teaching
from vistune.errors import ClientError
from vistune.llm import Reply, Request, RequestError, open_client
from vistune.llm.faults import fault as told_fault
from vistune.llm.providers.anthropic import AnthropicClient, read_reply

CANARY = "sk-ant-canary-0123456789"
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def ask(url: str, request: Request, timeout: float = 60.0) -> Reply:
    async def work() -> Reply:
        async with open_client("anthropic:teacher-1", base_url=f"{url}/v1", timeout=timeout) as client:
            return await client.complete(request)

    return asyncio.run(work())


def test_a_reply_counts_cached_tokens_as_part_of_the_input(teacher: Teacher, asked: Request) -> None:
    reply, stats = ask(teacher.url, asked), teacher.stats()
    assert (reply.model, reply.finish) == ("teacher-1", "stop")
    assert reply.usage["cached"] > 0
    assert reply.usage == {
        "input": stats["prompt_tokens"], "output": stats["completion_tokens"], "cached": stats["cached_tokens"]
    }  # fmt: skip


def test_a_limit_that_is_reached_is_told(teacher: Teacher, asked: Request) -> None:
    assert ask(teacher.url, replace(asked, max_tokens=5)).finish == "length"


def test_what_is_sent(asked: Request) -> None:
    client = open_client("anthropic:m", base_url="http://localhost/v1")
    assert isinstance(client, AnthropicClient)
    body = client.body(replace(asked, seed=3, temperature=0.5, schema=SCHEMA))
    assert body["system"] == asked.system
    assert all(one["role"] in ("user", "assistant") for one in body["messages"])
    assert "seed" not in body
    assert body["tool_choice"]["name"] == body["tools"][0]["name"]
    assert body["tools"][0]["input_schema"] == SCHEMA
    assert body["max_tokens"] > 0
    assert body["temperature"] == 0.5


def test_a_schema_brings_json(teacher: Teacher, asked: Request) -> None:
    assert isinstance(json.loads(ask(teacher.url, replace(asked, schema=SCHEMA)).text), dict)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("rate_limited", "rate_limited"), ("http_500", "http_500"), ("http_503", "http_503"), ("reset", "reset"),
        ("hang", "timeout"), ("html", "not_json"), ("no_choices", "no_choices"), ("truncated", "truncated"),
        ("not_json", "not_json"), ("error_in_200", "http_502"),
    ],
)  # fmt: skip
def test_faults_that_another_attempt_gets_over(fault: str, reason: str, asked: Request) -> None:
    with teaching(faults={fault: 1.0}) as teacher, pytest.raises(RequestError) as caught:
        ask(teacher.url, asked, timeout=0.5 if fault == "hang" else 60.0)
    assert (caught.value.reason, caught.value.retry) == (reason, True)


@pytest.mark.parametrize("fault", ["http_400", "http_401", "http_403", "http_404", "insufficient_quota"])
def test_faults_that_end_the_run_without_the_key(fault: str, asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", CANARY)
    with teaching(faults={fault: 1.0}) as teacher, pytest.raises(ClientError) as caught:
        ask(teacher.url, asked)
    assert CANARY not in str(caught.value)


def test_the_key_is_sent(asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", CANARY)
    with teaching(key=CANARY) as teacher:
        assert ask(teacher.url, asked).text


def test_a_refusal_without_content_is_a_filtered_reply(asked: Request) -> None:
    with teaching(faults={"filtered": 1.0}) as teacher:
        assert ask(teacher.url, asked).finish == "content_filter"
    assert read_reply({"content": [], "stop_reason": "refusal"}, "m", "here").finish == "content_filter"


def test_no_usage_is_none(asked: Request) -> None:
    with teaching(faults={"no_usage": 1.0}) as teacher:
        assert ask(teacher.url, asked).usage == {}


def test_an_overloaded_server_is_told_as_overload() -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    error = told_fault(529, body, {}, "here")
    assert isinstance(error, RequestError)
    assert (error.overload, error.retry) == (True, True)


def test_anthropic_itself_wants_a_key() -> None:
    with pytest.raises(ClientError, match="ANTHROPIC_API_KEY"):
        open_client("anthropic:m")


def test_a_server_without_tools_keeps_to_no_schema() -> None:
    async def probe(url: str) -> bool:
        async with open_client("anthropic:teacher-1", base_url=f"{url}/v1") as client:
            return await client.supports_schema()

    with teaching(rejects=["tools"]) as teacher:
        assert asyncio.run(probe(teacher.url)) is False

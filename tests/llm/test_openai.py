"""OpenAI's interface over a real server: what is sent, what is taken, and what each fault becomes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from teacher.settings import FAULTS, REFUSALS
from teacher_server import Teacher, teaching
from vistune.errors import ClientError
from vistune.llm import Reply, Request, RequestError, open_client
from vistune.llm.providers.openai import read_reply

CANARY = "sk-canary-0123456789"
RETRIED = {
    "rate_limited": "rate_limited", "retry_after": "rate_limited", "retry_after_date": "rate_limited",
    "http_500": "http_500", "http_502": "http_502", "http_503": "http_503", "reset": "reset", "hang": "timeout",
    "html": "not_json", "no_choices": "no_choices", "truncated": "truncated", "not_json": "not_json",
    "error_in_200": "http_502",
}  # fmt: skip
READ = {"no_usage": "stop", "wrong_text": "stop", "length": "length", "filtered": "content_filter"}
STOPPED = ("http_400", "http_401", "http_403", "http_404", "insufficient_quota")


def ask(url: str, request: Request, **options: Any) -> Reply:
    async def work() -> Reply:
        async with open_client("openai:teacher-1", base_url=url, **options) as client:
            return await client.complete(request)

    return asyncio.run(work())


def test_the_fault_table_is_whole() -> None:
    assert {*RETRIED, *READ, *STOPPED, "context_length", "content_filter"} == {*FAULTS, *REFUSALS}


@pytest.mark.parametrize("fault", RETRIED)
def test_faults_that_another_attempt_gets_over(fault: str, asked: Request) -> None:
    with teaching(faults={fault: 1.0}) as teacher, pytest.raises(RequestError) as caught:
        ask(f"{teacher.url}/v1", asked, timeout=0.5 if fault == "hang" else 60.0)
    error = caught.value
    assert error.reason == RETRIED[fault]
    assert error.retry
    assert error.billed == (fault in ("reset", "hang", "html", "no_choices", "truncated", "not_json", "error_in_200"))
    assert error.overload == (RETRIED[fault] in ("rate_limited", "http_503", "timeout"))
    assert (error.retry_after is None) == (fault not in ("retry_after", "retry_after_date"))
    assert error.retry_after is None or 0 < error.retry_after <= 1


@pytest.mark.parametrize("fault", READ)
def test_replies_that_are_stored_as_they_are(fault: str, asked: Request) -> None:
    with teaching(faults={fault: 1.0}) as teacher:
        reply = ask(f"{teacher.url}/v1", asked)
    assert reply.finish == READ[fault]
    assert bool(reply.usage) == (fault != "no_usage")


@pytest.mark.parametrize("fault", ["context_length", "content_filter"])
def test_faults_that_refuse_one_request(fault: str, asked: Request) -> None:
    with teaching(faults={fault: 1.0}) as teacher, pytest.raises(RequestError) as caught:
        ask(f"{teacher.url}/v1", asked)
    assert caught.value.reason == fault
    assert not caught.value.retry
    assert not caught.value.billed


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("http_400", "Invalid 'messages'"),
        ("http_401", "Incorrect API key provided: \\*\\*\\*"),
        ("http_403", "has no access"),
        ("http_404", "The model does not exist"),
        ("insufficient_quota", "You exceeded your current quota"),
    ],
)
def test_faults_that_stop_the_run_in_the_servers_own_words(
    fault: str, words: str, asked: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with teaching(faults={fault: 1.0}) as teacher, pytest.raises(ClientError, match=words) as caught:
        ask(f"{teacher.url}/v1", asked)
    assert caught.value.fix


def test_a_server_that_is_not_there_may_come_back(asked: Request) -> None:
    with teaching() as teacher:
        url = f"{teacher.url}/v1"
    with pytest.raises(RequestError, match="unreachable") as caught:
        ask(url, asked)
    assert caught.value.retry
    assert not caught.value.billed


@pytest.mark.parametrize(("wait", "least", "most"), [("ms", 5, 10), ("none", 15, 20)])
def test_a_server_says_when_it_can_be_asked_again(wait: str, least: float, most: float, asked: Request) -> None:
    """By Retry-After, or else by the time until the limit that is used up is reset."""
    with teaching(rate=0.1, burst=2, quota=True, wait=wait) as teacher:
        for _ in range(2):
            ask(f"{teacher.url}/v1", asked)
        with pytest.raises(RequestError) as caught:
            ask(f"{teacher.url}/v1", asked)
    assert caught.value.retry_after is not None
    assert least < caught.value.retry_after <= most


@pytest.mark.parametrize("name", ["seed", "temperature", "max_tokens"])
def test_a_parameter_that_the_server_rejects_is_rejected_once(
    name: str, asked: Request, caplog: pytest.LogCaptureFixture
) -> None:
    request = replace(asked, max_tokens=50, temperature=0.5)

    async def work(teacher: Teacher) -> list[Reply]:
        async with open_client("openai:teacher-1", base_url=f"{teacher.url}/v1") as client:
            await client.complete(request)
            return await asyncio.gather(*(client.complete(replace(request, seed=n)) for n in range(20)))

    with teaching(rejects=[name]) as teacher, caplog.at_level(logging.WARNING):
        replies = asyncio.run(work(teacher))
        assert teacher.stats()["statuses"] == {"200": 21, "400": 1}
    assert {reply.usage["output"] for reply in replies} == {50}
    assert caplog.text.count(name + ":") + caplog.text.count(name + " ") >= 1


@pytest.mark.parametrize(("schema", "kept"), [("honour", True), ("ignore", False), ("refuse", False)])
def test_whether_a_schema_is_kept_is_found_out(schema: str, kept: bool) -> None:
    async def work(url: str) -> bool:
        async with open_client("openai:teacher-1", base_url=url) as client:
            return await client.supports_schema()

    with teaching(schema=schema, faults={"http_500": 0.2}) as teacher:
        assert asyncio.run(work(f"{teacher.url}/v1")) is kept


def test_azure_has_its_key_in_a_header_of_its_own(asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_KEY", CANARY)
    with teaching(key=CANARY) as teacher:
        url = f"{teacher.url}/openai/deployments/mine"
        with pytest.raises(ClientError, match="api-version"):
            ask(url, asked, key_env="AZURE_KEY")
        assert ask(f"{url}?api-version=2024-10-21", asked, key_env="AZURE_KEY").text


def test_openai_itself_wants_a_key() -> None:
    with pytest.raises(ClientError, match="export OPENAI_API_KEY"):
        open_client("openai:gpt")


def test_a_key_in_the_place_of_its_name_is_not_repeated() -> None:
    for key in (CANARY, "0123456789abcdef0123456789abcdef"):
        with pytest.raises(ClientError) as caught:
            open_client("openai:gpt", key_env=key)
        assert key not in str(caught.value)


@pytest.mark.parametrize("place", ["environment", "password", "query", "header"])
def test_a_key_is_never_said(
    place: str, asked: Request, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server repeats the key that it was given, and every fault may name the URL or the headers."""
    told = []

    async def work(url: str, options: Mapping[str, Any]) -> None:
        client = open_client("openai:teacher-1", base_url=url, **options)
        told.append(f"{client!r} {client.name} {vars(client)}")
        async with client:
            told.append(f"{await client.complete(asked)!r}")

    def given(url: str) -> tuple[str, dict[str, Any]]:
        if place == "password":
            return url.replace("://", f"://{CANARY}:{CANARY}@"), {}
        if place == "query":
            return f"{url}?key={CANARY}", {}
        return url, {"headers": {"Authorization": f"Bearer {CANARY}"}} if place == "header" else {}

    if place == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    for fault in (*FAULTS, *REFUSALS, "key"):
        settings = {"key": "another"} if fault == "key" else {"faults": {fault: 1.0}}
        with teaching(**settings) as teacher, caplog.at_level(logging.DEBUG):
            url, options = given(f"{teacher.url}/v1")
            options["timeout"] = 0.3
            try:
                asyncio.run(work(url, options))
            except (RequestError, ClientError) as error:
                told.append(f"{error} {error!r} {vars(error)} {error.__cause__}")
    for url in ("127.0.0.1:1/v1", "ftp://127.0.0.1/v1", "http://127.0.0.1:1/v1"):
        try:
            asyncio.run(work(*given(url)))
        except (RequestError, ClientError) as error:
            told.append(f"{error} {error!r} {vars(error)}")
    assert len(told) > 40
    assert CANARY not in "\n".join(told) + caplog.text
    assert CANARY in os.environ.values() or place != "environment"


def completion(**message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (completion(content="A dog."), "A dog."),
        (completion(content=None, reasoning_content="Hm."), ""),
        (completion(content=[{"type": "text", "text": "A "}, {"type": "text", "text": "dog."}]), "A dog."),
        (completion(content=None, refusal="I will not."), "I will not."),
        (completion(content="A dog.") | {"usage": None}, "A dog."),
        (completion(content="A dog.") | {"usage": {"prompt_tokens": None}}, "A dog."),
    ],
)
def test_replies_are_read_liberally(body: dict[str, Any], text: str) -> None:
    assert read_reply(body, "asked", "here") == Reply(text, "asked", {}, "stop")


@pytest.mark.parametrize("body", [{}, {"choices": None}, {"choices": [None]}, {"choices": [{"message": None}]}])
def test_a_body_without_a_choice_is_no_reply(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="no_choices"):
        read_reply(body, "asked", "here")

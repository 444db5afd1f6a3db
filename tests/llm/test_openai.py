"""OpenAI's interface at a real server: the request, the reply, and the error for each fault."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from teacher_server import FAULTS, Teacher, teaching
from vistune.errors import ClientError
from vistune.llm import Reply, Request, RequestError, open_client
from vistune.llm.http import RemoteClient
from vistune.records import Turn

CANARY = "sk-canary-0123456789"
RETRIED = {
    "rate_limited": "rate_limited", "retry_after": "rate_limited", "http_500": "http_500", "http_502": "http_502",
    "http_503": "http_503", "reset": "reset", "hang": "timeout", "html": "not_json", "no_choices": "no_choices",
    "truncated": "truncated", "not_json": "not_json", "nested": "not_json", "error_in_200": "http_502",
}  # fmt: skip
READ = {"no_usage": "stop", "huge_usage": "stop", "wrong_text": "stop", "length": "length",
        "filtered": "content_filter"}  # fmt: skip
STOPPED = {
    "http_400": "Bad Request", "http_401": "Unauthorized", "http_403": "Forbidden", "http_404": "Not Found",
    "insufficient_quota": "You exceeded your current quota",
}  # fmt: skip


def complete(url: str, request: Request, **options: Any) -> Reply:
    async def work() -> Reply:
        async with open_client("openai:teacher-1", base_url=url, **options) as client:
            return await client.complete(request)

    return asyncio.run(work())


def test_every_fault_is_tested() -> None:
    assert {*RETRIED, *READ, *STOPPED, "context_length", "content_filter"} == {*FAULTS}


@pytest.mark.parametrize("fault", RETRIED)
def test_faults_that_are_retried(fault: str, chat: Request) -> None:
    with teaching(faults={fault: 1.0}) as teacher, pytest.raises(RequestError) as caught:
        complete(f"{teacher.url}/v1", chat, timeout=0.3 if fault == "hang" else 60.0)
    error = caught.value
    assert (error.reason, error.retry) == (RETRIED[fault], True)
    assert error.billed == (not fault.startswith(("rate", "retry", "http")))
    assert error.overload == (RETRIED[fault] in ("rate_limited", "http_503", "timeout"))
    assert error.retry_after == (1.0 if fault == "retry_after" else None)


@pytest.mark.parametrize("fault", READ)
def test_replies_that_are_stored_as_they_are(fault: str, chat: Request) -> None:
    with teaching(faults={fault: 1.0}) as teacher:
        reply = complete(f"{teacher.url}/v1", chat)
    assert reply.finish == READ[fault]
    missing = {"no_usage": {"input", "output", "cached"}, "huge_usage": {"input"}}.get(fault, set())
    assert reply.usage.keys() == {"input", "output", "cached"} - missing


@pytest.mark.parametrize("fault", ["context_length", "content_filter"])
def test_faults_that_refuse_one_request(fault: str, chat: Request) -> None:
    with teaching(faults={fault: 1.0}) as teacher, pytest.raises(RequestError) as caught:
        complete(f"{teacher.url}/v1", chat)
    assert (caught.value.reason, caught.value.retry, caught.value.billed) == (fault, False, False)


@pytest.mark.parametrize("fault", STOPPED)
def test_faults_that_stop_the_run_show_the_server_s_message(
    fault: str, chat: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with teaching(faults={fault: 1.0}) as teacher, pytest.raises(ClientError, match=STOPPED[fault]) as caught:
        complete(f"{teacher.url}/v1", chat)
    assert caught.value.fix
    assert "(key ***)" in str(caught.value)


def test_a_server_that_cannot_be_reached_is_retried(chat: Request) -> None:
    with teaching() as teacher:
        url = f"{teacher.url}/v1"
    with pytest.raises(RequestError, match="unreachable") as caught:
        complete(url, chat)
    assert caught.value.retry
    assert not caught.value.billed


@pytest.mark.parametrize("name", ["seed", "temperature", "max_tokens"])
def test_a_parameter_that_the_server_rejects_is_sent_once(
    name: str, chat: Request, caplog: pytest.LogCaptureFixture
) -> None:
    request = replace(chat, max_tokens=50, temperature=0.5)

    async def work(teacher: Teacher) -> list[Reply]:
        async with open_client("openai:teacher-1", base_url=f"{teacher.url}/v1") as client:
            await client.complete(request)
            return await asyncio.gather(*(client.complete(replace(request, seed=n)) for n in range(20)))

    with teaching(rejects=[name]) as teacher, caplog.at_level(logging.WARNING):
        replies = asyncio.run(work(teacher))
        assert teacher.stats["statuses"] == {200: 21, 400: 1}
    assert {reply.usage["output"] for reply in replies} == {50}
    assert f"does not accept {name}" in caplog.text


@pytest.mark.parametrize(
    ("settings", "supported"),
    [({}, True), ({"schema": False}, False), ({"rejects": ["response_format"]}, False)],
    ids=["honoured", "ignored", "refused"],
)
def test_whether_schemas_are_supported(settings: dict[str, Any], supported: bool) -> None:
    async def work(url: str) -> bool:
        async with open_client("openai:teacher-1", base_url=url) as client:
            return await client.supports_schema()

    with teaching(faults={"http_500": 0.2}, **settings) as teacher:
        assert asyncio.run(work(f"{teacher.url}/v1")) is supported


def test_azure_has_its_key_in_a_header_of_its_own(chat: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_KEY", CANARY)
    with teaching(key=CANARY) as teacher:
        url = f"{teacher.url}/openai/deployments/mine"
        with pytest.raises(ClientError, match="api-version"):
            complete(url, chat, key_env="AZURE_KEY")
        assert complete(f"{url}?api-version=2024-10-21", chat, key_env="AZURE_KEY").text


def test_openai_itself_requires_a_key() -> None:
    with pytest.raises(ClientError, match="export OPENAI_API_KEY"):
        open_client("openai:gpt")


def test_a_key_given_instead_of_a_variable_s_name_is_not_repeated() -> None:
    for key in (CANARY, "0123456789abcdef0123456789abcdef"):
        with pytest.raises(ClientError) as caught:
            open_client("openai:gpt", key_env=key)
        assert key not in str(caught.value)


@pytest.mark.parametrize("place", ["environment", "url"])
def test_no_error_shows_a_secret(
    place: str, chat: Request, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Secrets in the environment and a header, or in the URL; the server repeats the key that it gets."""
    texts = []
    monkeypatch.setenv("MY_KEY", CANARY)

    async def work(url: str) -> None:
        url = url.replace("://", f"://{CANARY}-u:{CANARY}-p@") + f"?key={CANARY}-q" if place == "url" else url
        headers = {"X-Token": f"Bearer {CANARY}-h"} if place == "environment" else {}
        client = open_client(
            "openai:teacher-1", base_url=url, key_env="MY_KEY" if headers else None, headers=headers, timeout=0.3
        )
        texts.append(f"{client!r} {client.name} {vars(client)}")
        async with client:
            texts.append(f"{await client.complete(chat)!r}")

    def attempt(url: str) -> None:
        with caplog.at_level(logging.DEBUG):
            try:
                asyncio.run(work(url))
            except (RequestError, ClientError) as error:
                texts.append(f"{error} {error!r} {vars(error)} {error.__cause__}")

    for settings in ({"key": "another"}, *({"faults": {fault: 1.0}} for fault in FAULTS)):
        with teaching(**settings) as teacher:
            attempt(f"{teacher.url}/v1")
    for url in ("127.0.0.1:1/v1", "ftp://127.0.0.1/v1", "http://127.0.0.1:1/v1"):
        attempt(url)
    assert len(texts) >= 2 * len(FAULTS)
    assert CANARY not in "\n".join(texts) + caplog.text


def read_reply(body: dict[str, Any]) -> Reply:
    client = open_client("openai:teacher-1", base_url="http://localhost/v1")
    assert isinstance(client, RemoteClient)
    return client.read(body)


def completion(**message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("body", "text", "finish"),
    [
        (completion(content="A dog."), "A dog.", "stop"),
        (completion(content=None, reasoning_content="Hm."), "", "thinking"),
        (completion(content="", reasoning="Hm."), "", "thinking"),
        (completion(content="A dog.", reasoning_content="Hm."), "A dog.", "stop"),
        (completion(content=[{"type": "text", "text": "A "}, {"type": "text", "text": "dog."}]), "A dog.", "stop"),
        (completion(content=[{"type": "thinking", "thinking": "Hm."}]), "", "thinking"),
        (
            completion(content=[{"type": "reasoning", "text": "Hm."}, {"type": "output_text", "text": "A dog."}]),
            "A dog.",
            "stop",
        ),
        (
            completion(content=None, tool_calls=[{"function": {"arguments": '{"answer": "A"}'}}]),
            '{"answer": "A"}',
            "stop",
        ),
        (completion(content=None, refusal="I will not."), "I will not.", "content_filter"),
        (completion(content="A dog.") | {"usage": None}, "A dog.", "stop"),
        (completion(content="A dog.") | {"usage": {"prompt_tokens": None}}, "A dog.", "stop"),
    ],
)
def test_replies_are_read_liberally(body: dict[str, Any], text: str, finish: str) -> None:
    assert read_reply(body) == Reply(text, "teacher-1", {}, finish)


def test_sampling_and_further_fields_are_sent() -> None:
    client = open_client("openai:teacher-1", base_url="http://localhost/v1")
    assert isinstance(client, RemoteClient)
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    asked = Request("", (Turn("user", "Hi"),), temperature=0.3, top_p=0.9, extra=extra)
    assert client.body(asked).items() >= {"temperature": 0.3, "top_p": 0.9, **extra}.items()
    assert asked.key("m") != replace(asked, extra=None).key("m") != replace(asked, extra=None, top_p=None).key("m")


@pytest.mark.parametrize("body", [{}, {"choices": None}, {"choices": [None]}, {"choices": [{"message": None}]}])
def test_a_body_without_a_choice_is_no_reply(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="no_choices"):
        read_reply(body)

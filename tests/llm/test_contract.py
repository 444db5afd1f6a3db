"""The contract of every client; one that needs an argument or options adds them to `opened`."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llm.conftest import sample_request
from teacher_server import teaching
from vistune.errors import ClientError, VistuneError
from vistune.generate.kinds import Prompts
from vistune.llm import Client, Reply, Request, open_client
from vistune.llm.providers import providers
from vistune.llm.providers.openai_batch import BatchClient

KINDS = sorted(Prompts().folders())
SHORT = replace(sample_request(kind="detail"), max_tokens=20)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with teaching() as teacher:
        yield teacher.url


@pytest.fixture(params=providers.names())
def opened(
    request: pytest.FixtureRequest, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Client]:
    """How a user opens the client."""
    replies = tmp_path / "replies.jsonl"
    replies.write_text("".join(json.dumps({"id": "7", "kind": kind, "text": "A reply."}) + "\n" for kind in KINDS))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-nobody")
    name = str(request.param)
    if name in ("openai", "anthropic", "batch"):
        return lambda: open_client(f"{name}:teacher-1", base_url=f"{url}/v1")
    if name == "local":
        model = request.getfixturevalue("language_model")
        return lambda: open_client(f"local:{model}", device="cpu")
    return lambda: open_client({"scripted": f"scripted:{replies}"}.get(name, name))


def complete(client: Client, *requests: Request) -> list[Reply]:
    async def work() -> list[Reply]:
        async with client:
            return await asyncio.gather(*(client.complete(one) for one in requests))

    return asyncio.run(work())


def test_it_replies_to_each_kind(opened: Callable[[], Client]) -> None:
    client = opened()
    for reply in complete(client, *(replace(sample_request(kind=kind), max_tokens=100) for kind in KINDS)):
        assert reply.text.strip()
        assert reply.model
        assert reply.finish in ("", "stop", "length")
        assert set(reply.usage) <= {"input", "output", "cached"}
        assert all(count >= 0 for count in reply.usage.values())
        json.dumps(dict(reply.usage))


def test_the_same_request_gets_the_same_reply_also_when_opened_again(opened: Callable[[], Client]) -> None:
    client = opened()
    [first], [again], [other] = (complete(one, SHORT) for one in (client, client, opened()))
    assert first.text == again.text == other.text
    assert client.name == opened().name != ""


def test_many_concurrent_requests(opened: Callable[[], Client]) -> None:
    replies = complete(opened(), *[SHORT] * 30)
    assert len(replies) == 30
    assert len({reply.text for reply in replies}) == 1


def test_it_reports_whether_it_supports_schemas(opened: Callable[[], Client]) -> None:
    async def probe(client: Client) -> bool:
        async with client:
            return await client.supports_schema()

    client = opened()
    assert asyncio.run(probe(client)) == (client.remote and not isinstance(client, BatchClient))


def test_closing_leaves_nothing_open(opened: Callable[[], Client]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        complete(opened(), replace(SHORT, max_tokens=5))
        gc.collect()


def test_an_unknown_client_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(VistuneError, match="did you mean 'scripted'"):
        open_client("scriptd")


@pytest.mark.parametrize("spec", ["scripted", "scripted:", "openai"])
def test_a_missing_argument_is_an_error(spec: str) -> None:
    with pytest.raises(ClientError, match=r"(scripted:FILE|openai:MODEL)"):
        open_client(spec)


def test_an_option_of_other_clients_is_an_error_that_names_them() -> None:
    with pytest.raises(ClientError, match=r"'symbolic' has no option base_url\n.*openai"):
        open_client("symbolic", base_url="http://localhost")
    with pytest.raises(ClientError, match="no option 'speed'"):
        open_client("symbolic", speed=1)
    assert open_client("symbolic", base_url=None, key_env=None).name == "symbolic"

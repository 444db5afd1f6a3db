"""What every client promises; one that needs an argument or options adds them to `opened`."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from teacher_server import teaching
from vistune.errors import ClientError, VistuneError
from vistune.generate.kinds import Prompts
from vistune.llm import Client, Reply, Request, open_client
from vistune.llm.providers import providers
from vistune.llm.providers.openai_batch import BatchClient
from vistune.records import Box, ImageRecord

SCENE = ImageRecord(
    id="7",
    image=Path("7.jpg"),
    width=640,
    height=480,
    captions=("A dog lies next to a chair.", "A brown dog and a chair."),
    boxes=(Box("dog", 0.05, 0.55, 0.45, 0.95), Box("chair", 0.6, 0.3, 0.9, 0.9)),
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with teaching() as teacher:
        yield teacher.url


@pytest.fixture(params=providers.names())
def opened(
    request: pytest.FixtureRequest, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Client]:
    """How a user would open the client."""
    replies = tmp_path / "replies.jsonl"
    replies.write_text(
        "".join(
            json.dumps({"id": "7", "kind": kind, "text": "A reply."}) + "\n" for kind in sorted(Prompts().folders())
        )
    )
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-nobody")
    name = str(request.param)
    if name in ("openai", "anthropic", "batch"):
        return lambda: open_client(f"{name}:teacher-1", base_url=f"{url}/v1")
    if name == "local":
        model = request.getfixturevalue("language_model")
        return lambda: open_client(f"local:{model}", device="cpu")
    return lambda: open_client({"scripted": f"scripted:{replies}"}.get(name, name))


@pytest.fixture(params=sorted(Prompts().folders()))
def asked(request: pytest.FixtureRequest) -> Request:
    """A real request of each kind, with captions and boxes."""
    made = Prompts().load(request.param, ["captions", "boxes"]).request(SCENE, seed=0)
    assert made is not None
    return made


def ask(client: Client, *requests: Request) -> list[Reply]:
    async def work() -> list[Reply]:
        async with client:
            return await asyncio.gather(*(client.complete(one) for one in requests))

    return asyncio.run(work())


def test_it_answers_each_kind(opened: Callable[[], Client], asked: Request) -> None:
    [reply] = ask(opened(), replace(asked, max_tokens=400))
    assert isinstance(reply, Reply)
    assert reply.text.strip()
    assert reply.model
    assert reply.finish in ("", "stop", "length")
    assert set(reply.usage) <= {"input", "output", "cached"}
    assert all(count >= 0 for count in reply.usage.values())
    json.dumps(dict(reply.usage))


def test_the_same_request_gets_the_same_reply(opened: Callable[[], Client], asked: Request) -> None:
    request = replace(asked, max_tokens=20)
    assert ask(opened(), request)[0].text == ask(opened(), request)[0].text


def test_its_name_is_the_same_for_the_same_client(opened: Callable[[], Client]) -> None:
    assert opened().name == opened().name != ""


def test_many_requests_at_a_time(opened: Callable[[], Client]) -> None:
    made = Prompts().load("detail", ["captions", "boxes"]).request(SCENE, seed=0)
    assert made is not None
    replies = ask(opened(), *[replace(made, max_tokens=20)] * 50)
    assert len(replies) == 50
    assert len({reply.text for reply in replies}) == 1


def test_it_says_whether_it_keeps_to_schemas(opened: Callable[[], Client]) -> None:
    async def probe(client: Client) -> bool:
        async with client:
            return await client.supports_schema()

    client = opened()
    assert asyncio.run(probe(client)) == (client.remote and not isinstance(client, BatchClient))


def test_closing_leaves_nothing_open(opened: Callable[[], Client], asked: Request) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        ask(opened(), replace(asked, max_tokens=5))
        gc.collect()


def test_it_can_be_opened_again(opened: Callable[[], Client], asked: Request) -> None:
    client, request = opened(), replace(asked, max_tokens=5)
    assert ask(client, request)[0].text == ask(client, request)[0].text


def test_an_unknown_client_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(VistuneError, match="did you mean 'scripted'"):
        open_client("scriptd")


@pytest.mark.parametrize("spec", ["scripted", "scripted:", "openai"])
def test_a_missing_argument_is_an_error(spec: str) -> None:
    with pytest.raises(ClientError, match=r"(scripted:FILE|openai:MODEL)"):
        open_client(spec)


def test_an_option_that_a_client_does_not_take_is_an_error_that_names_who_does() -> None:
    with pytest.raises(ClientError, match=r"'symbolic' has no option base_url\n.*openai"):
        open_client("symbolic", base_url="http://localhost")
    with pytest.raises(ClientError, match="no option 'speed'"):
        open_client("symbolic", speed=1)


def test_an_option_that_is_none_is_not_given() -> None:
    assert open_client("symbolic", base_url=None, key_env=None).name == "symbolic"

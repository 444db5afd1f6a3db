"""What every client promises; one that needs an argument adds it here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from vistune.clients import Reply, Request, clients, open_client
from vistune.errors import ClientError, VistuneError
from vistune.generate.kinds import kind_names, load_kind
from vistune.records import Box, ImageRecord

SCENE = ImageRecord(
    id="7",
    image=Path("7.jpg"),
    width=640,
    height=480,
    captions=("A dog lies next to a chair.", "A brown dog and a chair."),
    boxes=(Box("dog", 0.05, 0.55, 0.45, 0.95), Box("chair", 0.6, 0.3, 0.9, 0.9)),
)


@pytest.fixture(params=clients.names())
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """How a user would name the client."""
    replies = tmp_path / "replies.jsonl"
    replies.write_text(
        "".join(json.dumps({"id": "7", "kind": kind, "text": "A reply."}) + "\n" for kind in kind_names())
    )
    name = str(request.param)
    return {"scripted": f"scripted:{replies}"}.get(name, name)


@pytest.fixture(params=kind_names())
def asked(request: pytest.FixtureRequest) -> Request:
    """A real request of each kind, with captions and boxes."""
    made = load_kind(request.param, ["captions", "boxes"]).request(SCENE, seed=0)
    assert made is not None
    return made


def test_it_answers_each_kind(spec: str, asked: Request) -> None:
    reply = asyncio.run(open_client(spec).complete(asked))
    assert isinstance(reply, Reply)
    assert reply.text.strip()
    assert reply.model
    json.dumps(dict(reply.usage))


def test_its_name_is_the_same_for_the_same_client(spec: str) -> None:
    assert open_client(spec).name == open_client(spec).name != ""


def test_many_requests_at_a_time(spec: str, asked: Request) -> None:
    async def ask() -> list[Reply]:
        client = open_client(spec)
        return await asyncio.gather(*(client.complete(asked) for _ in range(50)))

    assert len(asyncio.run(ask())) == 50


def test_an_unknown_client_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(VistuneError, match="did you mean 'scripted'"):
        open_client("scriptd")


def test_a_missing_argument_is_an_error() -> None:
    with pytest.raises(ClientError, match="scripted:FILE"):
        open_client("scripted")

"""The official client's calls of the benchmark against our server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.openai_calls import CALLS, Chat
from chat_server import KEY, serving
from vistune.serve.jobs import Limits


@pytest.fixture(scope="module")
def chat(assistants: dict[str, Path]) -> Iterator[Chat]:
    with serving(assistants["language"], Limits(batch=4)) as server:
        yield Chat(f"{server.url}/v1", "tiny", KEY)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_the_client_s_call(chat: Chat, call: Callable[[Chat], None]) -> None:
    call(chat)

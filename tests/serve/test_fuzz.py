"""A few hundred of the benchmark's malformed requests, clients without the key, and more clients than places."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serve_fuzz import attack, crowd, leave, malformed, without_key
from chat_server import KEY, Server, serving
from vistune.serve.jobs import Limits


@pytest.fixture(scope="module")
def server(assistants: dict[str, Path]) -> Iterator[Server]:
    with serving(assistants["language"], Limits(batch=10, queue=20), name="model", body=2**20) as server:
        yield server


def test_malformed_requests_are_refused_without_a_failure_or_an_echo(server: Server) -> None:
    statuses, wrong = asyncio.run(attack(server.url, KEY, malformed(2, 400)))
    assert wrong == []
    assert {200, 400, 404, 405, 415, 422} <= set(statuses)


def test_without_the_key_every_route_but_health_is_closed(server: Server) -> None:
    assert asyncio.run(without_key(server.url)) == []


def test_clients_at_once_are_answered_or_refused(server: Server) -> None:
    statuses = asyncio.run(crowd(server.url, KEY, 64))
    assert set(statuses) <= {200, 429, 503}
    assert statuses[200] >= 30


def test_answers_of_clients_that_leave_end(server: Server) -> None:
    assert asyncio.run(leave(server.url, KEY, 20)) < 2

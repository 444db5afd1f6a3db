from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from llm.conftest import sample_request
from teacher_server import Teacher, teaching
from vistune.errors import ClientError
from vistune.llm import Reply, Request, RequestError, open_client

REQUESTS = [sample_request(number) for number in range(30)]


def complete(teacher: Teacher, *requests: Request, folder: Path | None = None, size: int = 1_000) -> list[Reply]:
    async def work() -> list[Reply]:
        async with open_client("batch:teacher-1", base_url=f"{teacher.url}/v1", folder=folder, size=size) as client:
            return await asyncio.gather(*(client.complete(one) for one in requests))

    return asyncio.run(work())


def test_replies_are_those_of_single_requests(teacher: Teacher) -> None:
    async def single() -> list[Reply]:
        async with open_client("openai:teacher-1", base_url=f"{teacher.url}/v1") as client:
            return [await client.complete(one) for one in REQUESTS]

    alone = asyncio.run(single())
    replies = complete(teacher, *REQUESTS)
    assert [(one.text, one.usage) for one in replies] == [(one.text, one.usage) for one in alone]
    assert teacher.stats["batches"] == 1


def test_a_full_batch_is_sent(teacher: Teacher) -> None:
    complete(teacher, *REQUESTS, size=10)
    assert teacher.stats["batches"] == 3


def test_a_run_that_was_killed_waits_for_the_same_batch(teacher: Teacher, tmp_path: Path) -> None:
    async def killed() -> None:
        client = open_client("batch:teacher-1", base_url=f"{teacher.url}/v1", folder=tmp_path)
        async with client:
            waiting = [asyncio.create_task(client.complete(one)) for one in REQUESTS]
            while not (tmp_path / "batches.jsonl").exists():
                await asyncio.sleep(0.01)
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(killed())
    with (tmp_path / "batches.jsonl").open("a") as file:
        file.write('{"batch": "0", "ke')  # as a kill leaves it
    assert len({reply.text for reply in complete(teacher, *REQUESTS, folder=tmp_path)}) > 1
    assert teacher.stats["batches"] == 1


def test_a_request_that_fails_in_its_batch_fails_alone() -> None:
    async def work(teacher: Teacher) -> list[Reply | BaseException]:
        async with open_client("batch:teacher-1", base_url=f"{teacher.url}/v1") as client:
            return await asyncio.gather(*(client.complete(one) for one in REQUESTS), return_exceptions=True)

    with teaching(faults={"content_filter": 0.2, "http_500": 0.2}) as teacher:
        replies = asyncio.run(work(teacher))
    faults = [one for one in replies if isinstance(one, RequestError)]
    assert {one.reason for one in faults} == {"content_filter", "http_500"}
    assert all(one.retry == (one.reason == "http_500") for one in faults)
    assert all(isinstance(one, Reply | RequestError) for one in replies)


def test_a_server_without_batches_stops_the_run(tmp_path: Path) -> None:
    with teaching(faults={}) as teacher, pytest.raises(ClientError, match="404"):
        asyncio.run(_complete_at_no_server(teacher.url, tmp_path))


async def _complete_at_no_server(url: str, folder: Path) -> None:
    async with open_client("batch:teacher-1", base_url=f"{url}/nowhere", folder=folder) as client:
        await client.complete(REQUESTS[0])


def test_the_file_has_keys_only(teacher: Teacher, tmp_path: Path) -> None:
    complete(teacher, REQUESTS[0], folder=tmp_path)
    [row] = map(json.loads, (tmp_path / "batches.jsonl").read_text().splitlines())
    assert row == {"batch": "0", "keys": [REQUESTS[0].key("teacher-1")]}

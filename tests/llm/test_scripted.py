from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vistune.errors import ClientError
from vistune.llm import Request, open_client
from vistune.llm.providers.scripted import ScriptedClient
from vistune.records import Turn


def request(record: str, kind: str = "detail") -> Request:
    return Request("", (Turn("user", "x"),), kind, record_id=record)


def test_by_record_and_kind() -> None:
    client = ScriptedClient({("1", "detail"): "one", ("2", "detail"): "two"})
    assert asyncio.run(client.complete(request("2"))).text == "two"
    with pytest.raises(ClientError, match="record '1', reasoning"):
        asyncio.run(client.complete(request("1", "reasoning")))


@pytest.mark.parametrize("line", ["not json", '{"id": "1", "kind": "detail"}', "[]"])
def test_a_bad_line_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    file.write_text('{"id": "1", "kind": "detail", "text": "one"}\n' + line)
    with pytest.raises(ClientError, match=r"replies\.jsonl:2"):
        open_client(f"scripted:{file}")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"gone\.jsonl"):
        open_client(f"scripted:{tmp_path / 'gone.jsonl'}")

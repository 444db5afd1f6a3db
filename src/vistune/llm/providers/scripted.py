"""Given replies: recorded, or written by hand or by any other model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vistune.errors import ClientError
from vistune.llm.client import Client, Reply, Request
from vistune.llm.providers import providers
from vistune.reading import parse_json, read_text


class ScriptedClient(Client):
    """Replies from a mapping of (record id, kind) to text."""

    name = "scripted"

    def __init__(self, replies: Mapping[tuple[str, str], str]) -> None:
        self._replies = replies

    async def complete(self, request: Request) -> Reply:
        """The text for this request. Raises ClientError if there is none."""
        text = self._replies.get((request.record_id, request.kind))
        if text is None:
            where = f"record '{request.record_id}', {request.kind}"
            raise ClientError("there is no scripted reply", where=where, fix="add one to the file of replies")
        return Reply(text, self.name)


@providers.register("scripted")
def from_file(file: str) -> ScriptedClient:
    """A client of the replies in a JSONL file: `{"id": RECORD, "kind": KIND, "text": REPLY}` in each line.

    Raises ClientError for a file that cannot be read and for any other line.
    """
    lines = read_text(Path(file), ClientError).strip().split("\n")
    return ScriptedClient(dict(_parse(line, f"{file}:{number}") for number, line in enumerate(lines, 1)))


def _parse(line: str, where: str) -> tuple[tuple[str, str], str]:
    row = parse_json(line, where, ClientError)
    try:
        return (str(row["id"]), str(row["kind"])), str(row["text"])
    except (KeyError, TypeError):
        fix = 'write {"id": RECORD, "kind": KIND, "text": REPLY}'
        raise ClientError("this line is not a reply", where=where, fix=fix) from None

"""Answers in JSON follow their schema, whatever the model would write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_server import Server, serving
from vistune.serve.jobs import Limits

SCHEMA = {
    "type": "object", "required": ["colour", "boxes"], "additionalProperties": False,
    "properties": {
        "colour": {"enum": ["red", "dark blue"]},
        "boxes": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=["language", "narrow"])
def server(request: pytest.FixtureRequest, assistants: dict[str, Path]) -> Iterator[Server]:
    with serving(assistants[request.param], Limits(batch=4)) as server:
        yield server


def post(server: Server, response_format: dict[str, Any], **fields: Any) -> Any:
    messages = [{"role": "user", "content": "yes"}]
    return server.post({"messages": messages, "max_tokens": 200, "response_format": response_format} | fields)


def test_every_answer_follows_the_schema(server: Server) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "found", "schema": SCHEMA, "strict": True}}
    replies = [post(server, wanted), post(server, wanted, temperature=2, seed=1, n=3, logprobs=True, top_logprobs=2)]
    for choice in (choice for reply in replies for choice in reply.json()["choices"]):
        answer = json.loads(choice["message"]["content"])
        assert choice["finish_reason"] == "stop"
        assert set(answer) == {"colour", "boxes"}
        assert answer["colour"] in ("red", "dark blue")
        assert len(answer["boxes"]) <= 2
    assert json.loads(post(server, wanted, stream=False).json()["choices"][0]["message"]["content"])


def test_a_json_object_begins_as_one(server: Server) -> None:
    reply = post(server, {"type": "json_object"}, max_tokens=20, temperature=1, seed=3)
    assert reply.json()["choices"][0]["message"]["content"].startswith("{")


def test_a_wrong_schema_is_the_request_s_fault_and_is_not_repeated(server: Server) -> None:
    for schema in ({"type": "secret"}, {"$ref": "#/secret"}, {"pattern": "(secret", "type": "string"}):
        reply = post(server, {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "response_format")
        assert "secret" not in reply.text


def test_a_wrong_format_names_the_field(server: Server) -> None:
    for wanted, named in (
        ({"type": "xml"}, "response_format: the type must be one of"),
        ({"type": "json_schema"}, "response_format.json_schema: Field required"),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "response_format.json_schema.schema: Field required"),
    ):
        reply = post(server, wanted)
        assert reply.status_code == 400
        assert reply.json()["error"]["message"].startswith(named)

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from vistune.llm.client import Message, Request
from vistune.llm.providers.anthropic import anthropic
from vistune.llm.providers.openai import openai
from vistune.llm.template import Template

SHOTS = (Message("user", "A cat."), Message("assistant", 'It says "7".'))
ASKED = Request("Be kind.", (*SHOTS, Message("user", "A dog.")), "detail", 7, "1", max_tokens=70)
SCHEMA = {"type": "object"}
OTHERS = [
    replace(ASKED, seed=2**31 - 1, record_id="2"),
    replace(ASKED, messages=(*SHOTS, Message("user", '"\n\\ \u00e9 \U0001f600 7 {}'))),
    replace(ASKED, messages=(*SHOTS, Message("assistant", "A dog."))),
    replace(ASKED, messages=SHOTS),
    replace(ASKED, system=""),
    replace(ASKED, kind="reasoning"),
    replace(ASKED, schema=SCHEMA),
    replace(ASKED, temperature=0.5),
    replace(ASKED, max_tokens=None),
]


@pytest.mark.parametrize("make", [openai, anthropic])
def test_the_text_is_that_of_the_body_whatever_was_asked_before(make: type) -> None:
    client = make("teacher", base_url="http://localhost:1/v1")
    for before in (ASKED, *OTHERS):
        for request in (ASKED, *OTHERS):
            client._text(before)
            assert client._text(request) == json.dumps(client.body(request))


def test_a_prompt_is_rendered_once() -> None:
    rendered: list[Request] = []

    def render(request: Request) -> str:
        rendered.append(request)
        return json.dumps([request.seed, request.query, request.kind])

    text = Template(render)
    for number in range(9):
        for kind in ("detail", "reasoning"):
            last = Message("user", f"Photo {number}.")
            asked = replace(ASKED, messages=(*SHOTS, last), seed=number, kind=kind)
            assert json.loads(text(asked)) == [number, last.text, kind]
    assert len(rendered) == 2

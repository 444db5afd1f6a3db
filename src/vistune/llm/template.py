"""The JSON text of requests that differ in query and seed only: what they share is turned into text once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vistune.llm.client import Request

_BITS = 62  # of marks, which no prompt has in it by chance
_RANDOM = SystemRandom()


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A request, and its text in pieces: every second one is a mark, that of the query or that of the seed."""

    request: Request
    pieces: tuple[str, ...]
    query_mark: str

    def shared_by(self, other: Request) -> bool:
        """Whether `other` differs in nothing but query and seed."""
        mine = self.request
        return (
            mine.system == other.system
            and mine.messages[:-1] == other.messages[:-1]
            and mine.messages[-1].role == other.messages[-1].role
            and mine.schema is other.schema
            and mine.max_tokens == other.max_tokens
            and repr(mine.temperature) == repr(other.temperature)  # 1 and 1.0 are written otherwise
        )


class Template:
    """Gives what `render` gives: a request's JSON text, with the query and the seed as they are, if they are in it.

    Requests of one prompt cost little; the last prompt of each kind is known. A schema must not be changed in place.
    """

    def __init__(self, render: Callable[[Request], str]) -> None:
        self._render = render
        self._prompts: dict[str, _Prompt] = {}

    def __call__(self, request: Request) -> str:
        """The text."""
        prompt = self._prompts.get(request.kind)
        if prompt is None or not prompt.shared_by(request):
            prompt = self._prompts[request.kind] = self._cut(request)
        query, values = json.dumps(request.query), list(prompt.pieces)
        values[1::2] = (query if mark == prompt.query_mark else str(request.seed) for mark in values[1::2])
        return "".join(values)

    def _cut(self, request: Request) -> _Prompt:
        """The text of a request like this one, cut where its query and its seed stand."""
        query, seed = f"{_RANDOM.getrandbits(_BITS):x}-query", _RANDOM.getrandbits(_BITS)
        last = replace(request.messages[-1], text=query)
        text = self._render(replace(request, messages=(*request.messages[:-1], last), seed=seed))
        return _Prompt(request, tuple(re.split(f'("{query}"|{seed})', text)), f'"{query}"')

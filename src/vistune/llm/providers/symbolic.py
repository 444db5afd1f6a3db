"""A rule-based teacher: it writes the built-in kinds from the context text alone, as a language model does."""

from __future__ import annotations

import random
from collections.abc import Callable

from vistune.errors import ClientError
from vistune.llm.client import Client, Reply, Request
from vistune.llm.providers import providers
from vistune.scene.context import parse_context
from vistune.scene.writer import SceneWriter

TURNS = (6, 10)
"""Minimum and maximum number of questions in a conversation."""


@providers.register("symbolic")
class SymbolicClient(Client):
    """Needs no key, no network and no model; the same request always gets the same reply.

    It writes only what captions and boxes support, so every kind shows it both. Its kinds: conversation, detail,
    reasoning, grounding.
    """

    name = "symbolic"
    needs = ("captions", "boxes")
    concurrency = 256  # it answers at once, and replies in flight share a commit of the store

    async def complete(self, request: Request) -> Reply:
        """The reply in the text format; empty for an image without boxes."""
        captions, boxes = parse_context(request.query)
        seed = f"{request.kind}/{request.seed}/{request.query}"  # not the prompt: its wording changes no text
        writer = SceneWriter(captions, boxes, random.Random(seed), request.vocabulary, request.about)
        writers: dict[str, Callable[[], str]] = {
            "conversation": lambda: _blocks(writer.conversation(writer.rng.randint(*TURNS))),
            "detail": writer.description,
            "grounding": lambda: _blocks(writer.grounding(writer.rng.randint(*TURNS))),
            "reasoning": lambda: _blocks([pair] if (pair := writer.reasoning()) else []),
        }
        if request.kind not in writers:
            fix = f"use another --teacher, or one of the kinds {', '.join(writers)}"
            raise ClientError(f"the symbolic teacher has no rules for the kind '{request.kind}'", fix=fix)
        return Reply(writers[request.kind]() if boxes else "", self.name)


def _blocks(pairs: list[tuple[str, str]]) -> str:
    return "\n===\n".join(f"Question:\n{question}\n===\nAnswer:\n{answer}" for question, answer in pairs)

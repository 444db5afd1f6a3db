"""The answers of one model, or of two side by side, as they grow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from vistune.errors import VistuneError
from vistune.llm.client import RequestError
from vistune.serve.models import ChatModel
from vistune.serve.web.messages import Message, answer_message, remark, to_openai

_LOG = logging.getLogger(__name__)
_REFRESH = 0.05
"""Seconds between two updates of the page: each sends what is new in the whole conversation."""
Histories = Sequence[list[Message]]


async def grow(
    models: Sequence[ChatModel], histories: Histories, options: Mapping[str, Any], with_speed: bool
) -> AsyncGenerator[list[list[Message]]]:
    """The conversations, one for each model, with the answers so far; leaving the iteration stops these."""
    replies: list[list[Message]] = [[] for _ in models]
    tasks = [
        asyncio.create_task(_follow(model, history, reply, options, with_speed))
        for model, history, reply in zip(models, histories, replies, strict=True)
    ]
    try:
        pending = set(tasks)
        while pending:
            _, pending = await asyncio.wait(pending, timeout=_REFRESH)
            yield [[*history, *reply] for history, reply in zip(histories, replies, strict=True)]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(
    model: ChatModel, history: list[Message], reply: list[Message], options: Mapping[str, Any], with_speed: bool
) -> None:
    """Keep the messages of `reply` up to date."""
    try:
        messages = await asyncio.to_thread(to_openai, history)
        async with aclosing(model.stream({"messages": messages, **options})) as answers:
            async for answer in answers:
                reply[:] = [answer_message(answer.text)]
        reply[:] = [answer_message(answer.text, whole=True)]
        if with_speed:
            reply.append(remark(f"<small>{answer.speed}</small>"))
    except (VistuneError, RequestError) as error:
        reply.append(remark(f"⚠ {describe(error)}"))
    except Exception:
        _LOG.exception("an answer failed")
        reply.append(remark("⚠ an error of the server; its log has the details"))


def describe(error: VistuneError | RequestError) -> str:
    """What an error says to a user of the page: of a VistuneError, no place on the server."""
    return error.what if isinstance(error, VistuneError) else str(error)

"""Calls of the official `openai` client: what a server of a visual assistant answers as OpenAI's API does.

    python benchmarks/openai_calls.py
    python benchmarks/openai_calls.py --url http://127.0.0.1:8000/v1 --model NAME --key KEY

Without `--url` a tiny checkpoint is made and served by `vistune serve` and `transformers serve`, one after the other.
Each call is a function below whose docstring is its name in the table. `tests/serve` runs the same calls.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import random
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import openai
from PIL import Image

REFUSED = openai.BadRequestError, openai.UnprocessableEntityError
"""Errors that say that the request is at fault."""


@dataclass
class Chat:
    """A served model, as its client sees it."""

    url: str
    model: str
    key: str = "none"
    client: openai.OpenAI = field(init=False)

    def __post_init__(self) -> None:
        self.client = openai.OpenAI(base_url=self.url, api_key=self.key, max_retries=0, timeout=120)

    def ask(self, *messages: dict[str, Any] | str, **options: Any) -> Any:
        """The reply to messages; a string is the user's."""
        made = [{"role": "user", "content": one} if isinstance(one, str) else one for one in messages]
        options = {"model": self.model, "max_completion_tokens": 10, "temperature": 0} | options
        return self.client.chat.completions.create(messages=made, **options)  # type: ignore[call-overload]

    def text(self, *messages: dict[str, Any] | str, **options: Any) -> str:
        """The text of the first choice."""
        return str(self.ask(*messages, **options).choices[0].message.content)


def user(*parts: str | int) -> dict[str, Any]:
    """A message; a number is the image of that number."""
    content = [
        {"type": "text", "text": part} if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": picture(part)}}
        for part in parts
    ]  # fmt: skip
    return {"role": "user", "content": content}


def picture(number: int) -> str:
    """A data URL of an image of noise."""
    file = io.BytesIO()
    Image.frombytes("RGB", (6, 6), random.Random(number).randbytes(108)).resize((60, 40)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def refused(call: Callable[[], Any], *kinds: type[openai.APIStatusError], named: str = "") -> None:
    """Check that the call fails with one of these errors, which names what is wrong, in OpenAI's shape."""
    error = _error(call)
    assert error is not None, "it is not refused"
    assert isinstance(error, kinds), f"status {error.status_code}"
    message = error.body.get("message") if isinstance(error.body, dict) else None
    assert message, "the error is not in OpenAI's shape"
    assert named in str(message), f"the error does not name {named}"


def _error(call: Callable[[], Any]) -> openai.APIStatusError | None:
    try:
        call()
    except openai.APIStatusError as error:
        return error
    return None


def models_list(chat: Chat) -> None:
    """`models.list`"""
    assert chat.model in [model.id for model in chat.client.models.list()]


def models_retrieve(chat: Chat) -> None:
    """`models.retrieve`"""
    assert chat.client.models.retrieve(chat.model).id == chat.model


def text_only(chat: Chat) -> None:
    """a question without an image"""
    reply = chat.ask("yes")
    assert (reply.object, reply.choices[0].message.role) == ("chat.completion", "assistant")
    assert reply.choices[0].message.content


def one_image(chat: Chat) -> None:
    """an image as a data URL"""
    assert len({chat.text(user(number, "what is it")) for number in range(4)}) > 1


def image_after_text(chat: Chat) -> None:
    """an image after the text"""
    assert len({chat.text(user("what is it", number)) for number in range(4)}) > 1


def several_images(chat: Chat) -> None:
    """several images in a message, in order"""
    pairs = [(0, 1), (1, 0), (2, 3), (3, 2)]
    assert len({chat.text(user(*pair, "what differs")) for pair in pairs}) > 1


def image_detail(chat: Chat) -> None:
    """`image_url.detail`"""
    part = {"type": "image_url", "image_url": {"url": picture(1), "detail": "low"}}
    assert chat.text({"role": "user", "content": [part, {"type": "text", "text": "what"}]})


def later_image(chat: Chat) -> None:
    """an image in a later turn"""
    first = chat.text("yes")
    turns = [user("yes"), {"role": "assistant", "content": first}]
    assert len({chat.text(*turns, user(number, "and this")) for number in range(4)}) > 1


def turns(chat: Chat) -> None:
    """a following turn with the client's own message object"""
    first = chat.ask(user(1, "what is it"))
    history = [user(1, "what is it"), first.choices[0].message.model_dump(), user("and left of it")]
    assert chat.text(*history)


def system_role(chat: Chat) -> None:
    """role `system`"""
    system = {"role": "system", "content": "Answer in one word, and never about red things."}
    assert chat.ask(system, "yes").usage.prompt_tokens > chat.ask("yes").usage.prompt_tokens


def developer_role(chat: Chat) -> None:
    """role `developer`"""
    asked = [{"role": role, "content": "Answer in one word."} for role in ("developer", "system")]
    assert chat.text(asked[0], "yes") == chat.text(asked[1], "yes")


def max_completion_tokens(chat: Chat) -> None:
    """`max_completion_tokens`"""
    reply = chat.ask("yes", max_completion_tokens=3)
    assert (reply.usage.completion_tokens, reply.choices[0].finish_reason) == (3, "length")


def max_tokens(chat: Chat) -> None:
    """`max_tokens`"""
    reply = chat.ask("yes", max_completion_tokens=openai.NOT_GIVEN, max_tokens=2)
    assert (reply.usage.completion_tokens, reply.choices[0].finish_reason) == (2, "length")


def greedy(chat: Chat) -> None:
    """`temperature` 0: the same answer again"""
    assert chat.text(user(2, "what"), temperature=0) == chat.text(user(2, "what"), temperature=0)


def seed(chat: Chat) -> None:
    """`seed`: the same draws again, others with another"""
    draws = [chat.text("yes", temperature=1, seed=number) for number in (1, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1


def top_p(chat: Chat) -> None:
    """`top_p`"""
    assert chat.text("yes", temperature=1, top_p=1e-6) == chat.text("yes")


def top_k(chat: Chat) -> None:
    """`top_k` (vLLM's extension)"""
    assert chat.text("yes", temperature=1, extra_body={"top_k": 1}) == chat.text("yes")


def stop(chat: Chat) -> None:
    """`stop`: the text ends before it, across token borders"""
    whole = chat.text("yes")
    for start in range(1, min(6, len(whole) - 3)):
        wanted = whole[start : start + 3]
        reply = chat.ask("yes", stop=wanted).choices[0]
        assert (reply.message.content, reply.finish_reason) == (whole[: whole.index(wanted)], "stop")


def stop_list(chat: Chat) -> None:
    """`stop` with several strings"""
    whole = chat.text("yes")
    assert chat.text("yes", stop=["never in it", whole[2:4]]) == whole[: whole.index(whole[2:4])]


def choices(chat: Chat) -> None:
    """`n`"""
    reply = chat.ask("yes", n=3, temperature=1, seed=1)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) > 1
    assert reply.usage.completion_tokens > 10


def penalties(chat: Chat) -> None:
    """`presence_penalty`, `frequency_penalty`"""
    assert chat.text("yes", max_completion_tokens=20, presence_penalty=2, frequency_penalty=2)


def usage(chat: Chat) -> None:
    """`usage` counts the image's tokens"""
    with_image, without = (chat.ask(user(*parts)).usage for parts in ((1, "yes"), ("yes",)))
    assert with_image.total_tokens == with_image.prompt_tokens + with_image.completion_tokens
    assert with_image.prompt_tokens > without.prompt_tokens + 3


def cached_tokens(chat: Chat) -> None:
    """`usage.prompt_tokens_details.cached_tokens` of a following turn"""
    first = chat.ask(user(5, "what is it"))
    history = [user(5, "what is it"), {"role": "assistant", "content": first.choices[0].message.content}]
    following = chat.ask(*history, "and left of it")
    assert following.usage.prompt_tokens_details.cached_tokens > first.usage.prompt_tokens // 2


def stream(chat: Chat) -> None:
    """`stream`: the pieces of the same answer"""
    pieces = [choice.delta.content or "" for chunk in chat.ask(user(1, "yes"), stream=True) for choice in chunk.choices]
    assert "".join(pieces) == chat.text(user(1, "yes"))
    assert sum(map(bool, pieces)) > 1


def stream_end(chat: Chat) -> None:
    """`stream`: the reason of its end"""
    chunks = list(chat.ask("yes", stream=True, max_completion_tokens=3))
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "length"
    assert len({chunk.id for chunk in chunks}) == 1


def stream_usage(chat: Chat) -> None:
    """`stream_options.include_usage`: a last chunk with the usage"""
    *_, last = chat.ask("yes", stream=True, stream_options={"include_usage": True})
    assert (last.choices, last.usage.completion_tokens) == ([], chat.ask("yes").usage.completion_tokens)


def stream_choices(chat: Chat) -> None:
    """`stream` with `n`"""
    texts = {0: "", 1: ""}
    for chunk in chat.ask("yes", stream=True, n=2, temperature=1, seed=4):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    both = chat.ask("yes", n=2, temperature=1, seed=4).choices
    assert list(texts.values()) == [choice.message.content for choice in both]


def stream_stop(chat: Chat) -> None:
    """`stream` with `stop`: nothing of the stop string is sent"""
    whole = chat.text("yes")
    chunks = chat.ask("yes", stream=True, stop=whole[3:7])
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == whole[: whole.index(whole[3:7])]


def stream_helper(chat: Chat) -> None:
    """`chat.completions.stream`, the client's helper with events"""
    message: Any = {"role": "user", "content": "yes"}
    asked = {"model": chat.model, "messages": [message], "max_completion_tokens": 10, "temperature": 0}
    with chat.client.chat.completions.stream(**asked) as events:
        kinds = {event.type for event in events}
        final = events.current_completion_snapshot
    assert {"chunk", "content.delta"} <= kinds
    assert final.choices[0].message.content == chat.text("yes")


def stream_leave(chat: Chat) -> None:
    """a stream that the client closes"""
    chunks = chat.ask("yes", stream=True, max_completion_tokens=400)
    next(iter(chunks))
    chunks.close()
    assert chat.text("yes")


def logprobs(chat: Chat) -> None:
    """`logprobs`"""
    reply = chat.ask("yes", logprobs=True)
    tokens = reply.choices[0].logprobs.content
    assert all(token.logprob <= 0 for token in tokens)
    assert b"".join(bytes(token.bytes) for token in tokens).decode("utf-8", "replace").strip()


def top_logprobs(chat: Chat) -> None:
    """`top_logprobs`: a greedy token is the most probable"""
    tokens = chat.ask("yes", logprobs=True, top_logprobs=5).choices[0].logprobs.content
    assert all(len(token.top_logprobs) == 5 for token in tokens)
    assert all(token.logprob == max(one.logprob for one in token.top_logprobs) for token in tokens)


def stream_logprobs(chat: Chat) -> None:
    """`logprobs` in a stream"""
    chunks = chat.ask("yes", stream=True, logprobs=True)
    tokens = [one.token for chunk in chunks for choice in chunk.choices if choice.logprobs
              for one in choice.logprobs.content]  # fmt: skip
    assert tokens == [one.token for one in chat.ask("yes", logprobs=True).choices[0].logprobs.content]


def at_once(chat: Chat) -> None:
    """eight clients at once: each one's answer is the one it gets alone"""
    alone = [chat.text(user(number % 3, f"what is {number}")) for number in range(8)]
    with ThreadPoolExecutor(8) as clients:
        assert list(clients.map(lambda number: chat.text(user(number % 3, f"what is {number}")), range(8))) == alone


def asynchronous(chat: Chat) -> None:
    """`AsyncOpenAI`"""

    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=chat.url, api_key=chat.key, max_retries=0) as client:
            messages: Any = [{"role": "user", "content": "yes"}]
            reply = await client.chat.completions.create(
                model=chat.model, messages=messages, max_completion_tokens=10, temperature=0
            )
            return str(reply.choices[0].message.content)

    assert asyncio.run(ask()) == chat.text("yes")


def text_format(chat: Chat) -> None:
    """`response_format` text"""
    assert chat.text("yes", response_format={"type": "text"})


def unknown_model(chat: Chat) -> None:
    """an unknown model is a 404"""
    refused(lambda: chat.ask("yes", model="none-such"), openai.NotFoundError)


def unknown_field(chat: Chat) -> None:
    """an unknown field is a 400 or 422 that names it"""
    refused(lambda: chat.ask("yes", extra_body={"temprature": 1}), *REFUSED, named="temprature")


def wrong_value(chat: Chat) -> None:
    """a value out of range is a 400 or 422 that names the field"""
    refused(lambda: chat.ask("yes", temperature=9), *REFUSED, named="temperature")


def no_messages(chat: Chat) -> None:
    """no messages are a 400 or 422"""
    refused(lambda: chat.ask(), *REFUSED, named="messages")


def broken_image(chat: Chat) -> None:
    """an image that is none is a 400 or 422"""
    url = "data:image/png;base64," + base64.b64encode(b"no image").decode()
    content = [{"type": "image_url", "image_url": {"url": url}}]
    refused(lambda: chat.ask({"role": "user", "content": content}), *REFUSED, named="image")


def local_file(chat: Chat) -> None:
    """a file of the server as an image is a 400 or 422"""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        Image.new("RGB", (20, 20)).save(file.name)
        for url in (file.name, f"file://{file.name}"):
            content = [{"type": "image_url", "image_url": {"url": url}}]
            refused(lambda content=content: chat.ask({"role": "user", "content": content}), *REFUSED)  # type: ignore[misc]


def too_long(chat: Chat) -> None:
    """a prompt longer than the context is a 400 or 422"""
    refused(lambda: chat.ask("yes " * 20_000), *REFUSED, named="context")


CALLS: tuple[Callable[[Chat], None], ...] = (
    models_list, models_retrieve, text_only, one_image, image_after_text, several_images, image_detail, later_image,
    turns, system_role, developer_role, max_completion_tokens, max_tokens, greedy, seed, top_p, top_k, stop, stop_list,
    choices, penalties, usage, cached_tokens, stream, stream_end, stream_usage, stream_choices, stream_stop,
    stream_helper, stream_leave, logprobs, top_logprobs, stream_logprobs, at_once, asynchronous, text_format,
    unknown_model, unknown_field, wrong_value, no_messages, broken_image, local_file, too_long,
)  # fmt: skip


def outcome(call: Callable[[Chat], None], chat: Chat) -> str:
    """What is wrong with the answer, in a few words; empty if nothing is."""
    try:
        call(replace(chat))  # with a connection of its own: a server's failure may have closed the last one
    except AssertionError as error:
        return str(error).splitlines()[0] if str(error) else "another answer"
    except openai.APIStatusError as error:
        return f"status {error.status_code}"
    except openai.OpenAIError as error:
        return type(error).__name__
    except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
        return f"not in the reply ({type(error).__name__})"
    return ""


def main() -> None:
    """Run the calls and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a server's address, up to and including /v1")
    parser.add_argument("--model", default="model")
    parser.add_argument("--key", default="none")
    arguments = parser.parse_args()
    if arguments.url:
        chat = Chat(arguments.url, arguments.model, arguments.key)
        return show({"": {call: outcome(call, chat) for call in CALLS}})
    from eval_throughput import EVAL_SHAPES, make_model
    from serve_servers import SERVERS, serving

    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        make_model(EVAL_SHAPES["tiny"], Path(name))
        for server in ("vistune serve", "transformers serve"):
            with serving(SERVERS[server], folder) as (url, _):
                chat = Chat(url, SERVERS[server].model(folder))
                results[server] = {call: outcome(call, chat) for call in CALLS}
    return show(results)


def show(results: dict[str, dict[Callable[[Chat], None], str]]) -> None:
    """The table: a row for each call, a column for each server."""
    print(f"| call | {' | '.join(results)} |\n|---|{'---|' * len(results)}")
    for call in CALLS:
        print(f"| {call.__doc__} | {' | '.join(one[call] or 'yes' for one in results.values())} |")
    counts = [sum(not outcome for outcome in one.values()) for one in results.values()]
    print(f"| **of {len(CALLS)}** | {' | '.join(map(str, counts))} |")


if __name__ == "__main__":
    main()

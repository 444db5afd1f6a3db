"""The language models that reply to prompts, as teacher or judge: one file each.

A client is opened by a spec, `NAME` or `NAME:ARGUMENT`, and options by keyword:

    symbolic                                           rules instead of a language model
    scripted:FILE                                      given replies
    openai:MODEL     SERVER                            any server with OpenAI's chat completions
    anthropic:MODEL  SERVER                            Anthropic's messages; `seed` is not sent
    batch:MODEL      SERVER, folder, size              OpenAI's batches: half the price, within a day
    local:MODEL      device, batch_size                a model of transformers in this process

SERVER stands for the first five of the options:

    base_url      str                  URL of the server, up to and including /v1
    key_env       str                  name of the environment variable that holds the API key
    headers       Mapping[str, str]    sent with every request
    timeout       float                seconds until a request fails
    sends         bool                 False: no request will be sent, so no key is required
    folder        Path                 keeps the ids of batches, for which the next run waits after a kill
    size          int                  maximum number of requests in a batch
    device        str                  cpu, cuda, mps … (default: a GPU if there is one)
    batch_size    int                  maximum number of requests that are decoded together
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from vistune.errors import ClientError
from vistune.llm.client import Client
from vistune.registry import Registry

__all__ = ["open_client", "options_of", "providers"]

providers: Registry[Callable[..., Client]] = Registry("provider", "vistune.llm.providers")
"""An entry makes a client from options, and from the argument of its spec if it has one."""


def open_client(spec: str, **options: Any) -> Client:
    """The client of a spec such as `symbolic` or `openai:MODEL`; options that are None are ignored.

    Raises ClientError for an option that this client does not have, and for a missing or superfluous argument.
    """
    name, colon, argument = spec.partition(":")
    make = providers.get(name)
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in options_of(name):
            others = [other for other in providers.names() if option in options_of(other)]
            fix = f"it is an option of: {', '.join(others)}" if others else f"there is no option '{option}'"
            raise ClientError(f"'{name}' has no option {option}", fix=fix)
    parameters = inspect.signature(make).parameters.values()
    if required := [one.name.upper() for one in parameters if one.kind is not one.KEYWORD_ONLY]:
        if not argument:
            raise ClientError(f"'{name}' takes an argument", fix=f"write {name}:{required[0]}")
        return make(argument, **given)
    if colon:
        raise ClientError(f"'{name}' takes no argument", fix=f"write {name}")
    return make(**given)


def options_of(name: str) -> tuple[str, ...]:
    """The names of a client's options."""
    parameters = inspect.signature(providers.get(name)).parameters.values()
    return tuple(one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY)

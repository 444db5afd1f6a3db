"""Who answers prompts, as teacher or judge: one file each.

A client is named by a spec, `NAME` or `NAME:ARGUMENT`, and takes options by keyword, as `open_client` gives them:

    symbolic                                           rules instead of a language model
    scripted:FILE                                      replies recorded before
    openai:MODEL     SERVER                            any server with OpenAI's chat completions
    anthropic:MODEL  SERVER                            Anthropic's messages; `seed` is not sent
    batch:MODEL      SERVER, folder, size              OpenAI's batches: half the price, in a day
    local:MODEL      device, batch_size                a model of transformers in this process

where SERVER is base_url, key_env, headers, timeout, sends.

base_url: str      where the server is, up to and with /v1
key_env: str       the NAME of the environment variable that holds the API key
headers: Mapping[str, str]     sent with every request
timeout: float     seconds until a request is given up
sends: bool       False: nobody will be asked, so that no key is needed
folder: Path       where batches under way are noted, so that a run that was killed waits for the same ones
size: int          the most requests in a batch
device: str        cpu, cuda, mps … (default: a GPU if there is one)
batch_size: int    the most requests that are answered together
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
"""An entry makes a client, from nothing or from one text (what follows the colon of `name:argument`), and options."""


def open_client(spec: str, **options: Any) -> Client:
    """The client that a user names: `symbolic`, or with its argument, `openai:MODEL`.

    An option that is None is as if not given. Raises ClientError for one that this client does not take, and for an
    argument too many or too few.
    """
    name, colon, argument = spec.partition(":")
    make, arguments = providers.get(name), (argument,) if argument else ()
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in options_of(name):
            takers = [other for other in providers.names() if option in options_of(other)]
            fix = f"it is an option of: {', '.join(takers)}" if takers else f"there is no option '{option}'"
            raise ClientError(f"'{name}' has no option {option}", fix=fix)
    try:
        inspect.signature(make).bind(*arguments, **given)
    except TypeError:
        fix = name if argument else f"{name}:{next(iter(inspect.signature(make).parameters)).upper()}"
        raise ClientError(f"'{name}' takes {'no' if argument else 'an'} argument", fix=fix) from None
    if colon and not argument:
        raise ClientError(f"'{name}' has an empty argument", fix=name)
    return make(*arguments, **given)


def options_of(name: str) -> tuple[str, ...]:
    """The names of the options that a client takes."""
    parameters = inspect.signature(providers.get(name)).parameters.values()
    return tuple(one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY)

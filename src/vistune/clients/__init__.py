"""Who answers prompts, as teacher or judge: one file each."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from vistune.clients.base import Client, Message, Quota, Reply, Request, RequestError
from vistune.errors import ClientError
from vistune.registry import Registry

__all__ = ["Client", "Message", "Quota", "Reply", "Request", "RequestError", "clients", "open_client"]

clients: Registry[Callable[..., Client]] = Registry("client", "vistune.clients")
"""An entry makes a client, from nothing or from one text: what follows the colon of `name:argument`."""


def open_client(spec: str) -> Client:
    """The client that a user names: `symbolic`, or with its argument, `scripted:FILE`."""
    name, colon, argument = spec.partition(":")
    make, arguments = clients.get(name), (argument,) if colon else ()
    try:
        inspect.signature(make).bind(*arguments)
    except TypeError:
        fix = name if colon else f"{name}:{next(iter(inspect.signature(make).parameters)).upper()}"
        raise ClientError(f"client '{name}' takes {'no' if colon else 'an'} argument", fix=fix) from None
    return make(*arguments)

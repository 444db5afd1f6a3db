"""Asking a language model, whichever it is: the protocol, the providers, and what a run of many requests needs.

Nothing here knows of annotations, kinds of data or filters: who asks passes what makes a reply acceptable.
"""

from __future__ import annotations

from vistune.llm.client import Client, Reply, Request, RequestError
from vistune.llm.providers import open_client, options_of

__all__ = ["Client", "Reply", "Request", "RequestError", "open_client", "options_of"]

"""The bodies of responses, in bounded memory whatever a server sends."""

from __future__ import annotations

import zlib

import aiohttp

from vistune.llm.client import RequestError
from vistune.printable import printable

MAX_BODY = 16 * 2**20
"""Bytes of the largest body of a response."""
_COMPRESSED = {"": False, "identity": False, "gzip": True, "x-gzip": True, "deflate": True}


async def read_body(response: aiohttp.ClientResponse, most: int = MAX_BODY) -> bytes:
    """The body of a response, decompressed: the session has `auto_decompress=False`.

    Raises RequestError `too_large` for one of more than `most` bytes, of which no more is ever in memory, however
    small it is while it is compressed.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _COMPRESSED:
        raise RequestError("not_json", f"the body is compressed as {printable(encoding)[:40]}", billed=True)
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32) if _COMPRESSED[encoding] else None  # 32: gzip's head or zlib's
    body = bytearray()
    try:
        async for chunk in response.content.iter_chunked(2**16):
            body += inflate.decompress(chunk, most + 1 - len(body)) if inflate else chunk
            if len(body) > most:
                raise RequestError("too_large", f"the body is larger than {most // 2**20} MiB", billed=True)
    except zlib.error as error:
        raise RequestError("truncated", f"the compressed body is broken: {error}", billed=True) from None
    return bytes(body)

"""Images from addresses on the web: from allowed domains only, and only from public addresses.

A domain is resolved once, every address it resolves to must be public, and the connection goes to these addresses: a
name that resolves to another one a moment later (DNS rebinding) gains nothing. Redirects are not followed.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from vistune.errors import DataError

_MAX_BYTES = 32 * 2**20
# no user, no backslash, no IP address in any of its notations: parsers differ on these
_ADDRESS = re.compile(r"https?://((?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*)(?::\d{1,5})?(?:[/?][!-\[\]-~]*)?", re.IGNORECASE)
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""IPv4 addresses in IPv6 ones (RFC 6052)."""
_UNICAST = ipaddress.ip_network("2000::/3")
"""What is assigned of IPv6 for the internet (RFC 4291); ::/96 and others are not."""


class MediaFetcher:
    """Fetches images from `domains`, each in `seconds`; `resolver` gives a domain's addresses."""

    def __init__(
        self, domains: Collection[str] = (), resolver: AbstractResolver | None = None, seconds: float = 10
    ) -> None:
        self._domains = {domain.lower() for domain in domains}
        self._resolver, self._timeout = resolver, aiohttp.ClientTimeout(total=seconds)

    async def fetch(self, url: str, where: str) -> bytes:
        """The content of an address. Raises DataError with `where`, and nothing of the address."""
        if not self._domains:
            what = "image addresses are not fetched here, send a data URL (data:image/png;base64,…)"
            raise DataError(what, where=where, fix="send the image itself, as data:image/png;base64,…")
        matched = _ADDRESS.fullmatch(url)
        if matched is None or matched[1].lower() not in self._domains:
            raise DataError(
                "the image's address is not of an allowed domain (http:// or https://)",
                where=where,
                fix="send the image itself, as data:image/png;base64,…",
            )
        # without a cache of addresses, without proxies, cookies and credentials of this machine
        connector = aiohttp.TCPConnector(resolver=self._resolver or PublicResolver(), use_dns_cache=False)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=self._timeout, auto_decompress=False) as session,
                session.get(URL(url, encoded=True), allow_redirects=False) as response,
            ):
                return await _content(response, where)
        except (aiohttp.ClientError, OSError, ValueError):  # a TimeoutError is an OSError
            raise DataError(
                "the image could not be fetched from its address",
                where=where,
                fix="send the image itself, as data:image/png;base64,…",
            ) from None


class PublicResolver(aiohttp.ThreadedResolver):
    """The system's resolver, which fails for a host with any address that is not public."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError."""
        found = await super().resolve(host, port, family)
        if not all(is_public(one["host"]) for one in found):
            raise OSError("the address is not public")
        return found


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet, also where it is an IPv4 address in an IPv6 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner or ip not in _UNICAST:
            return bool(inner) and is_public(str(inner))
    return ip.is_global and not ip.is_multicast


async def _content(response: aiohttp.ClientResponse, where: str) -> bytes:
    if response.status != 200:
        raise DataError(
            "the image's address does not answer with an image (redirects are not followed)",
            where=where,
            fix="send the image itself, as data:image/png;base64,…",
        )
    content = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        content += chunk
        if len(content) > _MAX_BYTES:
            raise DataError(
                f"the image is larger than {_MAX_BYTES // 2**20} MiB",
                where=where,
                fix="send the image itself, as data:image/png;base64,…",
            )
    return bytes(content)

"""One HTTP session for every client that asks over the network: keys, time-outs, and faults told apart."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from vistune.errors import ClientError, VistuneError
from vistune.llm.client import RequestError
from vistune.llm.faults import Headers, fault
from vistune.llm.secrets import Secrets

CONNECT = 20.0
"""Seconds until a connection must be there."""


class Http:
    """Asks below one base URL, with the same headers each time. What the server sends is freed of secrets at once.

    `base_url` may hold a user and password, and a query that goes with every request. `key` is hidden wherever a
    server repeats it; so are the URL's password and query and the values of `headers`. Open from `async with` on.
    There is no limit on connections: how many requests are under way is the caller's to say.
    """

    def __init__(
        self, base_url: str, headers: Mapping[str, str] | None = None, *, key: str = "", timeout: float = 600.0
    ) -> None:
        headers = dict(headers or {})
        parts = urlsplit(base_url)
        query = [value for name, value in parse_qsl(parts.query) if name != "api-version"]
        proxy = _proxy(parts.scheme, parts.hostname or "")
        login = _login(base_url)
        bare = [value.partition(" ")[2] for value in headers.values()]  # of `Bearer KEY`
        self.secrets = Secrets([key, *login, ":".join(login), *query, *headers.values(), *bare, *_login(proxy)])
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClientError(
                f"'{self.secrets.hide(base_url)}' is no base URL", fix="one such as http://localhost:8000/v1"
            )
        if login and not any(name.lower() == "authorization" for name in headers):
            headers["Authorization"] = f"Basic {b64encode(':'.join([*login, ''][:2]).encode()).decode()}"
        if any(char in value for value in headers.values() for char in "\r\n\0"):
            raise ClientError("a header's value or the key has a line break in it", where=self.secrets.hide(base_url))
        self._base = URL(base_url).with_user(None)
        self.where = self.secrets.hide(str(self._base.with_query(None)))
        self._headers, self._timeout = headers, timeout
        self._urls: dict[str, URL] = {}
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=self._timeout, sock_connect=CONNECT)
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def post(self, path: str, body: bytes) -> tuple[dict[str, Any], Headers]:
        """The JSON object that the server answers to `body`, and its headers; else a RequestError or ClientError."""
        return await self.json("POST", path, data=body, headers={"Content-Type": "application/json"})

    async def json(self, method: str, path: str, **options: Any) -> tuple[dict[str, Any], Headers]:
        """The JSON object that the server answers; an error as in `raw`, or if it is none."""
        data, headers = await self.raw(method, path, **options)
        try:
            body = json.loads(data)
        except ValueError:
            raise RequestError("not_json", _words(data), billed=True) from None
        if not isinstance(body, dict):
            raise RequestError("not_json", _words(data), billed=True)
        return body, headers

    async def raw(self, method: str, path: str, **options: Any) -> tuple[bytes, Headers]:
        """The body of the server's answer and its headers.

        Raises RequestError where the run can go on (`unreachable`, `timeout`, `reset`, `truncated`, and as in
        `vistune.llm.faults`), ClientError where it cannot.
        """
        if self._session is None:
            raise RuntimeError("the client is not open: use it within `async with`")
        try:
            async with self._session.request(
                method, self._url(path), proxy=self._proxy, allow_redirects=False, **options
            ) as response:
                data = self.secrets.hide_bytes(await response.read())
                if response.status == 200:
                    return data, response.headers
                error = self._refused(response, data)
        except aiohttp.ClientError as caught:
            raise self._lost(caught) from None
        except TimeoutError as caught:
            late = isinstance(caught, aiohttp.ConnectionTimeoutError)
            words = f"no connection in {CONNECT:g} s" if late else f"no reply in {self._timeout:g} s"
            raise RequestError("timeout", words, overload=True, billed=not late) from None
        raise error

    def _url(self, path: str) -> URL:
        if path not in self._urls:
            self._urls[path] = self._base.with_path(self._base.path.rstrip("/") + path, keep_query=True)
        return self._urls[path]

    def _refused(self, response: aiohttp.ClientResponse, data: bytes) -> RequestError | VistuneError:
        if 300 <= response.status < 400:
            to = self.secrets.hide(response.headers.get("Location", "elsewhere"))
            return ClientError(f"the server sends on to {to}", where=self.where, fix="give that as --base-url")
        return fault(response.status, data, response.headers, self.where)

    def _lost(self, error: aiohttp.ClientError) -> RequestError | VistuneError:
        words = self.secrets.hide(str(error) or type(error).__name__)
        if isinstance(error, aiohttp.ClientSSLError):
            return ClientError(f"no secure connection: {words}", where=self.where, fix="check --base-url")
        if isinstance(error, aiohttp.InvalidURL):
            return ClientError("this is no URL", where=self.where, fix="check --base-url")
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
            return RequestError("unreachable", words)
        if isinstance(error, aiohttp.ClientPayloadError):
            return RequestError("truncated", words, billed=True)
        return RequestError("reset", words, billed=True)


def _words(data: bytes) -> str:
    return " ".join(data[:200].decode("utf-8", "replace").split())


def _login(url: str | None) -> list[str]:
    """The user and the password in a URL, so far as it has them."""
    parts = urlsplit(url or "")
    return [unquote(value) for value in (parts.username, parts.password) if value]


def _proxy(scheme: str, host: str) -> str | None:
    """The proxy that the environment names for this host."""
    proxy = getproxies().get(scheme)
    return None if proxy is None or proxy_bypass(host) else proxy

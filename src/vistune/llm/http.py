"""HTTP for the clients of a server: one session with keys and time-outs, and an error for each kind of failure."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from abc import abstractmethod
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, nullcontext
from threading import Lock
from typing import Any, ClassVar, Self
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from vistune.errors import ClientError, VistuneError
from vistune.llm.body import MAX_BODY, read_body
from vistune.llm.client import Client, Reply, Request, RequestError, Send
from vistune.llm.faults import RefusedError, fault, load_json
from vistune.llm.images import generic_tokens, is_large
from vistune.reading import NOT_IN_FORMAT, WRONG_TYPE
from vistune.records import Turn

CONNECT = 20.0
"""Seconds until a connection must be established."""
PROBE_ATTEMPTS, PROBE_REPLIES = 6, 3
_PROBE = Request(
    "Answer briefly.", (Turn("user", "Which animal barks?"),), max_tokens=1024,
    schema={
        "type": "object",
        "properties": {"animal": {"type": "string"}, "size": {"type": "string", "enum": ["small", "large"]}},
        "required": ["animal", "size"],
        "additionalProperties": False,
    },
)  # fmt: skip
"""Its prompt does not mention the form of the reply: only the schema can cause it."""
MIN_SECRET = 6
"""Characters of a secret; shorter values (`EMPTY`, `none`) are none, and hiding them would mangle ordinary words."""


class Http:
    """A session with the server at `base_url`, with the same headers in each request.

    `base_url` may hold a user and password, and a query that is part of every request. `key`, the URL's password and
    query and the values of `headers` are replaced by `***` in everything that the server sends. Open within
    `async with`. The number of connections is not limited: the caller bounds the requests in flight.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], *, key: str = "", timeout: float = 600.0) -> None:
        headers = dict(headers)
        parts = _split(base_url)
        query = [value for name, value in parse_qsl(parts.query) if name != "api-version"]
        proxy = _proxy(parts.scheme, parts.hostname or "")
        login = _login(base_url)
        bare = [value.partition(" ")[2] for value in headers.values()]  # of `Bearer KEY`
        self._secrets = _spellings([key, *login, ":".join(login), *query, *headers.values(), *bare, *_login(proxy)])
        if parts.scheme not in ("http", "https") or not parts.hostname:
            fix = "give a URL such as http://localhost:8000/v1"
            raise ClientError(f"'{self._hide(base_url)}' is not a base URL", fix=fix)
        if login and not any(name.lower() == "authorization" for name in headers):
            headers["Authorization"] = f"Basic {b64encode(':'.join([*login, ''][:2]).encode()).decode()}"
        if any(char in value for value in headers.values() for char in "\r\n\0"):
            what = "a header's value or the key contains a line break"
            raise ClientError(what, where=self._hide(base_url), fix="remove it")
        self._base = URL(base_url).with_user(None)
        self.where = self._hide(str(self._base.with_query(None)))
        self._headers, self._timeout, self._proxy = headers, timeout, proxy
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=self._timeout, sock_connect=CONNECT)
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        # bodies are decompressed by `read_body`, within its bound; few are compressed
        headers = {"Accept-Encoding": "identity", **self._headers}
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=headers, auto_decompress=False
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The JSON object in the response. Raises RequestError `not_json` for any other response, else as `raw`."""
        data = await self.raw(method, path, **options)
        body = load_json(data)
        if not isinstance(body, dict):
            excerpt = " ".join(data[:200].decode("utf-8", "replace").split())
            raise RequestError("not_json", excerpt, billed=True)
        return body

    async def raw(self, method: str, path: str, *, most: int = MAX_BODY, **options: Any) -> bytes:
        """The body of the response, of at most `most` bytes. Raises as `response`."""
        async with self.response(method, path, **options) as response:
            return self.hide_bytes(await read_body(response, most))

    @asynccontextmanager
    async def response(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response with status 200, its body to be read within `async with`.

        Raises RequestError if the run can go on (`unreachable`, `timeout`, `reset`, `truncated`, and those of
        `vistune.llm.faults`), ClientError if it cannot.
        """
        if self._session is None:
            raise RuntimeError("the client is not open: use it within `async with`")
        url = self._base.with_path(self._base.path.rstrip("/") + path, keep_query=True)
        try:
            async with self._session.request(
                method, url, proxy=self._proxy, allow_redirects=False, **options
            ) as response:
                if response.status != 200:
                    raise self._status_error(response, self.hide_bytes(await read_body(response)))
                yield response
        except aiohttp.ClientError as caught:
            raise self._connection_error(caught) from None
        except TimeoutError as caught:
            connecting = isinstance(caught, aiohttp.ConnectionTimeoutError)
            message = f"no connection in {CONNECT:g} s" if connecting else f"no reply in {self._timeout:g} s"
            raise RequestError("timeout", message, overload=True, billed=not connecting) from None

    def _status_error(self, response: aiohttp.ClientResponse, data: bytes) -> RequestError | VistuneError:
        if 300 <= response.status < 400:
            target = self._hide(response.headers.get("Location", "another URL"))
            return ClientError(f"the server redirects to {target}", where=self.where, fix="give that as --base-url")
        return fault(response.status, data, response.headers, self.where)

    def _connection_error(self, error: aiohttp.ClientError) -> RequestError | VistuneError:
        message = self._hide(str(error) or type(error).__name__)
        if isinstance(error, aiohttp.ClientSSLError):
            return ClientError(f"no secure connection: {message}", where=self.where, fix="check --base-url")
        if isinstance(error, aiohttp.InvalidURL):
            return ClientError("this is not a URL", where=self.where, fix="check --base-url")
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
            return RequestError("unreachable", message)
        if isinstance(error, aiohttp.ClientPayloadError):
            return RequestError("truncated", message, billed=True)
        return RequestError("reset", message, billed=True)

    def _hide(self, text: str) -> str:
        return self.hide_bytes(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def hide_bytes(self, data: bytes) -> bytes:
        """What the server sends, with `***` in place of secrets."""
        for value in self._secrets:
            data = data.replace(value, b"***")
        return data


class RemoteClient(Client):
    """A client of `model` at the server `base_url`; `http` is open while the client is.

    `key_env` names the environment variable that holds the key. Its default is that of the provider, which servers
    other than the provider's own do not require, nor a client that sends nothing. Raises ClientError without a
    required key and for a malformed URL.
    """

    remote: ClassVar[bool] = True
    server: ClassVar[str]
    """The provider's own server, the default of `base_url`."""
    key_variable: ClassVar[str]
    path: ClassVar[str]
    """The path of the requests, below `base_url`."""
    schema_error: ClassVar[re.Pattern[str]]
    """What a server's error mentions if it does not support schemas."""

    def __init__(
        self, model: str, *, base_url: str | None = None, key_env: str | None = None,
        headers: Mapping[str, str] | None = None, timeout: float = 600.0, sends: bool = True,
    ) -> None:  # fmt: skip
        base_url = self.server if base_url is None else base_url
        _split(base_url)  # before the headers, which may depend on it
        optional = not sends or (key_env is None and base_url != self.server)
        key = key_from_environment(key_env or self.key_variable, optional=optional)
        own = self.headers(base_url, key, key_env)
        self.name, self.http = model, Http(base_url, own | dict(headers or {}), key=key, timeout=timeout)
        self._large_images = Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.http.where!r})"

    async def __aenter__(self) -> Self:
        await self.http.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.__aexit__(*error)

    @abstractmethod
    def headers(self, base_url: str, key: str, key_env: str | None) -> dict[str, str]:
        """The headers of the interface, with `key` if there is one."""

    @abstractmethod
    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body of the request."""

    def image_tokens(self, width: int, height: int) -> int:
        """About the tokens of an image of this size."""
        return generic_tokens(width, height)

    @abstractmethod
    def read(self, body: Mapping[str, Any]) -> Reply:
        """The reply in the response's body. Raises RequestError or ClientError if there is none."""

    def _body_with_images(self, request: Request) -> Mapping[str, Any]:
        with self._large_images if any(map(is_large, request.images)) else nullcontext():
            return self.body(request)

    async def complete(self, request: Request) -> Reply:
        """The reply; RequestError `no_schema` if the server refuses the request because of its schema."""
        try:
            # reading and encoding images takes long: in another thread
            body = await asyncio.to_thread(self._body_with_images, request) if request.images else self.body(request)
            return self.read(await self.http.json("POST", self.path, json=body))
        except WRONG_TYPE as error:
            raise RequestError("not_a_reply", f"{NOT_IN_FORMAT}: {error}", billed=True) from None
        except RefusedError as error:
            if request.schema is not None and self.schema_error.search(error.details):
                raise RequestError("no_schema", error.what, retry=False) from None
            raise

    async def supports_schema(self, send: Send | None = None) -> bool:
        """Sends a small request with a schema until a reply keeps to it, for up to three replies.

        Raises the last RequestError if there is no reply in six attempts.
        """
        replies = 0
        for attempt in range(1, PROBE_ATTEMPTS + 1):
            try:
                if _keeps_to_schema(await (send or self.complete)(_PROBE)):
                    return True
                replies += 1
            except RequestError as error:
                if error.reason == "no_schema":
                    return False
                if attempt == PROBE_ATTEMPTS and not replies:
                    raise
                await asyncio.sleep(min(30.0, error.retry_after or random.uniform(0.1, 0.2) * 2**attempt))
            if replies == PROBE_REPLIES:
                break
        return False


def _keeps_to_schema(reply: Reply) -> bool:
    data = load_json(reply.text)
    return isinstance(data, dict) and data.keys() == {"animal", "size"} and data["size"] in ("small", "large")


def key_from_environment(name: str, *, optional: bool) -> str:
    """The key in the environment variable `name`; empty if it is not set but optional, else raises ClientError.

    The error does not repeat a name that is no variable's: it may be the key itself, given by mistake.
    """
    key = os.environ.get(name, "").strip()
    if key or optional:
        return key
    if not re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", name):
        fix = "give the variable's name, as in --key-env OPENAI_API_KEY, never the key itself"
        raise ClientError("--key-env is not the name of an environment variable", fix=fix)
    raise ClientError(f"the environment variable {name} is not set", fix=f"export {name}=YOUR_KEY")


def _spellings(secrets: Iterable[str]) -> list[bytes]:
    """Every form in which a server may repeat a secret, the longest first, so that none is hidden in part."""
    plain = [value for value in secrets if len(value) >= MIN_SECRET]
    forms = {form for one in plain for form in (one, b64encode(one.encode()).decode(), quote(one, safe=""))}
    forms |= {json.dumps(one)[1:-1] for one in plain}
    return sorted((form.encode() for form in forms), key=len, reverse=True)


def _split(url: str) -> SplitResult:
    """The parts of a base URL. Raises ClientError, which does not repeat it: it may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        URL(url)
    except ValueError:
        fix = "give a URL such as http://localhost:8000/v1, with %2F for a slash in a user or password"
        raise ClientError("the base URL has no host and port that can be read", fix=fix) from None
    return parts


def _login(url: str | None) -> list[str]:
    parts = urlsplit(url or "")
    return [unquote(value) for value in (parts.username, parts.password) if value]


def _proxy(scheme: str, host: str) -> str | None:
    proxy = getproxies().get(scheme)
    return None if proxy is None or proxy_bypass(host) else proxy

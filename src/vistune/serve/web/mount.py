"""The page in the app: Gradio is imported in the background, so that the API need not wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vistune.serve.models import ChatModel
from vistune.serve.web.options import PageOptions

_LOG = logging.getLogger(__name__)
_POLICY = "; ".join((
    "default-src 'self' data: blob:", "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src 'self' 'unsafe-inline'", "frame-ancestors 'self'", "base-uri 'self'", "form-action 'self'",
))  # fmt: skip
"""No answer's Markdown, and no part of Gradio, makes the browser send a request to another host."""
_CLOSED = "/v1/", "/gradio_api/call/", "/gradio_api/api/"
"""Paths that are the API's, and Gradio's own API, of which the page needs nothing."""
_ERRORS = range(400, 501)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


def mount_page(app: FastAPI, models: Sequence[ChatModel], options: PageOptions) -> None:
    """Serve the page at every path that `app` does not have."""
    page = _Page(models, options)
    lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def with_page(app: FastAPI) -> AsyncIterator[Any]:
        async with lifespan(app) as state, page.started():
            yield state

    app.router.lifespan_context = with_page
    app.router.default = page


class _Page:
    """The ASGI app of the page, which waits until it is built."""

    def __init__(self, models: Sequence[ChatModel], options: PageOptions) -> None:
        self._models, self._options = models, options
        self._app: asyncio.Future[ASGIApp]

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Build the page in the background, and end it afterwards."""
        self._app, stop = asyncio.get_running_loop().create_future(), asyncio.Event()
        task = asyncio.create_task(self._run(stop))
        yield
        stop.set()
        if not self._app.done():
            task.cancel()  # it is still importing
        await asyncio.gather(task, return_exceptions=True)

    async def _run(self, stop: asyncio.Event) -> None:
        try:
            app = await asyncio.to_thread(_gradio_app, self._models, self._options)
        except ImportError as error:
            _LOG.warning("the web page needs gradio: pip install 'vistune[serve]' (%s)", error)
            text = "The web page needs gradio: pip install 'vistune[serve]'. The API is at /v1.\n"
            self._app.set_result(PlainTextResponse(text, 501))
            return
        except Exception as error:
            self._app.set_exception(error)
            return
        async with app.router.lifespan_context(app):
            self._app.set_result(app)
            await stop.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(_CLOSED):
            raise HTTPException(404)
        app = await asyncio.shield(self._app)

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await without_echo(app, scope, receive, with_policy)


async def without_echo(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run a page's app, with HTTPException for its errors: its own repeat what was sent, files' paths among it.

    A body that it fails on is a client's mistake: Gradio raises errors of any type for those that it does not expect,
    and reports a failure of the page's own functions in its stream of events.
    """
    status = 0

    async def checked(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        if status not in _ERRORS:
            await send(message)

    try:
        await app(scope, receive, checked)
    except Exception as error:
        begun = status and status not in _ERRORS
        if begun or scope["method"] != "POST" or isinstance(error, OSError):
            raise
        status = 400
    if status in _ERRORS:
        raise HTTPException(400 if status == 500 and scope["method"] == "POST" else status)


def _gradio_app(models: Sequence[ChatModel], options: PageOptions) -> FastAPI:
    """The page as an app of its own. Raises ImportError without gradio."""
    import gradio

    from vistune.serve.web.page import CSS, ChatPage

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gradio.mount_gradio_app(
        app, ChatPage(models, options).blocks(), path="/", css=CSS, max_file_size=options.max_file_size, ssr_mode=False,
        run_history=False, footer_links=[], show_error=False, enable_monitoring=False, pwa=False, mcp_server=False,
    )  # fmt: skip
    return app

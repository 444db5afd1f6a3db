"""The web server: one app, all of whose routes but /health are behind the same key and limits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from vistune.serve.completions import complete
from vistune.serve.engine import Engine
from vistune.serve.guard import Guard, respond
from vistune.serve.openai_api import ApiError
from vistune.serve.service import ChatService, ServerOptions


def build_app(
    engine: Engine, options: ServerOptions, page: Callable[[FastAPI, ChatService], None] | None = None
) -> FastAPI:
    """The app around a started engine; `page` makes a web page its router's default.

    The page's chats go through the same service, and so through the same limits.
    """
    service = ChatService(engine, options)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.readers.shutdown(wait=False, cancel_futures=True)

    # FastAPI's own pages load scripts from another host
    app = FastAPI(title="vistune", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    requests: Counter[tuple[str, int]] = Counter()
    app.add_middleware(Guard, options=options, most=engine.batch + engine.limits.queue, requests=requests)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_failure)
    model = {"id": options.name, "object": "model", "created": int(time.time()), "owned_by": "vistune",
             "max_model_len": engine.max_length}  # fmt: skip

    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [model]})

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        service.check_model(name)
        return JSONResponse(model)

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(_metrics(engine, requests), media_type="text/plain; version=0.0.4")

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await complete(request, service)

    if page is not None:
        page(app, service)
    return app


async def _on_api_error(_: Request, error: Any) -> Response:
    return respond(error)


async def _on_http_error(_: Request, error: Any) -> Response:
    what = {404: "there is no such route", 405: "the route does not have this method"}
    return respond(ApiError(error.status_code, what.get(error.status_code, "the request cannot be answered")))


async def _on_failure(_: Request, __: Exception) -> Response:
    return respond(ApiError(500, "an error of the server; its log has the details", code="internal_error"))


def _metrics(engine: Engine, requests: Counter[tuple[str, int]]) -> str:
    """The counters in Prometheus' text format."""
    done, (running, waiting) = engine.counters, engine.load_now
    gauges = {"running_sequences": running, "waiting_sequences": waiting}
    counts = {
        "prompt_tokens_total": done.prompt_tokens, "cached_prompt_tokens_total": done.cached_tokens,
        "generated_tokens_total": done.written_tokens, "images_encoded_total": done.images_encoded,
        "image_features_reused_total": done.images_reused, "cancelled_sequences_total": done.cancelled,
        "rounds_total": done.rounds,
    }  # fmt: skip
    lines = [f"# TYPE vistune_{name} gauge\nvistune_{name} {value}" for name, value in gauges.items()]
    lines += [f"# TYPE vistune_{name} counter\nvistune_{name} {value}" for name, value in counts.items()]
    lines += ["# TYPE vistune_time_to_first_token_seconds summary",
              f"vistune_time_to_first_token_seconds_sum {done.first_token_seconds:.6f}",
              f"vistune_time_to_first_token_seconds_count {done.first_tokens}",
              "# TYPE vistune_requests_total counter"]  # fmt: skip
    lines += [f'vistune_requests_total{{path="{path}",status="{status}"}} {count}'
              for (path, status), count in sorted(requests.items())]  # fmt: skip
    return "\n".join(lines) + "\n"

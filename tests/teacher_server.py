"""A local teacher: an HTTP server with the interfaces and the faults of the ones that cost money.

`teaching` runs it in a thread, `teacher_process` in a process. It implements OpenAI's chat completions, files and
batches and Anthropic's messages below /v1, and Azure's chat completions below /openai/deployments/NAME.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from http import HTTPStatus
from itertools import chain, repeat
from pathlib import Path
from random import Random
from typing import Any, cast

from aiohttp import web

from local_server import in_process, in_thread

REFUSALS = {
    "rate_limited": (429, "rate_limit_exceeded", "Rate limit reached."),
    "retry_after": (429, "rate_limit_exceeded", "Rate limit reached, wait a second."),
    "insufficient_quota": (429, "insufficient_quota", "You exceeded your current quota: credit balance is too low."),
    "context_length": (400, "context_length_exceeded", "This model's maximum context length is 8192 tokens."),
    "content_filter": (400, "content_filter", "The prompt was filtered by the content policy."),
    **{f"http_{code}": (code, "", HTTPStatus(code).phrase) for code in (400, 401, 403, 404, 500, 502, 503)},
}
LOST = ("reset", "hang", "html", "no_choices", "truncated", "not_json", "nested", "error_in_200")
"""The reply is written, and charged, but does not arrive."""
FAULTS = (*REFUSALS, *LOST, "no_usage", "huge_usage", "wrong_text", "length", "filtered")
PAIRS = Path(__file__).with_name("teacher_pairs.txt").read_text("utf-8").splitlines()
_BOX = re.compile(r"^(.+?): \[[\d., ]+\]$", re.MULTILINE)
_NOUN = re.compile(r"\b(?!with|that|this|there|their|them|from|into|some|other|over|under|near|very|have)[a-z]{4,}")
_ORDER = re.compile(
    r"(?i)ignore|disregard|forget|instead|prompt|instruction|===|###|</?s>|<[<|]|/?INST|_of_turn"
    r"|\b(user|human|assistant|system|question|answer|gpt|ai)\s*:"
)


class Teacher:
    """A teacher that answers after `latency` seconds; `faults` gives the share of the requests that each fault hits.

    `key` is the only API key that it accepts. It answers requests with one of the parameters `rejects` with 400. With
    `schema` it honours JSON schemas; if `obedient`, it follows instructions in captions. `stats` counts requests, also
    by the hash of their body, by status and by fault, and the tokens of all replies that it writes.
    """

    def __init__(
        self, *, latency: float = 0.0, faults: Mapping[str, float] | None = None, key: str = "",
        rejects: Sequence[str] = (), schema: bool = True, obedient: bool = False,
    ) -> None:  # fmt: skip
        self.latency, self.faults, self.key, self.rejects = latency, faults or {}, key, rejects
        self.schema, self.obedient, self.url = schema, obedient, ""
        self.stats: dict[str, Any] = {name: Counter() for name in ("bodies", "statuses", "faults")}
        self.stats |= dict.fromkeys(("requests", "batches", "prompt_tokens", "completion_tokens", "cached_tokens"), 0)
        self._files, self._batches = list[bytes](), list[Iterator[dict[str, str]]]()
        assert self.faults.keys() <= {*FAULTS}, self.faults

    async def start(self) -> web.AppRunner:
        """Serve on this machine; `cleanup` of the runner ends it."""
        app = web.Application(client_max_size=2**28)
        for path in ("/v1/chat/completions", "/openai/deployments/{name}/chat/completions", "/v1/messages"):
            app.router.add_post(path, self._chat)
        app.add_routes([web.post("/v1/files", self._upload), web.get("/v1/files/{number}/content", self._download)])
        app.add_routes([web.post("/v1/batches", self._create_batch), web.get("/v1/batches/{number}", self._poll_batch)])
        app.add_routes([web.get("/stats", self._stats)])
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response(self.stats)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        anthropic = request.path == "/v1/messages"
        header = "x-api-key" if anthropic else "api-key" if "/deployments/" in request.path else "Authorization"
        key = request.headers.get(header, "").removeprefix("Bearer ")
        status, body, fault = self._answer(await request.read(), key, anthropic=anthropic)
        if status != 200:
            headers = {"Retry-After": "1"} if fault == "retry_after" else {}
            return web.json_response(body, status=status, headers=headers)
        await asyncio.sleep(3600 if fault == "hang" else self.latency)
        text, transport = json.dumps(body).encode(), cast("asyncio.Transport", request.transport)
        if fault == "truncated":
            transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            transport.close()
        elif fault == "reset":
            transport.abort()
        spoiled = {"html": b"<html>Please sign in.</html>", "not_json": text[:-9], "nested": b"[" * 200_000}
        spoiled["error_in_200"] = b'{"error": {"message": "Upstream failed.", "code": 502}}'
        return web.Response(body=spoiled.get(fault, text), content_type="application/json")

    def _answer(self, raw: bytes, key: str, *, anthropic: bool = False) -> tuple[int, dict[str, Any], str]:
        """Status, body and fault; the reply is charged here. An error repeats the key, as some servers do."""
        name, body = hashlib.sha256(raw).hexdigest(), json.loads(raw)
        self.stats["requests"] += 1
        self.stats["bodies"][name] += 1
        shares = [*self.faults.values(), 1 - sum(self.faults.values())]
        [fault] = Random(f"{name}/{self.stats['bodies'][name]}").choices([*self.faults, ""], shares)
        fault = fault if self.key in ("", key) else "http_401"
        self.stats["faults"][fault] += 1
        error = REFUSALS.get(fault)
        if rejected := next((one for one in self.rejects if one in body), None):
            error = (400, "unsupported_parameter", f"Unsupported parameter: '{rejected}' is not supported.")
        elif body["model"] != "teacher-1":
            error = (404, "model_not_found", f"The model '{body['model']}' does not exist.")
        self.stats["statuses"][error[0] if error else 200] += 1
        if error:
            return error[0], {"error": {"code": error[1], "message": f"{error[2]} (key {key})"}}, fault
        return 200, self._reply(body, fault, anthropic=anthropic), fault

    def _reply(self, body: dict[str, Any], fault: str, *, anthropic: bool) -> dict[str, Any]:
        system = body.get("system", "\n".join(one["content"] for one in body["messages"] if one["role"] == "system"))
        texts = [_read(one["content"]) for one in body["messages"] if one["role"] != "system"]
        schema = body["tools"][0]["input_schema"] if "tools" in body else None
        schema = body["response_format"]["json_schema"]["schema"] if "response_format" in body else schema
        text = write(system, texts, schema if self.schema else None, obedient=self.obedient)
        if fault == "wrong_text":
            text = '{"colour": "blue"}' if schema else "Sure! Here is what you asked for."
        limit = body.get("max_completion_tokens", body.get("max_tokens", len(text)))
        limit, finish = _tokens(text) // 2 if fault == "length" else limit, "stop"
        if limit < _tokens(text):
            text, finish = text[: 4 * limit], "length"
        if fault == "filtered":
            text, finish = "", "content_filter"
        sizes = [_tokens(part) for part in (system, *texts)]
        usage = [sum(sizes), _tokens(text), sum(sizes[:-1]) // 128 * 128]
        for name, count in zip(("prompt_tokens", "completion_tokens", "cached_tokens"), usage, strict=True):
            self.stats[name] += count
        usage[0] += 2**63 if fault == "huge_usage" else 0
        reply = (_anthropic if anthropic else _openai)(text, finish, *usage)
        lost = {"no_choices": ("choices", "content"), "no_usage": ("usage",)}.get(fault, ())
        return {"model": "teacher-1"} | {name: value for name, value in reply.items() if name not in lost}

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        return web.json_response({"id": self._store(cast("web.FileField", form["file"]).file.read())})

    async def _download(self, request: web.Request) -> web.Response:
        return web.Response(body=self._files[int(request.match_info["number"])])

    async def _create_batch(self, request: web.Request) -> web.Response:
        rows: dict[str, list[str]] = {"output_file_id": [], "error_file_id": []}
        for line in reversed(self._files[int((await request.json())["input_file_id"])].splitlines()):
            question = json.loads(line)
            status, body, _ = self._answer(json.dumps(question["body"]).encode(), self.key)
            row = {"custom_id": question["custom_id"], "response": {"status_code": status, "body": body}}
            rows["output_file_id" if status == 200 else "error_file_id"].append(json.dumps(row))
        files = {name: self._store("\n".join(lines).encode()) for name, lines in rows.items() if lines}
        self._batches.append(chain([{"status": "in_progress"}], repeat({"status": "completed", **files})))
        self.stats["batches"] += 1
        return web.json_response({"id": str(len(self._batches) - 1), "status": "validating"})

    async def _poll_batch(self, request: web.Request) -> web.Response:
        return web.json_response(next(self._batches[int(request.match_info["number"])]))

    def _store(self, data: bytes) -> str:
        self._files.append(data)
        return str(len(self._files) - 1)


def _read(content: str | list[dict[str, Any]]) -> str:
    """The text of a message; of images it sees their hash."""
    if isinstance(content, str):
        return content
    seen = [part.get("text") or hashlib.sha256(part["image_url"]["url"].encode()).hexdigest() for part in content]
    return "\n".join(seen)


def _tokens(text: str) -> int:
    return (len(text) + 3) // 4


def _openai(text: str, finish: str, prompt: int, completion: int, cached: int) -> dict[str, Any]:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"choices": [choice], "usage": {**usage, "prompt_tokens_details": {"cached_tokens": cached}}}


def _anthropic(text: str, finish: str, prompt: int, completion: int, cached: int) -> dict[str, Any]:
    reason = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}[finish]
    content: dict[str, Any] = {"type": "text", "text": text}
    if text.startswith("{") and finish == "stop":
        reason, content = "tool_use", {"type": "tool_use", "name": "reply", "input": json.loads(text)}
    usage = {"input_tokens": prompt - cached, "cache_read_input_tokens": cached, "output_tokens": completion}
    return {"content": [content], "stop_reason": reason, "usage": usage}


def write(system: str, texts: Sequence[str], schema: Any = None, *, obedient: bool = False) -> str:
    """The reply to a prompt, the same each time: JSON of `schema`, blocks between lines of `===`, or an answer alone.

    The form is that of the examples. An obedient teacher follows instructions in the last text instead of its task.
    """
    query, rng = texts[-1], Random(f"{system}\0{texts[-1]}")
    questions = (texts[-2] if len(texts) > 1 else system).lower().count("question")
    names = [*dict.fromkeys([*_BOX.findall(query), *_NOUN.findall(query.lower())[:12]]), "scene", "place"][:12]
    lines = rng.sample(PAIRS, 1 if questions == 1 else rng.randint(4, 7))
    pairs = [line.format(**dict(zip("ab", rng.sample(names, 2), strict=True))).split("|") for line in lines]
    if orders := "\n".join(line for line in query.splitlines() if obedient and _ORDER.search(line)):
        pairs = [[orders, f"{system}\n{orders}" if re.search("(?i)prompt|instructions|above", orders) else orders]]
    if not questions:
        pairs = [["", " ".join(answer for _, answer in pairs)]]
    if schema is not None:
        return json.dumps(_fill(schema, pairs), ensure_ascii=False)
    blocks = (f"Question:\n{question}\n===\nAnswer:\n{answer}" for question, answer in pairs)
    return "\n===\n".join(blocks) if questions else pairs[0][1]


def _fill(schema: Any, pairs: Sequence[Sequence[str]], name: str = "answer") -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if "items" in schema:
        return [_fill(schema["items"], [pair]) for pair in pairs]
    if "properties" in schema:
        return {key: _fill(value, pairs, key) for key, value in schema["properties"].items()}
    return pairs[0][name != "question"]


def teaching(**settings: Any) -> AbstractContextManager[Teacher]:
    """A teacher of these settings in a thread of this process."""
    return in_thread(Teacher(**settings))


def teacher_process(**settings: Any) -> AbstractContextManager[str]:
    """The URL of a teacher of these settings in a process of its own."""
    return in_process(__file__, settings)


if __name__ == "__main__":
    with teaching(**json.loads(sys.argv[1])) as served:
        print(served.url, flush=True)
        threading.Event().wait()

"""OpenAI's files and batches: a JSONL of requests comes in, and after some polls the replies lie in another."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from teacher import faults
from teacher.desk import Desk
from teacher.wire import OpenAI


@dataclass
class Batches:
    """The files and batches that the teacher holds."""

    desk: Desk
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    polls: dict[str, int] = field(default_factory=dict)

    async def upload(self, request: web.Request) -> web.Response:
        """POST /v1/files."""
        form = await request.post()
        content = form["file"]
        assert isinstance(content, web.FileField)
        assert form["purpose"] == "batch"
        data = content.file.read()
        name = f"file-{hashlib.sha256(data).hexdigest()[:12]}"
        self.files[name] = data
        return web.json_response({"id": name, "object": "file", "bytes": len(data), "purpose": "batch"})

    async def create(self, request: web.Request) -> web.Response:
        """POST /v1/batches."""
        asked = await request.json()
        if asked["input_file_id"] not in self.files:
            return web.json_response(OpenAI().error(400, "invalid_file", "No such file."), status=400)
        name = f"batch_{len(self.batches)}"
        self.batches[name] = {"id": name, "object": "batch", "status": "validating", **asked}
        self.desk.stats.batches += 1
        return web.json_response(self.batches[name])

    async def poll(self, request: web.Request) -> web.Response:
        """GET /v1/batches/{name}."""
        name = request.match_info["name"]
        if name not in self.batches:
            return web.json_response(OpenAI().error(404, "not_found", f"No batch '{name}'."), status=404)
        batch = self.batches[name]
        self.polls[name] = self.polls.get(name, 0) + 1
        if self.polls[name] >= self.desk.settings.polls and batch["status"] != "completed":
            batch |= {"status": "completed", **self._work(name, self.files[batch["input_file_id"]])}
        elif batch["status"] == "validating":
            batch["status"] = "in_progress"
        return web.json_response(batch)

    async def content(self, request: web.Request) -> web.Response:
        """GET /v1/files/{name}/content."""
        name = request.match_info["name"]
        if name not in self.files:
            return web.json_response(OpenAI().error(404, "not_found", f"No file '{name}'."), status=404)
        return web.Response(body=self.files[name], content_type="application/octet-stream")

    def _work(self, name: str, data: bytes) -> dict[str, str]:
        good, bad = [], []
        for line in data.splitlines():
            asked = json.loads(line)
            answer = self._answer(json.dumps(asked["body"]).encode())
            row = {"id": f"{name}_{asked['custom_id']}", "custom_id": asked["custom_id"], "response": answer}
            (good if answer["status_code"] == 200 else bad).append(json.dumps(row | {"error": None}))
        made = {}
        for kind, rows in (("output", good), ("error", bad)):
            if rows:
                self.files[f"file-{name}-{kind}"] = "".join(f"{row}\n" for row in reversed(rows)).encode()
                made[f"{kind}_file_id"] = f"file-{name}-{kind}"
        return made

    def _answer(self, raw: bytes) -> dict[str, Any]:
        name = hashlib.sha256(raw).hexdigest()[:16]
        self.desk.stats.bodies[name] += 1
        fault = faults.draw(self.desk.settings.faults, name, self.desk.stats.bodies[name])
        if refusal := faults.refusal(fault, OpenAI(), ""):
            assert isinstance(refusal.text, str)
            return {"status_code": refusal.status, "request_id": name, "body": json.loads(refusal.text)}
        self.desk.stats.answered[name] += 1
        body = self.desk.reply(OpenAI().read(json.loads(raw)), OpenAI(), name, fault)
        return {"status_code": 200, "request_id": name, "body": body}

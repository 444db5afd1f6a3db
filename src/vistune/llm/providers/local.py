"""A language model of transformers in this process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

from vistune.errors import CheckpointError, ClientError
from vistune.llm.client import Client, Reply, Request, RequestError
from vistune.llm.providers import providers
from vistune.weights import loading_options

_MAX_TOKENS = 1024
"""Maximum number of tokens of a reply if the request sets none."""


@dataclass(slots=True)
class _Waiting:
    request: Request
    prompt: list[int]
    """Token ids."""
    reply: Reply | Exception | None = None


@providers.register("local")
class LocalClient(Client):
    """A causal language model, in a folder or of the hub, with its own chat template; requests that wait form a batch.

    `device` is by default the GPU if there is one. Without a temperature decoding is greedy: the same request gets the
    same reply, up to rounding, which depends on the others in its batch. With a temperature each request is sampled
    alone, from its seed.
    """

    def __init__(self, model: str, *, device: str | None = None, batch_size: int = 8) -> None:
        self.name = Path(model).name if Path(model).is_dir() else model  # a path is no part of a request's key
        self._path, self._device, self._batch_size = model, device, batch_size
        self._waiting: list[_Waiting] = []
        self._model: Any = None
        self._tokenizer: Any = None

    async def __aenter__(self) -> Self:
        self._lock = asyncio.Lock()
        if self._model is None:
            await asyncio.to_thread(self._load)
        return self

    async def complete(self, request: Request) -> Reply:
        """The model's reply. Raises RequestError `context_length` for a prompt that leaves it no room."""
        prompt, limit = self._prompt(request), request.max_tokens or _MAX_TOKENS
        window = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if window is not None and len(prompt) + limit > window:
            message = f"{len(prompt)} tokens and {limit} for the reply exceed {window}"
            raise RequestError("context_length", message, retry=False)
        waiting = _Waiting(request, prompt)
        self._waiting.append(waiting)
        await asyncio.sleep(0)  # so that all requests of this turn of the loop are in the first batch
        async with self._lock:
            while waiting.reply is None:  # else it was in the batch of another
                await self._reply_to_batch()
        if isinstance(waiting.reply, Exception):
            raise waiting.reply
        return waiting.reply

    async def _reply_to_batch(self) -> None:
        """Reply to the first waiting request and those right after it that can share a batch with it."""
        first, ones = self._waiting[0].request, self._waiting[: self._batch_size]
        alike = takewhile(lambda one: not one.request.temperature and one.request.max_tokens == first.max_tokens, ones)
        batch = list(alike) or ones[:1]
        del self._waiting[: len(batch)]
        try:
            rows = await asyncio.to_thread(self._generate, first, [one.prompt for one in batch])
            for one, row in zip(batch, rows, strict=True):
                one.reply = self._reply(row, len(one.prompt))
        except Exception as error:
            for one in batch:
                one.reply = error

    def _load(self) -> None:
        from torch import cuda
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self._path, padding_side="left", trust_remote_code=False)
            self._model = AutoModelForCausalLM.from_pretrained(
                self._path, dtype="auto", **loading_options(self._path)
            ).eval()
        except CheckpointError:
            raise
        except Exception as error:  # a broken file leads to errors of any type
            fix = "give a folder or a hub id of a causal language model"
            raise ClientError(f"the model cannot be loaded: {error}", where=self._path, fix=fix) from None
        if not self._tokenizer.chat_template:
            fix = "use a chat model, or add chat_template.jinja to its folder"
            raise ClientError("the model has no chat template", where=self._path, fix=fix)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model.to(self._device or ("cuda" if cuda.is_available() else "cpu"))

    def _generate(self, request: Request, prompts: list[list[int]]) -> list[list[int]]:
        """The ids of the replies, up to the longest's end, with the options of `request`."""
        import torch

        batch = self._tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(self._model.device)
        sampling: dict[str, Any] = {"do_sample": False}
        if request.temperature:
            torch.manual_seed(request.seed)
            sampling = {"do_sample": True, "temperature": request.temperature, "top_p": request.top_p or 1.0}
        with torch.inference_mode():
            output = self._model.generate(
                **batch, max_new_tokens=request.max_tokens or _MAX_TOKENS,
                pad_token_id=self._tokenizer.pad_token_id, **sampling,
            )  # fmt: skip
        return list(output[:, batch["input_ids"].shape[1] :].tolist())

    def _prompt(self, request: Request) -> list[int]:
        from jinja2 import TemplateError

        messages = [{"role": one.role, "content": one.text} for one in request.messages]
        options = {"add_generation_prompt": True, "return_dict": False}
        if not request.system:
            return list(self._tokenizer.apply_chat_template(messages, **options))
        try:
            with_system = [{"role": "system", "content": request.system}, *messages]
            return list(self._tokenizer.apply_chat_template(with_system, **options))
        except TemplateError:  # a template without a system message, such as Gemma's
            messages[0]["content"] = f"{request.system}\n\n{messages[0]['content']}"
            return list(self._tokenizer.apply_chat_template(messages, **options))

    def _reply(self, row: list[int], prompt: int) -> Reply:
        ends = self._model.generation_config.eos_token_id
        ends = {ends} if isinstance(ends, int) else set(ends or ())
        end = next((place for place, token in enumerate(row) if token in ends), None)
        tokens = row if end is None else row[:end]
        text = self._tokenizer.decode(tokens, skip_special_tokens=True).strip()
        usage = {"input": prompt, "output": len(tokens) + (end is not None)}
        return Reply(text, self.name, usage, "length" if end is None else "stop")

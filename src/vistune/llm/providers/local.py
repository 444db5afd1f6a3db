"""A language model of transformers in this process."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vistune.errors import ClientError
from vistune.llm.client import Client, Reply, Request, RequestError
from vistune.llm.providers import providers

_MAX_TOKENS = 1024
"""Maximum number of tokens of a reply if the request sets none."""

_Waiting = tuple[Request, "asyncio.Future[Reply]"]


class LocalClient(Client):
    """Replies of a causal language model with its own chat template; requests that wait form a batch.

    Without a temperature decoding is greedy: the same request gets the same reply, up to rounding, which depends on the
    others in its batch. With a temperature each request is sampled alone, from its seed.
    """

    def __init__(self, model: str, device: str | None = None, batch_size: int = 8) -> None:
        self.name = Path(model).name if Path(model).is_dir() else model  # a path is no part of a request's key
        self._path, self._device, self._batch_size = model, device, batch_size
        self._waiting: list[_Waiting] = []
        self._thread: ThreadPoolExecutor | None = None
        self._work: asyncio.Task[None] | None = None
        self._model: Any = None
        self._tokenizer: Any = None

    async def __aenter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, "language model")
        if self._model is None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._work:
            await self._work
        if self._thread:
            self._thread.shutdown()
            self._thread = None

    async def complete(self, request: Request) -> Reply:
        """The model's reply. Raises RequestError `context_length` for a prompt that leaves it no room."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._serve())
        return await future

    async def _serve(self) -> None:
        await asyncio.sleep(0)  # so that all requests of this turn of the loop are in the first batch
        while self._waiting:
            batch = self._batch()
            self._waiting = self._waiting[len(batch) :]
            requests = [request for request, _ in batch]
            try:
                replies = await asyncio.get_running_loop().run_in_executor(self._thread, self._generate, requests)
            except Exception as error:
                replies = [error] * len(batch)
            for (_, future), reply in zip(batch, replies, strict=True):
                if future.cancelled():
                    continue
                if isinstance(reply, Reply):
                    future.set_result(reply)
                else:
                    future.set_exception(reply)

    def _batch(self) -> list[_Waiting]:
        """The first waiting request and those right after it that can share a batch with it."""
        first = self._waiting[0][0]
        if first.temperature:
            return self._waiting[:1]
        count = 1
        for request, _ in self._waiting[1 : self._batch_size]:
            if request.temperature or request.max_tokens != first.max_tokens:
                break
            count += 1
        return self._waiting[:count]

    def _load(self) -> None:
        from torch import cuda
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self._path, padding_side="left")
            self._model = AutoModelForCausalLM.from_pretrained(self._path, dtype="auto").eval()
        except (OSError, ValueError) as error:
            fix = "give a folder or a hub id of a causal language model"
            raise ClientError(f"the model cannot be loaded: {error}", where=self._path, fix=fix) from None
        if not self._tokenizer.chat_template:
            fix = "use a chat model, or add chat_template.jinja to its folder"
            raise ClientError("the model has no chat template", where=self._path, fix=fix)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model.to(self._device or ("cuda" if cuda.is_available() else "cpu"))

    def _generate(self, requests: list[Request]) -> list[Reply | Exception]:
        import torch

        limit = requests[0].max_tokens or _MAX_TOKENS
        window = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        prompts = [self._prompt(request) for request in requests]
        replies: list[Reply | Exception] = [
            RequestError(
                "context_length", f"{len(prompt)} tokens and {limit} for the reply exceed {window}", retry=False
            )
            for prompt in prompts
        ]
        fitting = [number for number, prompt in enumerate(prompts) if window is None or len(prompt) + limit <= window]
        if not fitting:
            return replies
        batch = self._tokenizer.pad({"input_ids": [prompts[number] for number in fitting]}, return_tensors="pt")
        batch = batch.to(self._model.device)
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature := requests[0].temperature:
            torch.manual_seed(requests[0].seed)
            sampling = {"do_sample": True, "temperature": temperature}
        with torch.inference_mode():
            output = self._model.generate(
                **batch, max_new_tokens=limit, pad_token_id=self._tokenizer.pad_token_id, **sampling
            )
        for number, row in zip(fitting, output[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
            replies[number] = self._reply(row, len(prompts[number]))
        return replies

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


@providers.register("local")
def local(model: str, *, device: str | None = None, batch_size: int = 8) -> LocalClient:
    """A client of a model in a folder or of the hub, on `device` (by default the GPU if there is one)."""
    return LocalClient(model, device, batch_size)

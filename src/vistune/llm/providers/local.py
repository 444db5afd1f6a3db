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

_LONGEST = 1024
"""A reply's longest length where the request does not say."""

_Asked = tuple[Request, "asyncio.Future[Reply]"]


class LocalClient(Client):
    """Answers with a causal language model and its own chat template, what is asked meanwhile as one batch.

    Without a temperature the most probable token is taken each time: the same request gets the same reply, up to what
    rounding makes of the others in its batch. With one each request is sampled by itself, from its seed.
    """

    def __init__(self, model: str, device: str | None = None, batch_size: int = 8) -> None:
        self.name = Path(model).name if Path(model).is_dir() else model  # a path is no part of a request's key
        self._path, self._device, self._batch_size = model, device, batch_size
        self._asked: list[_Asked] = []
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
        self._asked.append((request, future))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._answer_all())
        return await future

    async def _answer_all(self) -> None:
        await asyncio.sleep(0)  # so that all who ask in this turn of the loop are in the first batch
        while self._asked:
            batch = self._batch()
            self._asked = self._asked[len(batch) :]
            requests = [request for request, _ in batch]
            try:
                replies = await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, requests)
            except Exception as error:
                replies = [error] * len(batch)
            for (_, future), reply in zip(batch, replies, strict=True):
                if future.cancelled():
                    continue
                if isinstance(reply, Reply):
                    future.set_result(reply)
                else:
                    future.set_exception(reply)

    def _batch(self) -> list[_Asked]:
        """The first of those who asked, and those right after them who can be answered together with them."""
        first = self._asked[0][0]
        if first.temperature:
            return self._asked[:1]
        count = 1
        for request, _ in self._asked[1 : self._batch_size]:
            if request.temperature or request.max_tokens != first.max_tokens:
                break
            count += 1
        return self._asked[:count]

    def _load(self) -> None:
        from torch import cuda
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self._path, padding_side="left")
            self._model = AutoModelForCausalLM.from_pretrained(self._path, dtype="auto").eval()
        except (OSError, ValueError) as error:
            fix = "a folder or a hub id of a causal language model"
            raise ClientError(f"the model cannot be loaded: {error}", where=self._path, fix=fix) from None
        if not self._tokenizer.chat_template:
            fix = "take a model that was trained to chat, or add chat_template.jinja to its folder"
            raise ClientError("the model has no chat template", where=self._path, fix=fix)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model.to(self._device or ("cuda" if cuda.is_available() else "cpu"))

    def _answer(self, requests: list[Request]) -> list[Reply | Exception]:
        import torch

        longest = requests[0].max_tokens or _LONGEST
        room = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        prompts = [self._prompt(request) for request in requests]
        replies: list[Reply | Exception] = [
            RequestError(
                "context_length", f"{len(prompt)} tokens and {longest} for the reply are more than {room}", retry=False
            )
            for prompt in prompts
        ]
        fitting = [number for number, prompt in enumerate(prompts) if room is None or len(prompt) + longest <= room]
        if not fitting:
            return replies
        batch = self._tokenizer.pad({"input_ids": [prompts[number] for number in fitting]}, return_tensors="pt")
        batch = batch.to(self._model.device)
        sampled: dict[str, Any] = {"do_sample": False}
        if temperature := requests[0].temperature:
            torch.manual_seed(requests[0].seed)
            sampled = {"do_sample": True, "temperature": temperature}
        with torch.inference_mode():
            written = self._model.generate(
                **batch, max_new_tokens=longest, pad_token_id=self._tokenizer.pad_token_id, **sampled
            )
        for number, row in zip(fitting, written[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
            replies[number] = self._reply(row, len(prompts[number]))
        return replies

    def _prompt(self, request: Request) -> list[int]:
        from jinja2 import TemplateError

        messages = [{"role": one.role, "content": one.text} for one in request.messages]
        options = {"add_generation_prompt": True, "return_dict": False}
        if not request.system:
            return list(self._tokenizer.apply_chat_template(messages, **options))
        try:
            told = [{"role": "system", "content": request.system}, *messages]
            return list(self._tokenizer.apply_chat_template(told, **options))
        except TemplateError:  # a template without a system's part, as Gemma's once
            messages[0]["content"] = f"{request.system}\n\n{messages[0]['content']}"
            return list(self._tokenizer.apply_chat_template(messages, **options))

    def _reply(self, row: list[int], prompt: int) -> Reply:
        ends = self._model.generation_config.eos_token_id
        ends = {ends} if isinstance(ends, int) else set(ends or ())
        end = next((place for place, token in enumerate(row) if token in ends), None)
        kept = row if end is None else row[:end]
        text = self._tokenizer.decode(kept, skip_special_tokens=True).strip()
        usage = {"input": prompt, "output": len(kept) + (end is not None)}
        return Reply(text, self.name, usage, "length" if end is None else "stop")


@providers.register("local")
def local(model: str, *, device: str | None = None, batch_size: int = 8) -> LocalClient:
    """A client of the model in a folder or of the hub, on `device` (the GPU if there is one)."""
    return LocalClient(model, device, batch_size)

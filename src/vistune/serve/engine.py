"""Continuous batching: requests join and leave a running batch, one forward pass for each token of all of them.

The model runs in one thread. Each of its rounds does one part of one new prompt, then writes a token of every running
sequence, so a long prompt delays the others by one part only. A prompt's first tokens that any row of the cache holds
(earlier turns, the same image, another choice of the same request) are copied, not computed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistune.data.chat_template import checkpoint_template
from vistune.data.encode import PromptEncoder
from vistune.model.adapter_checkpoint import open_checkpoint
from vistune.model.assemble import image_token_count
from vistune.model.vision import see
from vistune.records import Turn
from vistune.serve.answer_text import AnswerText, byte_reader
from vistune.serve.images import Picture
from vistune.serve.jobs import ContextLengthError, Counters, End, Job, Limits, Piece, QueueFullError
from vistune.serve.sampling import Choice, Sampler
from vistune.serve.slots import Slots, rows_in_memory

_LOG = logging.getLogger(__name__)
_PART = 512
"""Number of a prompt's tokens in one forward pass."""
_FEATURES = 64
"""Number of images whose features are kept."""


class Engine:
    """Answers many requests at once with one model; use it within `with`, which starts and stops its thread."""

    def __init__(self, model: Any, processor: Any, limits: Limits | None = None) -> None:
        self.model, self.tokenizer, self.image_processor = model.eval(), processor.tokenizer, processor.image_processor
        limits = limits or Limits()
        self.image_tokens = image_token_count(model.config)
        self._prompts = PromptEncoder(self.tokenizer, checkpoint_template(processor), self.image_tokens)
        self._image_id = model.config.image_token_id
        eos = model.generation_config.eos_token_id
        self._eos = set(eos if isinstance(eos, list) else [eos])
        self._token_bytes = byte_reader(self.tokenizer)
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or limits.length
        self.max_length = min(limits.length, positions)
        rows = rows_in_memory(model, self.max_length, 2 * limits.batch, limits.cache_bytes)
        self.limits, self.batch = limits, min(limits.batch, rows)
        self._new_slots = partial(Slots, model, rows, self.max_length)
        self._slots = self._new_slots()
        self.counters = Counters()
        self._features: OrderedDict[int, Tensor] = OrderedDict()
        self._waiting: deque[Job] = deque()
        self._joining: Job | None = None
        self._running: list[Job] = []  # the n-th has the cache's row n
        self._changed, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name="vistune-engine", daemon=True)

    @classmethod
    def load(
        cls, path: Path | str, device: str | None = None, dtype: torch.dtype | None = None, limits: Limits | None = None
    ) -> Engine:
        """The engine of a checkpoint folder, on the GPU if there is one. Raises CheckpointError."""
        model, processor = open_checkpoint(Path(path))
        module: torch.nn.Module = model
        module.to(device or ("cuda" if torch.cuda.is_available() else "cpu"), dtype)
        return cls(model, processor, limits)

    def __enter__(self) -> Engine:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    @property
    def load_now(self) -> tuple[int, int]:
        """The numbers of running and of waiting sequences."""
        return len(self._running) + (self._joining is not None), len(self._waiting)

    def prompt(self, turns: Sequence[Turn], images: int) -> list[int]:
        """The token ids of a conversation; the first `images` `<image>` of the user are images.

        Raises DataError for one that the chat template refuses, ContextLengthError if no place for an answer is left.
        """
        ids = self._prompts.prompt(turns, images=images)
        if len(ids) >= self.max_length:
            what = f"the prompt has {len(ids)} tokens, the maximum context length is {self.max_length} tokens"
            raise ContextLengthError(what, where="messages", fix="shorten the conversation")
        return ids

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue the sequences of one request. Raises QueueFullError if not all have a place."""
        for job in jobs:
            job.symbols = self._symbols(job)
            job.sampler = Sampler(job.sampling)
            wanted = self._token_bytes if job.sampling.logprobs is not None else None
            job.text = AnswerText(self.tokenizer, job.sampling.stop, wanted)
        with self._changed:
            if sum(self.load_now) + len(jobs) > self.batch + self.limits.queue or self._closed:
                raise QueueFullError
            self._waiting.extend(jobs)
            self._changed.notify()

    async def answer(self, jobs: Sequence[Job]) -> AsyncGenerator[tuple[int, Piece]]:
        """The pieces of all jobs (whose `deliver` this sets) with each job's index, until all have ended.

        Leaving the iteration cancels what is not finished. Raises QueueFullError.
        """
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Piece]]()
        for index, job in enumerate(jobs):
            job.deliver = lambda piece, index=index: _hand_over(loop, pieces, (index, piece))  # type: ignore[misc]
        self.submit(jobs)
        left = len(jobs)
        try:
            while left:
                index, piece = await pieces.get()
                left -= piece.end is not None
                yield index, piece
        finally:
            for job in jobs:
                job.cancel()

    def _symbols(self, job: Job) -> list[int]:
        """The prompt's tokens as the cache compares them: an image's stand for its pixels."""
        symbols, seen = [], 0
        for token in job.ids:
            if token == self._image_id:
                picture, place = divmod(seen, self.image_tokens)
                token, seen = -1 - job.pictures[picture].key - place, seen + 1
            symbols.append(token)
        return symbols

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or any(self.load_now))
            if self._closed:
                return self._fail([*self._active(), *self._waiting])
            with torch.inference_mode():
                self._round()

    def _round(self) -> None:
        self.counters.rounds += 1
        try:
            self._drop()
            if self._joining is None and self._waiting and len(self._running) < self.batch:
                self._joining = job = self._waiting.popleft()
                job.row = self._slots.take(job.symbols)
                job.cached = len(job.row.symbols)
                self.counters.prompt_tokens += len(job.ids)
                self.counters.cached_tokens += job.cached
            if self._joining:
                self._prefill(self._joining)
            if self._running:
                self._decode()
        except Exception:  # out of memory, most likely: the next requests may fit
            _LOG.exception("a forward pass failed")
            failed = self._active()
            self._running, self._joining, self._slots = [], None, self._new_slots()
            self._fail(failed)

    def _drop(self) -> None:
        """Take out what is cancelled or too late."""
        latest = time.monotonic() - self.limits.seconds
        for job in [job for job in [*self._active(), *self._waiting] if job.cancelled or job.arrival < latest]:
            if job.written and not job.cancelled:
                self._end(job, "length")
            else:
                self.counters.cancelled += job.cancelled
                job.deliver(Piece(end="cancelled" if job.cancelled else "timeout"))
                self._remove(job)

    def _prefill(self, job: Job) -> None:
        """Run the next part of the prompt; after the last, the sequence joins the batch."""
        start = len(job.row.symbols)
        ids = torch.tensor([job.ids[start : start + _PART]], device=self.model.device)
        places = torch.arange(start, start + ids.shape[1], device=ids.device)[None]
        states = self._slots.forward(job.row.index, places, self._embed(job, start, ids))
        job.row.symbols += job.symbols[start : start + _PART]
        if len(job.row.symbols) == len(job.ids):
            self._slots.move(job.row, len(self._running))
            self._joining = None
            self._running.append(job)
            self._write([job], states[:, -1])

    def _decode(self) -> None:
        jobs = list(self._running)
        tokens = torch.tensor([[job.written[-1]] for job in jobs], device=self.model.device)
        places = torch.tensor([[len(job.row.symbols)] for job in jobs], device=tokens.device)
        states = self._slots.forward(0, places, self.model.get_input_embeddings()(tokens))
        for job in jobs:
            job.row.symbols.append(job.written[-1])
        self._write(jobs, states[:, -1])

    def _embed(self, job: Job, start: int, ids: Tensor) -> Tensor:
        """The embeddings (1, Q, D) of a prompt's tokens from `start` on, its images' among them."""
        states: Tensor = self.model.get_input_embeddings()(ids)
        where = ids == self._image_id
        if count := int(where.sum()):
            before = job.ids[:start].count(self._image_id)
            first, last = before // self.image_tokens, (before + count - 1) // self.image_tokens
            features = torch.cat([self._see(picture) for picture in job.pictures[first : last + 1]])
            skip = before - first * self.image_tokens
            states[where] = features[skip : skip + count].to(states.dtype)
        return states

    def _see(self, picture: Picture) -> Tensor:
        """The image's embeddings (I, D)."""
        features = self._features.pop(picture.key, None)
        if features is None:
            self.counters.images_encoded += 1
            features = see(self.model, picture.pixels[None])[0]
        else:
            self.counters.images_reused += 1
        self._features[picture.key] = features
        if len(self._features) > _FEATURES:
            self._features.popitem(last=False)
        return features

    def _write(self, jobs: Sequence[Job], states: Tensor) -> None:
        """Choose each job's next token from its last hidden state; states (B, D)."""
        logits = self.model.lm_head(states).float()
        for job, row, likeliest in zip(jobs, logits, logits.argmax(-1).tolist(), strict=True):
            self._add(job, job.sampler.choose(row, likeliest))

    def _add(self, job: Job, choice: Choice) -> None:
        job.written.append(choice.token)
        self.counters.written_tokens += 1
        if len(job.written) == 1:
            self.counters.first_tokens += 1
            self.counters.first_token_seconds += time.monotonic() - job.arrival
        if choice.token in self._eos:
            return self._end(job, "stop")
        text, tokens = job.text.add(choice)
        if text or tokens:
            job.deliver(Piece(text, tokens))
        if job.text.stopped:
            self._end(job, "stop")
        elif len(job.written) >= job.sampling.max_tokens or len(job.row.symbols) + 1 >= self.max_length:
            self._end(job, "length")
        return None

    def _end(self, job: Job, end: End) -> None:
        job.deliver(Piece(*job.text.end(), "stop" if job.text.stopped else end))
        self._remove(job)

    def _remove(self, job: Job) -> None:
        """Take the job out of the batch or the queue; the last row of the batch takes its place."""
        if job in self._running:
            self._slots.move(self._running[-1].row, job.row.index)
            self._running[self._running.index(job)] = self._running[-1]
            self._running.pop()
        elif job is self._joining:
            self._joining = None
        else:
            with self._changed:
                self._waiting.remove(job)
            return
        self._slots.release(job.row)

    def _active(self) -> list[Job]:
        return [*self._running, *([self._joining] if self._joining else [])]

    def _fail(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.deliver(Piece(end="error"))


def _hand_over(
    loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[tuple[int, Piece]], item: tuple[int, Piece]
) -> None:
    with suppress(RuntimeError):  # the loop has been closed: the reader is gone
        loop.call_soon_threadsafe(pieces.put_nowait, item)

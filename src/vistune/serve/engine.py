"""Continuous batching: requests join and leave a running batch, one forward pass for each token of all of them.

The model runs in one thread. Each of its rounds reads one part of new prompts, of several if they are short, then
writes a token of every sequence whose prompt is read, so a long prompt delays the others by one part only. A prompt's
first tokens that any row of the cache holds (earlier turns, the same image, another choice of the same request) are
copied, not computed; a prompt waits while another one is being read that has most of it in common.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vistune.data.chat_template import checkpoint_template
from vistune.data.encode import PromptEncoder
from vistune.data.image_tokens import ImageTokens
from vistune.model.vision import image_grid
from vistune.records import Turn
from vistune.serve.answer_text import AnswerText, byte_reader
from vistune.serve.embeddings import PromptEmbeddings
from vistune.serve.jobs import ContextLengthError, Counters, End, Job, Limits, Piece, QueueFullError
from vistune.serve.loading import load_model
from vistune.serve.sampling import Choice, Sampler
from vistune.serve.slots import Slots, common, rows_in_memory, token_states
from vistune.serve.structured import Grammars

_LOG = logging.getLogger(__name__)
_PART = {"cpu": 256}
_LARGE_PART = 4096
"""Number of prompts' tokens in one forward pass: what keeps the device busy."""


class Engine:
    """Answers many requests at once with one model; use it within `with`, which starts and stops its thread."""

    def __init__(self, model: Any, processor: Any, limits: Limits | None = None) -> None:
        self.model, self.tokenizer, self.image_processor = model, processor.tokenizer, processor.image_processor
        limits = limits or Limits()
        self.image_grid = image_grid(model.config)
        self._prompts = PromptEncoder(self.tokenizer, checkpoint_template(processor))
        eos = model.generation_config.eos_token_id
        self._eos = set(eos if isinstance(eos, list) else [eos])
        self._token_bytes = byte_reader(self.tokenizer)
        self.grammars = Grammars(self.tokenizer, model.config.get_text_config().vocab_size)
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or limits.length
        self.max_length = min(limits.length, positions)
        states = token_states(model)
        rows = rows_in_memory(states, self.max_length, 2 * limits.batch, limits.cache_bytes)
        self.limits, self.batch = limits, min(limits.batch, rows)
        self._new_slots = partial(Slots, model, states, rows, self.max_length)
        self._slots = self._new_slots()
        self.counters = Counters()
        self._embeddings = PromptEmbeddings(model, self.counters)
        self._part = _PART.get(model.device.type, _LARGE_PART)
        self._waiting: deque[Job] = deque()
        self._batch: list[Job] = []  # the n-th has the cache's row n
        self._writing = 0  # the first of them are being written, the others' prompts are being read
        self._changed, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name="vistune-engine", daemon=True)

    @classmethod
    def load(
        cls, name: Path | str, device: str | None = None, dtype: torch.dtype | None = None,
        limits: Limits | None = None, *, bits: Literal[4, 8] | None = None,
    ) -> Engine:  # fmt: skip
        """The engine of a checkpoint's folder or hub id; see `load_model`. Raises CheckpointError."""
        model, processor = load_model(name, device, dtype, bits)
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
        return len(self._batch), len(self._waiting)

    def prompt(self, turns: Sequence[Turn], images: Sequence[ImageTokens]) -> list[int]:
        """The token ids of a conversation; the first `<image>` of the user are `images`.

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
            job.symbols = self._embeddings.symbols(job)
            job.sampler = Sampler(job.sampling, job.grammar)
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

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or any(self.load_now))
            if self._closed:
                return self._fail([*self._batch, *self._waiting])
            with torch.inference_mode():
                self._round()

    def _round(self) -> None:
        self.counters.rounds += 1
        try:
            self._drop()
            self._admit()
            if reading := self._batch[self._writing :]:
                self._prefill(reading)
            if writing := self._batch[: self._writing]:
                self._decode(writing)
        except Exception:  # out of memory, most likely: the next requests may fit
            _LOG.exception("a forward pass failed")
            failed, self._batch, self._writing = self._batch, [], 0
            del self._slots  # before there is room for others
            self._slots = self._new_slots()
            self._fail(failed)

    def _drop(self) -> None:
        """Take out what is cancelled or too late."""
        latest = time.monotonic() - self.limits.seconds
        for job in [job for job in [*self._batch, *self._waiting] if job.cancelled or job.arrival < latest]:
            if job.written and not job.cancelled:
                self._end(job, "length")
            else:
                self.counters.cancelled += job.cancelled
                job.deliver(Piece(end="cancelled" if job.cancelled else "timeout"))
                self._remove(job)

    def _admit(self) -> None:
        """Take in the sequences that wait, as far as one forward pass reads them with those that are being read."""
        while self._waiting and len(self._batch) < self.batch:
            job, reading = self._waiting[0], self._batch[self._writing :]
            unread = len(job.ids) - self._slots.cached(job.symbols)
            soon = max((common(job.symbols, other.symbols) for other in reading), default=0)
            longest = max(unread, *(other.unread for other in reading), 0)
            if reading and (len(job.ids) - soon < unread // 2 or longest * (len(reading) + 1) > self._part):
                return
            self._waiting.popleft()
            job.row = self._slots.take(job.symbols, len(self._batch))
            self._batch.append(job)
            job.cached = len(job.row.symbols)
            self.counters.prompt_tokens += len(job.ids)
            self.counters.cached_tokens += job.cached

    def _prefill(self, jobs: Sequence[Job]) -> None:
        """Read the next part of each prompt; after its last one a sequence is written."""
        sizes = [min(job.unread, self._part) for job in jobs]
        starts = torch.tensor([[len(job.row.symbols)] for job in jobs], device=self.model.device)
        parts = [self._embeddings.embed(job, len(job.row.symbols), size) for job, size in zip(jobs, sizes, strict=True)]
        states = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)  # (B, Q, D)
        places = starts + torch.arange(states.shape[1], device=starts.device)
        # what padding leaves behind the prompts is overwritten before it is seen; no prompt has the last place
        states = self._slots.forward(self._writing, places.clamp(max=self.max_length - 1), states)
        for job, size in zip(jobs, sizes, strict=True):
            job.row.symbols += job.symbols[len(job.row.symbols) :][:size]
        ready = [(job, states[row, sizes[row] - 1]) for row, job in enumerate(jobs) if not job.unread]
        for job, _ in ready:
            self._swap(job, self._writing)
            self._writing += 1
        if ready:
            self._write([job for job, _ in ready], torch.stack([last for _, last in ready]))

    def _decode(self, jobs: Sequence[Job]) -> None:
        tokens = torch.tensor([[job.written[-1]] for job in jobs], device=self.model.device)
        places = torch.tensor([[len(job.row.symbols)] for job in jobs], device=tokens.device)
        states = self._slots.forward(0, places, self.model.get_input_embeddings()(tokens))
        for job in jobs:
            job.row.symbols.append(job.written[-1])
        self._write(jobs, states[:, -1])

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
        """Take the job out of the queue, or out of the batch, where others take its place."""
        if job not in self._batch:
            with self._changed:
                return self._waiting.remove(job)
        if job.row.index < self._writing:
            self._writing -= 1
            self._swap(job, self._writing)
        self._swap(job, len(self._batch) - 1)
        self._batch.pop()
        return self._slots.release(job.row)

    def _swap(self, job: Job, place: int) -> None:
        """Exchange the job's place in the batch, which is its row in the cache, with that of another."""
        batch, old = self._batch, job.row.index
        self._slots.move(job.row, place)
        batch[old], batch[place] = batch[place], batch[old]

    def _fail(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.deliver(Piece(end="error"))


def _hand_over(
    loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[tuple[int, Piece]], item: tuple[int, Piece]
) -> None:
    with suppress(RuntimeError):  # the loop has been closed: the reader is gone
        loop.call_soon_threadsafe(pieces.put_nowait, item)

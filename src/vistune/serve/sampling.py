"""How the next token is chosen: greedily, or drawn with temperature, top-k and top-p from the request's seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from vistune.serve.structured import Grammar

_LIKELY = 1024
"""Number of tokens that are sorted first; those that reach top_p are rarely more."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a sequence is written.

    `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 leave all tokens in. `logprobs` is the number of most probable
    tokens that are reported for each token besides the chosen one; None reports nothing. The penalties are those of
    OpenAI's API: subtracted from the logits of tokens that were written, once and for each time.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """A token; `logprob` is its log-probability, `top` the most probable tokens with theirs."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses the tokens of one sequence, with a grammar among those that it allows.

    The same seed gives the same draws in every batch.
    """

    def __init__(self, sampling: Sampling, grammar: Grammar | None = None) -> None:
        self._sampling, self._grammar, self._written = sampling, grammar, Counter[int]()
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def choose(self, logits: Tensor, likeliest: int) -> Choice:
        """The next token from `logits` (V), float32; `likeliest` is their argmax."""
        options = self._sampling
        if options.presence_penalty or options.frequency_penalty:
            logits = self._penalised(logits)
            likeliest = int(logits.argmax())
        allowed = logits
        if self._grammar:
            allowed = self._grammar.restrict(logits)
            likeliest = int(allowed.argmax())
        token = self._draw(allowed) if options.temperature > 0 else likeliest
        if self._grammar:
            self._grammar.add(token)
        self._written[token] += 1
        if options.logprobs is None:
            return Choice(token)
        logprobs = logits.log_softmax(-1)
        values, ids = logprobs.topk(options.logprobs)
        return Choice(token, float(logprobs[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))

    def _penalised(self, logits: Tensor) -> Tensor:
        logits = logits.clone()
        for token, times in self._written.items():
            logits[token] -= self._sampling.presence_penalty + times * self._sampling.frequency_penalty
        return logits

    def _draw(self, logits: Tensor) -> int:
        """transformers' order: temperature, the top k, then the fewest tokens whose sum reaches top_p."""
        options = self._sampling
        shares = (logits.cpu() / options.temperature).softmax(-1)
        ids = None
        if options.top_k:
            shares, ids = shares.topk(min(options.top_k, len(shares)))
            shares = shares / shares.sum()
        elif options.top_p < 1:
            likely = shares.topk(min(_LIKELY, len(shares)))
            shares, ids = likely if likely.values.sum() >= options.top_p else shares.sort(descending=True)
        if options.top_p < 1:
            before = shares.cumsum(-1) - shares  # the sum of the likelier tokens; the first stays
            shares = shares.where(before < options.top_p, 0)
            shares[0] = shares[0].clamp(min=1e-9)
        drawn = int(torch.multinomial(shares, 1, generator=self._generator))
        return drawn if ids is None else int(ids[drawn])

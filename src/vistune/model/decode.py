"""Greedy decoding of a batch: left-padded, images' tokens run once for all questions about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids, with the images' tokens, and which images they stand for, in order."""

    ids: list[int]
    images: tuple[int, ...]


@torch.inference_mode()
def greedy(
    model: LlavaForConditionalGeneration, prompts: Sequence[Prompt], features: Tensor | None, max_new_tokens: int
) -> Iterator[list[tuple[int, int]]]:
    """Decode; yields, for each token written, the (prompt's index, token id) of all prompts not finished before.

    features (N, I, D) holds the images. A prompt is finished by an end-of-sequence token, which is yielded, too.
    """
    language: Any = model.model.language_model
    embed: Any = model.get_input_embeddings()
    generation: Any = model.generation_config
    stop = torch.tensor(generation.eos_token_id, device=model.device).reshape(-1)
    alive = torch.arange(len(prompts), device=model.device)
    shared = _shared_prefix(prompts, features, model.config.image_token_id)
    cache = _prefill_images(model, prompts, features, shared) if shared and features is not None else None
    ids, real = _left_pad([prompt.ids[shared:] for prompt in prompts], model.device)
    mask = torch.cat([real.new_ones(len(prompts), shared), real], dim=1)  # (B, shared + S)
    states = embed(ids)  # (B, S, D)
    if not shared and features is not None:
        _place(states, ids == model.config.image_token_id, features, [prompt.images for prompt in prompts])
    for _ in range(max_new_tokens):
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -states.shape[1] :]
        output = language(
            inputs_embeds=states, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        tokens = model.lm_head(output.last_hidden_state[:, -1]).argmax(-1)  # (B)
        yield list(zip(alive.tolist(), tokens.tolist(), strict=True))
        going = (~torch.isin(tokens, stop)).nonzero().flatten()
        if not len(going):
            return
        cache = output.past_key_values
        if len(going) < len(tokens):
            cache.batch_select_indices(going)
            alive, mask, tokens = alive[going], mask[going], tokens[going]
        mask = torch.cat([mask, mask.new_ones(len(tokens), 1)], dim=1)
        states = embed(tokens[:, None])


def _shared_prefix(prompts: Sequence[Prompt], features: Tensor | None, image_id: int) -> int:
    """How many first tokens, up to the images' last, all prompts have in common; 0 if nothing can be shared."""
    distinct = {prompt.images for prompt in prompts}
    if features is None or len(distinct) == len(prompts) or () in distinct:
        return 0
    first = prompts[0].ids
    length = len(first) - first[::-1].index(image_id)
    return length if all(prompt.ids[:length] == first[:length] for prompt in prompts) else 0


def _prefill_images(
    model: LlavaForConditionalGeneration, prompts: Sequence[Prompt], features: Tensor, length: int
) -> Any:
    """The key-value cache of the shared prefix, a row for each prompt; prompts about the same images run it once."""
    embed: Any = model.get_input_embeddings()
    language: Any = model.model.language_model
    rows = {images: row for row, images in enumerate(dict.fromkeys(prompt.images for prompt in prompts))}
    ids = torch.tensor([prompts[0].ids[:length]], device=model.device).expand(len(rows), -1)
    states = embed(ids)  # (R, length, D)
    _place(states, ids == model.config.image_token_id, features, list(rows))
    cache = language(inputs_embeds=states, use_cache=True).past_key_values
    cache.batch_select_indices(torch.tensor([rows[prompt.images] for prompt in prompts], device=model.device))
    return cache


def _left_pad(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and the mask of real ones, (B, S) each. What stands in a padded place has no effect."""
    length = max(map(len, rows))
    ids = torch.tensor([[0] * (length - len(row)) + row for row in rows], device=device)
    real = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, real


def _place(states: Tensor, where: Tensor, features: Tensor, rows: Sequence[tuple[int, ...]]) -> None:
    """Put each row's images into their places; states (B, S, D), where (B, S)."""
    chosen = [image for images in rows for image in images]
    states[where] = features[chosen].flatten(0, 1).to(states.dtype)

"""The loss that a stage trains by: one forward pass over packed conversations that share images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from vistune.data.collate import Batch
from vistune.errors import RecipeError, require
from vistune.model.last_layer import LastLayer
from vistune.model.linear_cross_entropy import linear_cross_entropy
from vistune.model.shared_prefix import Layout, use_shared_prefix
from vistune.model.vision import image_embeddings, vision_features
from vistune.recipe.training import AttentionName, Recipe

KeepFeatures = Callable[[Sequence[str], Tensor], None]


class TargetLoss(nn.Module):
    """The model with its loss: the cross-entropy summed over the targets of a row of conversation groups.

    It owns all that training changes in a model besides its weights, and `close` undoes: the attention, hooks in the
    last layer, sparse gradients of the embeddings, layers that are compiled, and the share `recompute` of layers that
    compute their activations again in the backward pass.

    `keep_features` gets the names and features (N, I, V) of images that a frozen vision tower encoded. With `in_place`,
    the two gradients with a row for every word of the vocabulary are added to the earlier ones, not copied first: only
    for a single process, as several exchange each gradient when it is complete.
    """

    def __init__(
        self, model: LlavaForConditionalGeneration, keep_features: KeepFeatures | None = None, *,
        in_place: bool = False, recompute: float = 0.0, compiled: bool = False,
        attention: AttentionName | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model, self._keep_features, self._in_place, self._recompute = model, keep_features, in_place, recompute
        language: Any = model.model.language_model
        self._attention, self._prefix_attention = language.config._attn_implementation, attention
        self._windows = (None, getattr(language.config, "sliding_window", None))
        use_shared_prefix(language)
        self._last_layer = LastLayer(language)
        if recompute:
            _recompute_activations(language, recompute)
        if compiled:
            # dynamic: one compilation for rows of any length. Not the last layer, which computes chosen rows only
            for layer in language.layers[:-1]:
                layer.compile(dynamic=True)

    figures: tuple[str, ...] = ()
    """The names of further figures of the training."""

    def take_figures(self) -> Tensor:
        """The sums (F) of the further figures since the last call."""
        return torch.zeros(0, device=self.model.device)

    def count(self, batch: Batch) -> int:
        """What the loss is a mean over: the targets."""
        return len(batch.targets)

    def close(self) -> None:
        """Leave the model as it was before, but for its weights."""
        language: Any = self.model.model.language_model
        embeddings: Any = self.model.get_input_embeddings()
        language.set_attn_implementation(self._attention)
        self._last_layer.remove()
        embeddings.sparse = False
        if self._recompute:
            language.gradient_checkpointing_disable()
            language.disable_input_require_grads()
        for layer in language.layers:
            layer._compiled_call_impl = None  # what `compile` sets; torch has no way back

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """With the model's own attention meanwhile, so that it can generate."""
        language: Any = self.model.model.language_model
        language.set_attn_implementation(self._attention)
        try:
            yield
        finally:
            use_shared_prefix(language)

    def forward(self, batch: Batch, scale: float = 1.0) -> Tensor:
        """The sum times `scale`, in float32."""
        model: Any = self.model
        if self._in_place:
            self._allocate_gradients()
        states = self.states(self.embed(batch), batch)
        loss = linear_cross_entropy(model, states, batch.targets, scale, in_place=self._in_place)
        if not len(batch.crop_order):
            # processes wait for each other's gradients, so all that is trained needs some
            unused = [
                weight for name, weight in model.model.named_parameters() if not name.startswith("language_model")
            ]
            loss = loss + 0 * sum(weight.sum() for weight in unused if weight.requires_grad)
        return loss

    def embed(self, batch: Batch) -> Tensor:
        """The language model's input (N, D), with the images' features in their places."""
        model: Any = self.model
        # float32: the residual stream stays so even where frozen embeddings are held in bfloat16
        embeds: Tensor = model.get_input_embeddings()(batch.input_ids).float()  # (N, D)
        features = [one for one in (batch.features, self._encode(batch)) if one is not None]  # (crops, I, V) together
        if features:
            ordered = torch.cat(features)[batch.crop_order]
            chosen = image_embeddings(model, ordered)[batch.image_from]  # (M, D)
            embeds = embeds.index_copy(0, batch.image_at, chosen.to(embeds.dtype))
        return embeds

    def states(self, embeds: Tensor, batch: Batch) -> Tensor:
        """The language model's states (T, D) that predict the targets."""
        model: Any = self.model
        rows = batch.predict_at.unique()  # (R); the end of a shared prefix may predict a target of every branch
        with self._last_layer.at(rows):
            states: Tensor = model.model.language_model(
                inputs_embeds=embeds[None],
                position_ids=batch.position_ids[None],
                use_cache=False,
                layout=self._layout(batch),
            ).last_hidden_state[0]  # (N, D)
        return states[batch.predict_at]

    def _layout(self, batch: Batch) -> Layout:
        attention = self._prefix_attention or ("flex_attention" if batch.position_ids.is_cuda else "sdpa")
        return Layout(batch.segments, batch.position_ids, attention, self._windows)

    def _allocate_gradients(self) -> None:
        """The gradients of head and embeddings, to add to: the embeddings' own are sparse, one row for each token."""
        embeddings: Any = self.model.get_input_embeddings()
        embeddings.sparse = True
        for weight in {self.model.lm_head.weight, embeddings.weight}:
            if weight.requires_grad and weight.grad is None and torch.is_grad_enabled():
                weight.grad = torch.zeros_like(weight)

    def _encode(self, batch: Batch) -> Tensor | None:
        """The vision tower's features (N, I, V) of the batch's pixels."""
        pixels, model = batch.pixel_values, self.model
        if pixels is None:
            return None
        if any(weight.requires_grad for weight in model.model.vision_tower.parameters()):
            return vision_features(model, pixels)
        # one by one on a CPU: as fast, and the features do not depend on which images come together
        parts = pixels.split(1) if pixels.device.type == "cpu" else [pixels]
        features = torch.cat([vision_features(model, part) for part in parts])
        if self._keep_features is not None:
            self._keep_features(batch.names, features)
        return features


def _recompute_activations(language: Any, share: float) -> None:
    """Have this share of the layers compute their activations again in the backward pass.

    The last one never does: it would only be computed twice in a row.
    """
    language.gradient_checkpointing_enable({"use_reentrant": False})
    count = round(share * (len(language.layers) - 1))
    for number, layer in enumerate(language.layers):
        layer.gradient_checkpointing = number < count
        if number < count:
            layer.training = True  # transformers requires it; the parts of a frozen layer stay in evaluation mode


def check_attention(recipe: Recipe) -> None:
    """Raises RecipeError for an attention that this machine or the precision does not allow, MissingPackageError."""
    name, where = recipe.attn_implementation, "attn_implementation"
    if name in ("flex_attention", "flash_attention_2") and not torch.accelerator.is_available():
        raise RecipeError(f"{name} is for GPUs, and there is none", where=where, fix="leave it out, or `sdpa`")
    if name == "flash_attention_2":
        if recipe.precision == "fp32":
            raise RecipeError(f"{name} computes in 16 bits", where=where, fix="precision: bf16, or fp16")
        require("flash_attn", "", name, where=where)


def check_compiler() -> None:
    """Raises RecipeError if layers are to be compiled for a CPU and there is no C++ compiler."""
    compiler = os.environ.get("CXX", "g++")
    if not torch.accelerator.is_available() and shutil.which(compiler) is None:
        fix = "install g++, name another compiler in the variable CXX, or leave `compile` out"
        raise RecipeError(f"compiling needs the C++ compiler {compiler}", where="compile", fix=fix)

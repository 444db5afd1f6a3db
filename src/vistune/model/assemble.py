"""A vision tower and a language model put together as a LLaVA of transformers, with tiles (anyres) or without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tokenizers import AddedToken
from torch import nn
from transformers import (
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextProcessor,
    LlavaProcessor,
)
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from vistune.data import chat_template as templates
from vistune.data.images import square_processor, tiles_processor
from vistune.errors import CheckpointError, RecipeError
from vistune.model.backbones import load_language, load_vision, resolve
from vistune.model.families import LLAVA, leading_tokens
from vistune.model.pretrained import reading
from vistune.model.projector import MARK, LinearProjector, ProjectorKind, saved_activation
from vistune.model.vision import at_image_size, image_grid
from vistune.recipe.training import ModelRecipe
from vistune.records import IMAGE_TOKEN

_PAD_TOKEN = "<pad>"
_GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
"""The rows and columns of LLaVA-1.6's grids of tiles."""


def assemble(
    recipe: ModelRecipe, seed: int = 0, *, weights: bool = True
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The untrained assistant, in float32, and its processor. Only the projector's weights are new (by `seed`).

    Without `weights` the model is on the device `meta`. Raises CheckpointError for a backbone that cannot be read or
    is of an unsupported family, RecipeError for an unknown template.
    """
    with reading(f"{recipe.vision_tower}, {recipe.language_model}"):
        return _assemble(recipe, seed, weights)


def _assemble(recipe: ModelRecipe, seed: int, weights: bool) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    vision, image_settings = load_vision(
        resolve(recipe.vision_tower, "vision"), weights=weights, allow_pickle=recipe.allow_pickle
    )
    vision = at_image_size(vision, recipe.image_size or vision.config.image_size)
    language, tokenizer = load_language(
        resolve(recipe.language_model, "language"), weights=weights, allow_pickle=recipe.allow_pickle
    )
    _check_features(recipe, vision.config)
    template = templates.chat_template(tokenizer, recipe.chat_template)
    _prepare_tokenizer(tokenizer, template)
    _fit_embeddings(language, len(tokenizer))
    config = _config(recipe, vision, language, tokenizer)
    model = _join(config, vision, language, recipe.projector, seed)
    if not weights:
        module: nn.Module = model
        module.to("meta")
        model.tie_weights()  # moving the weights of a GGUF file has untied them
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    tiled = recipe.image_aspect == "anyres"
    processor: Any = (LlavaNextProcessor if tiled else LlavaProcessor)(
        image_processor=_image_processor(recipe, config, image_settings),
        tokenizer=tokenizer,
        patch_size=vision.config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        chat_template=template,
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=leading_tokens(vision.config),
    )
    return model, processor


def _image_processor(recipe: ModelRecipe, config: Any, settings: Mapping[str, Any]) -> Any:
    side = config.vision_config.image_size
    if recipe.image_aspect == "anyres":
        return tiles_processor(settings, side, config.image_grid_pinpoints)
    return square_processor(settings, side, recipe.image_aspect)


def _pinpoints(recipe: ModelRecipe, side: int) -> list[list[int]]:
    """The (height, width) of the grids of tiles in pixels. Raises RecipeError for one of no whole tiles."""
    chosen = recipe.image_grid_pinpoints or [(rows * side, columns * side) for rows, columns in _GRIDS]
    if wrong := next((one for one in chosen if min(one) < side or any(edge % side for edge in one)), None):
        what, fix = f"{list(wrong)} is no grid of tiles of {side} x {side} pixels", f"multiples of {side}"
        raise RecipeError(what, where="model.image_grid_pinpoints", fix=fix)
    return [list(one) for one in chosen]


def _check_features(recipe: ModelRecipe, config: Any) -> None:
    """Raises CheckpointError if the vision tower lacks the class token or the hidden state that the recipe names."""
    if recipe.feature_strategy == "default" and not leading_tokens(config):
        what = "the vision tower has no class token to leave out"
        raise CheckpointError(what, where="model.feature_strategy", fix="use `full`")
    layer, states = recipe.feature_layer, config.num_hidden_layers + 1
    if not -states <= layer < states:
        what, fix = f"the vision tower has no hidden state {layer}", f"from {-states} to {states - 1}"
        raise CheckpointError(what, where="model.feature_layer", fix=fix)


def _prepare_tokenizer(tokenizer: Any, template: str) -> None:
    """Add the image's token, a token to pad with, and name the end-of-turn token as the end of a sequence."""
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.unk_token:
        tokenizer.add_special_tokens({"pad_token": AddedToken(_PAD_TOKEN, special=True, normalized=False)})
    tokenizer.eos_token = templates.end_of_turn(tokenizer, template)
    tokenizer.chat_template = template
    tokenizer.add_bos_token = False  # the template writes it; others tokenise its text as any other
    tokenizer.padding_side = "left"  # for generation; training pads by itself


def _fit_embeddings(language: Any, tokens: int) -> None:
    """Make room for new tokens, as a multiple of 64 rows: a GPU computes such a head faster.

    The new rows are the mean of all others: no token that the model prefers.
    """
    old = len(language.get_input_embeddings().weight)
    if tokens <= old:
        return
    language.resize_token_embeddings(tokens, pad_to_multiple_of=64, mean_resizing=False)
    with torch.no_grad():
        for layer in (language.get_input_embeddings(), language.get_output_embeddings()):  # tied: one weight twice
            layer.weight[old:] = layer.weight[:old].mean(0)


def _config(recipe: ModelRecipe, vision: Any, language: Any, tokenizer: Any) -> Any:
    vision_config, text_config = vision.config, language.config
    vision_config.architectures, text_config.architectures = [type(vision).__name__], [type(language).__name__]
    text_config.bos_token_id, text_config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    text_config.pad_token_id = tokenizer.pad_token_id
    has_class_token = leading_tokens(vision_config) > 0
    tiled = recipe.image_aspect == "anyres"
    kind: Any = LlavaNextConfig if tiled else LlavaConfig
    config: Any = kind(
        vision_config=vision_config,
        text_config=text_config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        projector_hidden_act=saved_activation(recipe.projector, vision_config.hidden_size, text_config.hidden_size),
        vision_feature_layer=recipe.feature_layer,
        vision_feature_select_strategy=recipe.feature_strategy or ("default" if has_class_token else "full"),
        tie_word_embeddings=text_config.tie_word_embeddings,
        dtype="float32",
        **({"image_grid_pinpoints": _pinpoints(recipe, vision_config.image_size)} if tiled else {}),
    )
    config.architectures = [LLAVA[config.model_type].__name__]
    setattr(config, MARK, recipe.projector)
    config.image_seq_length = image_grid(config).features
    return config


def _join(
    config: Any, vision: Any, language: Any, projector: ProjectorKind, seed: int
) -> LlavaForConditionalGeneration:
    """The whole model around the given parts, which are not copied."""
    with torch.device("meta"):
        model: Any = LLAVA[config.model_type](config)
    model.model.vision_tower, model.model.language_model = vision, language.model
    model.lm_head = language.lm_head
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = language.get_input_embeddings()
        model.model.multi_modal_projector = _new_projector(config, projector, words)
        if hasattr(model.model, "image_newline"):
            newline = torch.randn(config.text_config.hidden_size) * _size(words)
            model.model.image_newline = nn.Parameter(newline)
    model.eval()
    whole: LlavaForConditionalGeneration = model
    return whole


def _new_projector(config: Any, kind: ProjectorKind, words: nn.Module) -> nn.Module:
    """A projector whose outputs begin about as large as the word embeddings, not several times as large."""
    widths = config.vision_config.hidden_size, config.text_config.hidden_size
    projector: Any = LinearProjector(*widths) if kind == "linear" else LlavaMultiModalProjector(config)
    last = projector.linear if kind == "linear" else projector.linear_2
    with torch.no_grad():
        last.weight.normal_(std=_size(words) / last.in_features**0.5)
        last.bias.zero_()
    module: nn.Module = projector
    return module


def _size(words: Any) -> float:
    """The root mean square of the word embeddings as they enter the language model: Gemma's module scales them."""
    if words.weight.is_meta:
        return 1.0
    with torch.no_grad():
        some = words.weight[:16]
        scale = words(torch.arange(len(some))).norm() / some.norm()
        return float(words.weight.square().mean().sqrt() * scale)

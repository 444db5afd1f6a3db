"""Every supported pair of families: our packed forward against the plain one, and a checkpoint that loads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    LlavaForConditionalGeneration,
)

from assembling import assemble
from vistune.data.collate import collate
from vistune.data.encode import Encoder, Sample
from vistune.data.groups import make_groups
from vistune.data.images import to_pixels
from vistune.errors import CheckpointError, RecipeError
from vistune.model.adapters import add_lora, lora_layers
from vistune.model.assistant import Assistant
from vistune.model.checkpoint import save_checkpoint
from vistune.model.families import LANGUAGE, VISION
from vistune.model.vision import image_grid
from vistune.recipe.training import LoraRecipe
from vistune.records import Conversation, Turn
from vistune.train.stages import freeze
from vistune.train.target_loss import TargetLoss

SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "initializer_range": 0.2,
    "bos_token_id": 0, "eos_token_id": 3, "pad_token_id": 4,
}  # fmt: skip
WINDOWS: dict[str, dict[str, Any]] = {  # sliding windows shorter than an image
    "gemma2": {"sliding_window": 3, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "gemma3_text": {"sliding_window": 3, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
    "mistral": {"sliding_window": 3},
    "phi3": {"sliding_window": 6},
    "qwen2": {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    "cohere2": {"sliding_window": 3},
    "exaone4": {"sliding_window": 3},
    "ministral": {"sliding_window": 3},
    "olmo3": {"sliding_window": 3},
    "starcoder2": {"sliding_window": 3},
}
SCALES = {  # what Granite multiplies by is 1 by default
    "granite": {
        "logits_scaling": 4.0, "embedding_multiplier": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.5
    }
}  # fmt: skip
TOWERS: dict[str, dict[str, Any]] = {
    "clip_vision_model": {"intermediate_size": 32},
    "siglip_vision_model": {"intermediate_size": 32},
    "dinov2": {"mlp_ratio": 2},
    "dinov2_with_registers": {"mlp_ratio": 2},
    "dinov3_vit": {"intermediate_size": 32, "num_register_tokens": 4},
}
EVERY = 9
"""So many language models are tried with every tower, the others with one each."""
PAIRS = [(vision, language) for language in LANGUAGE[:EVERY] for vision in TOWERS] + list(
    zip(cycle(TOWERS), LANGUAGE[EVERY:], strict=False)
)


@pytest.fixture(scope="session")
def saved(backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small random model of every family."""
    folder = tmp_path_factory.mktemp("families")
    settings = (backbones / "vision" / "preprocessor_config.json").read_text()
    for name, changes in TOWERS.items():
        config = AutoConfig.for_model(
            name, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=14,
            initializer_range=0.2, **changes,
        )  # fmt: skip
        torch.manual_seed(1)
        VISION[name].model(config).save_pretrained(folder / name)
        (folder / name / "preprocessor_config.json").write_text(settings)
    tokenizer = AutoTokenizer.from_pretrained(backbones / "language")
    for name in LANGUAGE:
        config = AutoConfig.for_model(
            name, vocab_size=len(tokenizer), **SMALL, **WINDOWS.get(name, {}), **SCALES.get(name, {})
        )
        torch.manual_seed(2)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


def _pictures() -> dict[str, Image.Image]:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (3, 28, 28, 3), generator=generator, dtype=torch.uint8)
    return {name: Image.fromarray(one.numpy()) for name, one in zip("abc", pixels, strict=True)}


def _conversations() -> list[Conversation]:
    """One to four about an image, the image before or after the question, several images in any turn, none."""
    told = [
        ("a", "<image>\nhow many dogs", "two", "left of what", "the cat"), ("a", "<image>\nwhat is in this", "a box"),
        ("b", "what is this\n<image>", "a red box"), ("a", "how many\n<image>", "no"),
        ("c", "<image>\nis it red", "yes"), ("c", "<image>\nis it", "no"), ("c", "<image>\nis it red", "no no"),
        ("c", "<image>\nare there people", "two people"), ("", "how many cats are there", "two", "and dogs", "no"),
        ("ab", "<image> left of\n<image>", "the box", "and", "no"), ("ac", "<image> left of\n<image>", "no"),
        ("ab", "<image> left of\n<image>", "the cat"),
        ("cab", "<image>\nis it", "no", "above <image> or <image>", "no"),
        ("bb", "what is this", "red", "<image> or <image>", "two"),
    ]  # fmt: skip
    roles = ("user", "assistant")
    return [
        Conversation(str(i), tuple(Turn(roles[j % 2], text) for j, text in enumerate(texts)), tuple(images))  # type: ignore[arg-type]
        for i, (images, *texts) in enumerate(told)
    ]


@dataclass
class Both:
    """A model with the same conversations for either forward."""

    model: Any
    processor: Any
    samples: list[Sample]
    pixels: dict[str, Tensor]

    def ours(self) -> Tensor:
        """The packed loss."""
        return TargetLoss(self.model)(collate(make_groups(self.samples), lambda name, _: self.pixels[name]))

    def theirs(self) -> Tensor:
        """The loss by transformers' own forward, one conversation a row, padded."""
        self.model.set_attn_implementation("eager")
        ids = [torch.from_numpy(sample.input_ids).long() for sample in self.samples]
        targets = [torch.from_numpy(sample.targets) for sample in self.samples]
        logits = self.model(
            input_ids=pad_sequence(ids, batch_first=True),
            attention_mask=pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
            pixel_values=torch.cat([self.pixels[name] for sample in self.samples for name in sample.images]),
        ).logits
        config = self.model.config.text_config  # LlavaForConditionalGeneration leaves out what follows
        logits = logits * getattr(config, "logit_scale", 1) / getattr(config, "logits_scaling", 1)
        if cap := getattr(config, "final_logit_softcapping", None):
            logits = cap * torch.tanh(logits / cap)
        rows = zip(logits, ids, targets, strict=True)
        return sum(F.cross_entropy(row[: len(i) - 1][t[1:]], i[1:][t[1:]], reduction="sum") for row, i, t in rows)


def _both(folder: Path, vision: str, language: str) -> Both:
    model, processor = assemble(str(folder / vision), str(folder / language), projector="mlp2x_gelu")
    encoder = Encoder(processor.tokenizer, str(processor.chat_template), image_grid(model.config))
    pixels = {name: to_pixels(processor.image_processor, picture) for name, picture in _pictures().items()}
    return Both(model, processor, [encoder.encode(one, 200) for one in _conversations()], pixels)


def _gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize(("vision", "language"), PAIRS)
def test_loss_and_gradients_are_the_plain_forwards(saved: Path, vision: str, language: str) -> None:
    both = _both(saved, vision, language)
    freeze(both.model, ["projector", "language", "vision"])
    both.model.eval()  # in training DINOv3 moves its positions at random
    _compare(both)


@pytest.mark.parametrize(("vision", "language"), list(zip(cycle(TOWERS), LANGUAGE, strict=False)))
def test_adapters_gradients_are_the_plain_forwards(saved: Path, vision: str, language: str) -> None:
    both = _both(saved, vision, language)
    add_lora(both.model, LoraRecipe(rank=4, alpha=8, dropout=0), seed=0)
    with torch.no_grad():
        for layer in lora_layers(both.model):
            layer.lora_B["default"].weight.normal_(std=0.1, generator=torch.Generator().manual_seed(3))
    freeze(both.model, ["projector", "lora"])
    trained = _compare(both)
    assert {name.split(".")[-2] for name in trained} == {"default", "linear_1", "linear_2"}


def test_the_towers_last_layers_are_trained_alone(saved: Path) -> None:
    both = _both(saved, "clip_vision_model", "llama")
    freeze(both.model, ["projector", "vision"], vision_layers=1)
    trained = _compare(both)
    last = both.model.model.vision_tower.encoder.layers[1]  # of three, the projector reads the second one's output
    tower = {name for name in trained if "vision_tower" in name}
    assert tower == {f"model.vision_tower.encoder.layers.1.{name}" for name, _ in last.named_parameters()}
    with pytest.raises(RecipeError, match="the vision tower has 2 layers before"):
        freeze(both.model, ["vision"], vision_layers=3)


def _compare(both: Both) -> set[str]:
    """Loss and gradients of either forward, which agree; returns the trained weights' names."""
    ours, theirs = both.ours(), both.theirs()
    assert (ours - theirs).abs() / theirs < 1e-5
    mine, reference = _gradients(both.model, ours), _gradients(both.model, theirs)
    assert mine.keys() == reference.keys()
    differ = {name: ((mine[name] - reference[name]).norm() / reference[name].norm()).item() for name in mine}
    whole = sum(value.square().sum() for value in reference.values()).sqrt()
    difference = sum((mine[name] - value).square().sum() for name, value in reference.items()).sqrt()
    assert difference / whole < 1e-5, max(differ.items(), key=lambda item: item[1])
    return set(mine)


@pytest.mark.parametrize(
    ("vision", "language"),
    list(zip(cycle(TOWERS), LANGUAGE, strict=False)),
)
def test_plain_transformers_loads_it_and_answers_the_same(
    saved: Path, vision: str, language: str, tmp_path: Path
) -> None:
    both = _both(saved, vision, language)
    save_checkpoint(both.model, both.processor, tmp_path / "run")
    model, report = LlavaForConditionalGeneration.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert "vistune_shared_prefix" not in (tmp_path / "run" / "config.json").read_text()
    processor = AutoProcessor.from_pretrained(tmp_path / "run", backend="pil")
    picture = _pictures()["a"]
    content = [{"type": "image"}, {"type": "text", "text": "how many dogs"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=picture, text=prompt, add_special_tokens=False, return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    theirs = processor.decode(tokens, skip_special_tokens=True).strip()
    assistant = Assistant.load(tmp_path / "run")
    assert assistant.chat(picture, "how many dogs", max_new_tokens=12) == theirs
    texts = ("how many dogs", "no", "what is left of the cat")
    prompts = [(image, text) for image in (picture, _pictures()["b"], None) for text in texts]
    single = [assistant.chat(*prompt, max_new_tokens=12) for prompt in prompts]
    assert assistant.answer(prompts, max_new_tokens=12) == single


def test_a_family_that_is_not_supported_is_named(saved: Path, tmp_path: Path) -> None:
    config = AutoConfig.for_model("gpt2", n_embd=8, n_layer=1, n_head=1)
    config.save_pretrained(tmp_path / "gpt2")
    with pytest.raises(CheckpointError, match="language model of the family 'gpt2' is not supported"):
        assemble(str(saved / "dinov2"), str(tmp_path / "gpt2"), projector="linear")
    with pytest.raises(CheckpointError, match="no class token"):
        assemble(
            str(saved / "siglip_vision_model"), str(saved / "qwen3"), projector="linear", feature_strategy="default"
        )

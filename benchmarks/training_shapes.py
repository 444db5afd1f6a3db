"""Backbones and data of two shapes for the training benchmarks: random weights, LLaVA-Instruct's statistics."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shape:
    """The sizes of a vision tower and a language model; images are squares of `side` pixels in patches of 14."""

    side: int
    tower: dict[str, int]
    text: dict[str, int | bool]


SHAPES = {
    # The proportions of Gemma 3 270M (layers 100 M, tied embeddings 168 M) with SigLIP-B (86 M), and SmolLM2's
    # vocabulary: weights of the LM's layers 9 M, of the head 19 M, of the tower 8 M
    "small-lm": Shape(
        side=224,
        tower={"hidden_size": 288, "intermediate_size": 1152, "num_hidden_layers": 8, "num_attention_heads": 4},
        text={
            "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6,
            "num_key_value_heads": 2, "vocab_size": 49_152, "tie_word_embeddings": True,
        },
    ),
    # LLaVA-1.5-7B's: 576 image tokens, an LM that is nearly all of the work; weights of the LM's layers 57 M, of the
    # head 0.8 M, of the tower 5 M
    "7b": Shape(
        side=336,
        tower={"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 4},
        text={
            "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 12,
            "num_key_value_heads": 12, "vocab_size": 1_024,
        },
    ),
    # For checks that a CPU runs in seconds; heads of 32 as flex attention needs at least 16
    "tiny": Shape(
        side=56,
        tower={"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
        text={
            "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 1_024,
        },
    ),
    # CLIP-L at 336 pixels with Llama 3.2 1B, for GPUs: 1.2 B weights of the LM, of which the tied head has 263 M
    "1b": Shape(
        side=336,
        tower={"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
        text={
            "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": True,
        },
    ),
}  # fmt: skip
CHATML = (
    "{% for m in messages %}{{ '<|im_start|> ' + m['role'] + ' ' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|> assistant ' }}{% endif %}"
)


def make_backbones(shape: Shape, folder: Path) -> None:
    """Random backbones of the shape, with a tokenizer that has a word for every number of the vocabulary."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        CLIPVisionModel,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(0)
    CLIPVisionModel(CLIPVisionConfig(image_size=shape.side, patch_size=14, **shape.tower)).save_pretrained(
        folder / "vision"
    )
    size = {"height": shape.side, "width": shape.side}
    CLIPImageProcessorPil(size=size, crop_size=size).save_pretrained(folder / "vision")
    words = ["<unk>", "<|im_start|>", "<|im_end|>", "<pad>", "user", "assistant"]
    words += [f"w{i}" for i in range(shape.text["vocab_size"] - 8 - len(words))]  # room for <image>
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<|im_end|>", pad_token="<pad>",
        additional_special_tokens=["<|im_start|>"], chat_template=CHATML, model_max_length=2048,
    ).save_pretrained(folder / "language")  # fmt: skip
    config = LlamaConfig(max_position_embeddings=2048, eos_token_id=2, pad_token_id=3, **shape.text)
    LlamaForCausalLM(config).save_pretrained(folder / "language")


def make_data(shape: Shape, stage: str, conversations: int, folder: Path) -> None:
    """Images and LLaVA JSON: captions for `align`; else two conversations an image, one to five exchanges each."""
    from PIL import Image

    rng = random.Random(0)
    words = shape.text["vocab_size"] - 20

    def text(low: int, high: int) -> str:
        return " ".join(f"w{rng.randrange(words)}" for _ in range(rng.randint(low, high)))

    rows = []
    for index in range(conversations):
        image = index if stage == "align" else index // 2
        name = f"{image}.jpg"
        if not (folder / name).exists():
            noise = Image.frombytes("RGB", (8, 8), rng.randbytes(192))
            noise.resize((shape.side, shape.side)).save(folder / name)
        exchanges = 1 if stage == "align" else rng.randint(1, 5)
        turns = []
        for number in range(exchanges):
            question = "" if stage == "align" else text(8, 16)
            turns.append({"from": "human", "value": ("<image>\n" if number == 0 else "") + question})
            long = stage != "align" and exchanges == 1  # a detailed description
            turns.append({"from": "gpt", "value": text(80, 120) if long else text(10, 40)})
        rows.append({"id": str(index), "image": name, "conversations": turns})
    (folder / "data.json").write_text(json.dumps(rows))

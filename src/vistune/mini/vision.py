"""The miniature vision tower: a CLIP trained on training scenes, whole pictures and single patches.

Two contrastive losses: picture against caption (CLIP, Radford et al. 2021), and, on the layer that a
projector will read, patch against phrase (as in RegionCLIP, Zhong et al. 2022): the patches under
an object's centre against "a small dog", every other patch against its background's colour.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPImageProcessorPil, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from vistune.mini.captions import captions
from vistune.mini.drawing import draw
from vistune.mini.optim import MuonWithAdam
from vistune.mini.scenes import BACKGROUNDS, Scene, categories, sample_scene
from vistune.records import Box

SIDE, PATCH, GRID = 112, 14, 8
MEAN = STD = (0.5, 0.5, 0.5)
FEATURE_LAYER = -2
NEAR = 0.2
"""How near a patch's border, in patches, a centre counts as in both."""
SIZES = ("small ", "", "large ")


def vision_config() -> CLIPVisionConfig:
    """1.1 million parameters: 64 patches of a 112-pixel picture, five layers of width 128."""
    return CLIPVisionConfig(
        hidden_size=128, intermediate_size=512, num_hidden_layers=5, num_attention_heads=4,
        image_size=SIDE, patch_size=PATCH, projection_dim=128,
    )  # fmt: skip


def center_cells(box: Box) -> list[int]:
    """The patches (0 to 63, row by row) under the box's centre: one, or all that it is near the border of.

    Without the second the mark of every fourth object would hang on a pixel or two.
    """
    columns, rows = ({int((value * GRID) + shift) for shift in (-NEAR, NEAR)} for value in box.center)
    return [row * GRID + column for row in sorted(rows) for column in sorted(columns)]


def phrases() -> list[str]:
    """What a patch may show: every category in three sizes, then every background."""
    things = [f"a {size}{name}" for name in categories() for size in SIZES]
    return things + [f"{color} background" for color in BACKGROUNDS]


def patch_targets(scene: Scene) -> NDArray[np.int16]:
    """The index into `phrases()` of each of the 64 patches."""
    names, colors = list(categories()), list(BACKGROUNDS)
    rows = [3 * len(names) + colors.index(scene.background.at((row + 0.5) / GRID)) for row in range(GRID)]
    targets = np.repeat(np.array(rows, dtype=np.int16), GRID)
    for box in scene.boxes:
        size = 0 if box.area < 0.05 else 1 if box.area < 0.1 else 2
        targets[center_cells(box)] = 3 * names.index(box.category) + size
    return targets


@dataclass(frozen=True, slots=True)
class Pictures:
    """Drawn training scenes: pixels (N, 112, 112, 3) uint8, targets (N, 64), five captions each."""

    pixels: NDArray[np.uint8]
    targets: NDArray[np.int16]
    captions: list[tuple[str, ...]]


def _draw_some(seed: int, indices: range) -> Pictures:
    scenes = [sample_scene("train", seed, index) for index in indices]
    return Pictures(
        np.stack([np.asarray(draw(scene, SIDE)) for scene in scenes]),
        np.stack([patch_targets(scene) for scene in scenes]),
        [captions(scene, random.Random(f"{seed}/{index}")) for scene, index in zip(scenes, indices, strict=True)],
    )


def draw_pictures(count: int, seed: int, processes: int) -> Pictures:
    """`count` training scenes, drawn by several processes; the same for any number of them."""
    chunks = [range(start, min(count, start + 500)) for start in range(0, count, 500)]
    with ProcessPoolExecutor(processes) as pool:
        parts = list(pool.map(partial(_draw_some, seed), chunks))
    return Pictures(
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.targets for part in parts]),
        [text for part in parts for text in part.captions],
    )


def caption_tokenizer(texts: list[str]) -> Tokenizer:
    """A word-level tokenizer for the text tower, which is not shipped."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(
        (text.lower() for text in texts), trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]", "[EOS]"])
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A [EOS]", special_tokens=[("[EOS]", 2)])
    tokenizer.enable_padding()
    return tokenizer


class MiniCLIP(nn.Module):
    """The vision tower with what it is trained against: a text tower and two heads."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        width = vision_config().hidden_size
        self.vision = CLIPVisionModel(vision_config())
        self.vision.set_attn_implementation("eager")  # in bf16 twice as fast as SDPA's CPU kernel
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=1,
                num_attention_heads=4, max_position_embeddings=64, pad_token_id=0, bos_token_id=2, eos_token_id=2,
            )
        )  # fmt: skip
        self.patch_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.image_head = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.tensor([2.5, 2.5]))

    def embed(self, tokenizer: Tokenizer, texts: list[str]) -> Tensor:
        """Texts as unit vectors (N, D)."""
        encoded = tokenizer.encode_batch([text.lower() for text in texts])
        ids = torch.tensor([one.ids for one in encoded])
        mask = torch.tensor([one.attention_mask for one in encoded])
        return F.normalize(self.text(input_ids=ids, attention_mask=mask).pooler_output, dim=-1)

    def losses(self, pixels: Tensor, targets: Tensor, texts: Tensor, phrase: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The caption loss, the patch loss, and the share of object patches told right.

        pixels (B, 3, 112, 112); targets (B, 64); texts (B, D); phrase (P, D).
        """
        output = self.vision(pixels, output_hidden_states=True)
        scale = self.scale.exp().clamp(max=100)
        image = F.normalize(self.image_head(output.pooler_output), dim=-1)
        logits = scale[0] * image @ texts.T  # (B, B)
        own = torch.arange(len(logits))
        caption_loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

        patches = F.normalize(self.patch_head(output.hidden_states[FEATURE_LAYER][:, 1:]), dim=-1)
        logits = (scale[1] * patches @ phrase.T).flatten(0, 1)  # (B * 64, P)
        target = targets.flatten()
        loss = F.cross_entropy(logits, target, reduction="none")
        is_object = target < 3 * len(categories())
        patch_loss = loss[is_object].mean() + loss[~is_object].mean()
        right = logits[is_object].argmax(-1) // 3 == target[is_object] // 3
        return caption_loss, patch_loss, right.float().mean()


def _batches(pictures: Pictures, size: int, steps: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    order = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        if len(order) < size:
            order = rng.permutation(len(pictures.pixels))
        yield order[:size]
        order = order[size:]


def normalize(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W, 3) as the image processor gives it: float (B, 3, H, W), mean and deviation 0.5."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def train_vision(out: Path, *, seed: int, count: int, steps: int, batch: int = 64, lr: float = 2e-3) -> None:
    """Train on `count` scenes and save the vision tower and its image processor (in half precision) to `out`."""
    torch.manual_seed(seed)
    pictures = draw_pictures(count, seed, processes=os.cpu_count() or 1)
    all_phrases = phrases()
    tokenizer = caption_tokenizer([*all_phrases, *(text for texts in pictures.captions for text in texts)])
    model = MiniCLIP(tokenizer.get_vocab_size())
    optimizer = MuonWithAdam(model, lr=lr, steps=steps)
    rng = np.random.default_rng(seed)
    for step, chosen in enumerate(_batches(pictures, batch, steps, rng), 1):
        targets = torch.from_numpy(pictures.targets[chosen]).long()
        with torch.autocast("cpu", torch.bfloat16):
            texts = model.embed(tokenizer, [pictures.captions[i][int(rng.integers(5))] for i in chosen])
            phrase = model.embed(tokenizer, all_phrases)
            caption_loss, patch_loss, right = model.losses(normalize(pictures.pixels[chosen]), targets, texts, phrase)
        (0.3 * caption_loss + patch_loss).backward()
        optimizer.step()
        if step % 50 == 0 or step == steps:
            print(
                f"vision {step}/{steps}  caption {caption_loss.item():.3f}  patch {patch_loss.item():.3f}  "
                f"categories right {right.item():.3f}",
                flush=True,
            )
    save_vision(model.vision, out)


def save_vision(vision: CLIPVisionModel, out: Path) -> None:
    """The tower and its image processor in the layout of transformers, weights in half precision."""
    half: Any = vision.half()
    half.save_pretrained(out)
    CLIPImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, crop_size={"height": SIDE, "width": SIDE}, do_center_crop=False,
        image_mean=list(MEAN), image_std=list(STD),
    ).save_pretrained(out)  # fmt: skip

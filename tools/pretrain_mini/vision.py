"""The miniature vision tower: a CLIP trained on whole pictures and single patches of training scenes.

Contrastive losses: picture against caption (CLIP, Radford et al. 2021), and, on the layer that a projector
will read, patch against phrase (as in RegionCLIP, Zhong et al. 2022): the patch under an object's centre
against "a small dog", every other patch against its background's colour, and each against its row and column.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
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

from tools.pretrain_mini.optim import MuonWithAdam
from vistune.demo.dataset import captions, draw
from vistune.demo.scenes import BACKGROUNDS, Scene, categories, sample_scene
from vistune.records import Box
from vistune.scene.english import number

SIDE, PATCH, GRID = 112, 14, 8
MEAN = STD = (0.5, 0.5, 0.5)
FEATURE_LAYER = -2
BLEND = 0.1
"""Distance to a patch's border, in patches, below which a centre belongs partly to the next patch."""
SIZES = ("small", "", "large")


def vision_config() -> CLIPVisionConfig:
    """1.1 million parameters: 64 patches of a 112-pixel picture, five layers of width 128."""
    known: Any = {"trained_on": "Emoji-COCO"}  # so that a model with it notes other images
    return CLIPVisionConfig(
        hidden_size=128, intermediate_size=512, num_hidden_layers=5, num_attention_heads=4,
        image_size=SIDE, patch_size=PATCH, projection_dim=128, **known,
    )  # fmt: skip


def center_cell(box: Box) -> int:
    """The patch (0 to 63, row by row) under the box's centre."""
    x, y = box.center
    return int(y * GRID) * GRID + int(x * GRID)


def center_cells(box: Box) -> dict[int, float]:
    """The patches (0 to 63, row by row) under the box's centre, with the share of each; the shares add up to one.

    All but centres near a border are in one patch. Without the blending, which patch shows an object would often
    hang on a pixel or two.
    """
    columns, rows = (_shares(value * GRID) for value in box.center)
    return {row * GRID + column: a * b for row, a in rows.items() for column, b in columns.items()}


def _shares(value: float) -> dict[int, float]:
    """How much of a point counts as in each interval of length one."""
    whole = int(value)
    inside = {i: min(value - i, i + 1 - value) for i in range(whole - 1, whole + 2)}  # negative outside
    shares = {i: min(1.0, 0.5 + depth / (2 * BLEND)) for i, depth in inside.items()}
    return {i: share for i, share in shares.items() if share > 0 and 0 <= i < GRID}


def size_word(box: Box) -> str:
    """One of `SIZES`, by the share of the picture that the box covers."""
    return SIZES[0] if box.area < 0.05 else SIZES[1] if box.area < 0.1 else SIZES[2]


def phrases() -> list[str]:
    """What a patch may show: every category in three sizes, then every background."""
    things = [" ".join(f"a {size} {name}".split()) for name in categories() for size in SIZES]
    return things + [f"{color} background" for color in BACKGROUNDS]


def places() -> list[str]:
    """The rows and the columns of patches, in words."""
    return [f"{line} {number(i + 1)}" for line in ("row", "column") for i in range(GRID)]


def row_colors(scene: Scene) -> list[str]:
    """The background's color in each row of patches, by name."""
    ground = scene.background
    return [ground.colors[0] if (row + 0.5) / GRID < ground.split else ground.colors[-1] for row in range(GRID)]


@dataclass(frozen=True, slots=True)
class Targets:
    """What patches show, (N, 64) each: indices into `phrases()`, and the share of the patch that the object has."""

    thing: NDArray[np.int64]
    ground: NDArray[np.int64]
    share: NDArray[np.float32]


def patch_targets(scene: Scene) -> Targets:
    """The targets (64) of one scene; where there is no thing its index is the background's and its share zero."""
    names, colors = list(categories()), list(BACKGROUNDS)
    rows = [3 * len(names) + colors.index(color) for color in row_colors(scene)]
    ground = np.repeat(np.array(rows, dtype=np.int64), GRID)
    thing, share = ground.copy(), np.zeros(GRID * GRID, dtype=np.float32)
    for box in scene.boxes:
        for cell, part in center_cells(box).items():
            thing[cell] = 3 * names.index(box.category) + SIZES.index(size_word(box))
            share[cell] = part
    return Targets(thing, ground, share)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Drawn training scenes: pixels (N, 112, 112, 3) uint8, the patches' targets, five captions each."""

    pixels: NDArray[np.uint8]
    targets: Targets
    captions: list[tuple[str, ...]]


def _draw_some(seed: int, indices: range) -> Pictures:
    scenes = [sample_scene("train", seed, index) for index in indices]
    return Pictures(
        np.stack([np.asarray(draw(scene, SIDE)) for scene in scenes]),
        _join(np.stack, [patch_targets(scene) for scene in scenes]),
        [captions(scene, random.Random(f"{seed}/{index}")) for scene, index in zip(scenes, indices, strict=True)],
    )


def _join(way: Callable[[list[Any]], Any], parts: list[Targets]) -> Targets:
    return Targets(*(way([getattr(part, field.name) for part in parts]) for field in fields(Targets)))


def draw_pictures(count: int, seed: int, processes: int) -> Pictures:
    """`count` training scenes, drawn by several processes; the same for any number of them."""
    chunks = [range(start, min(count, start + 500)) for start in range(0, count, 500)]
    with ProcessPoolExecutor(processes) as pool:
        parts = list(pool.map(partial(_draw_some, seed), chunks))
    return Pictures(
        np.concatenate([part.pixels for part in parts]),
        _join(np.concatenate, [part.targets for part in parts]),
        [text for part in parts for text in part.captions],
    )


def caption_tokenizer(texts: list[str]) -> Tokenizer:
    """A word-level tokenizer for the text tower, which is not shipped."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(
        (text.lower() for text in texts), trainers.WordLevelTrainer(special_tokens=["[PAD]", "[EOS]", "[UNK]"])
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A [EOS]", special_tokens=[("[EOS]", 1)])
    tokenizer.enable_padding()
    return tokenizer


class MiniCLIP(nn.Module):
    """The vision tower, with the text tower and the heads that it is trained against."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        width = vision_config().hidden_size
        self.vision = CLIPVisionModel(vision_config())
        self.vision.set_attn_implementation("eager")  # in bf16 twice as fast as SDPA's CPU kernel
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=1,
                num_attention_heads=4, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=1,
            )
        )  # fmt: skip
        self.patch_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.place_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.image_head = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.tensor([2.5, 2.5, 2.5]))

    def embed(self, tokenizer: Tokenizer, texts: list[str]) -> Tensor:
        """Texts as unit vectors (N, D)."""
        encoded = tokenizer.encode_batch([text.lower() for text in texts])
        ids = torch.tensor([one.ids for one in encoded])
        mask = torch.tensor([one.attention_mask for one in encoded])
        return F.normalize(self.text(input_ids=ids, attention_mask=mask).pooler_output, dim=-1)

    def caption_loss(self, output: Any, texts: Tensor) -> Tensor:
        """CLIP's loss of pictures against their captions; texts (B, D)."""
        image = F.normalize(self.image_head(output.pooler_output), dim=-1)
        logits = self.scale[0].exp().clamp(max=100) * image @ texts.T  # (B, B)
        own = torch.arange(len(logits))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    def patch_loss(self, output: Any, phrase: Tensor, targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The loss of patches against phrases, per object, and for each patch whether its phrase is predicted.

        phrase (P, D); targets (B, 64) each, as in `Targets`.
        """
        patches = F.normalize(self.patch_head(output.hidden_states[FEATURE_LAYER][:, 1:]), dim=-1)
        logits = self.scale[1].exp().clamp(max=100) * patches @ phrase.T  # (B, 64, P)
        surprise = -logits.log_softmax(-1)
        thing, ground = (surprise.gather(-1, targets[name][..., None])[..., 0] for name in ("thing", "ground"))
        share = targets["share"]
        loss = (share * thing + (1 - share) * ground).sum() / share.sum()
        return loss, logits.argmax(-1) == torch.where(share > 0.5, targets["thing"], targets["ground"])

    def place_loss(self, output: Any, place: Tensor) -> Tensor:
        """The loss of patches against their row and their column; place (16, D)."""
        patches = F.normalize(self.place_head(output.hidden_states[FEATURE_LAYER][:, 1:]), dim=-1)
        logits = self.scale[2].exp().clamp(max=100) * patches @ place.T  # (B, 64, 16)
        cells = torch.arange(GRID * GRID).repeat(len(logits))
        rows, columns = logits.flatten(0, 1).split(GRID, dim=-1)
        return F.cross_entropy(rows, cells // GRID) + F.cross_entropy(columns, cells % GRID)


def batches(pictures: Pictures, size: int, steps: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """The indices (`size`) of the scenes of each step: all in random order, then again."""
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
    texts_of_patches = [*phrases(), *places()]
    tokenizer = caption_tokenizer([*texts_of_patches, *(text for texts in pictures.captions for text in texts)])
    model = MiniCLIP(tokenizer.get_vocab_size())
    optimizer = MuonWithAdam(model, lr=lr, steps=steps)
    rng = np.random.default_rng(seed)
    names = [field.name for field in fields(Targets)]
    for step, chosen in enumerate(batches(pictures, batch, steps, rng), 1):
        targets = {name: torch.from_numpy(getattr(pictures.targets, name)[chosen]) for name in names}
        with torch.autocast("cpu", torch.bfloat16):
            texts = model.embed(tokenizer, [pictures.captions[i][int(rng.integers(5))] for i in chosen])
            phrase, place = model.embed(tokenizer, texts_of_patches).split([len(phrases()), 2 * GRID])
            output = model.vision(normalize(pictures.pixels[chosen]), output_hidden_states=True)
            caption_loss = model.caption_loss(output, texts)
            patch_loss, right = model.patch_loss(output, phrase, targets)
            place_loss = model.place_loss(output, place)
        (0.3 * caption_loss + patch_loss + 0.2 * place_loss).backward()
        optimizer.step()
        if step % 50 == 0 or step == steps:
            things = targets["share"] > 0.5
            print(
                f"vision {step}/{steps}  caption {caption_loss.item():.3f}  patch {patch_loss.item():.3f}  "
                f"place {place_loss.item():.3f}  patches right: things {right[things].float().mean().item():.3f}  "
                f"backgrounds {right[~things].float().mean().item():.4f}",
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

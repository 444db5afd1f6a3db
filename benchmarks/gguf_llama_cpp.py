"""Exported GGUF files in llama.cpp: the embeddings of images and the greedy tokens, against transformers.

    python benchmarks/gguf_llama_cpp.py --python ENVIRONMENT/bin/python [--languages MODEL ...] [CHECKPOINT ...]

ENVIRONMENT has llama-cpp-python, built from PyPI's source with tools/mtmd. Without checkpoints, random CLIP and SigLIP
towers are joined with the language models, or with small random ones: Llama, Qwen3 and Gemma 3. Images are drawn: 20
squares of the tower's size, 20 of 640 x 480 or 480 x 640, and 20 others; --images DIR cuts them out of a folder's. The
others are also sent to llama.cpp as squares, padded before. The table has, for each dtype, the lowest cosine of an
image's embeddings, and how many of the answers' first 32 greedy tokens are all equal. Answers are those of the chat
template in the file (MTMDChatHandler's way). --clip-padding gives checkpoints that stretch images, as the demo's,
CLIP's padding: the mean and deviation of pixels go into the weights of their CLIP tower.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageOps

from vistune.cli import main as vistune
from vistune.data.chat_template import checkpoint_template
from vistune.data.encode import PromptEncoder
from vistune.data.images import ImageInput, to_pixels
from vistune.image_files import to_rgb
from vistune.model.adapter_checkpoint import open_checkpoint
from vistune.model.assemble import assemble
from vistune.model.checkpoint import save_checkpoint
from vistune.model.decode import PromptIds, greedy
from vistune.model.vision import image_embeddings, image_grid, see, vision_features
from vistune.recipe.training import ModelRecipe
from vistune.records import IMAGE_TOKEN, Turn

QUESTION = "what is in this picture?"
TOKENS = 32
SIDE = 112
"""Edge of the random towers' images in pixels."""
SHAPES = "square", "4:3", "other"
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
PEER = Path(__file__).with_name("peer_llama_cpp.py")
ROPE = {"sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "default", "rope_theta": 1e6}}  # fmt: skip
LANGUAGE: dict[str, dict[str, Any]] = {
    "llama": {}, "qwen3": {},
    "gemma3_text": {"head_dim": 256, "num_hidden_layers": 6, "sliding_window": 512, "rope_parameters": ROPE},
}  # fmt: skip


def make_checkpoints(folder: Path, languages: list[Path]) -> Iterator[Path]:
    """Assistants of the language models with random towers; their image embeddings are as large as those of words."""
    for language in languages:
        for tower in ("clip", "siglip"):
            _save_tower(tower, folder / tower)
            recipe = ModelRecipe(
                vision_tower=str(folder / tower), language_model=str(language), projector="mlp2x_gelu",
                chat_template=None if "random" in language.name else "chatml",
            )  # fmt: skip
            model, processor = assemble(recipe)
            with torch.no_grad():
                words = model.get_input_embeddings()(torch.arange(100, 200)).std()
                pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
                embeddings = image_embeddings(model, vision_features(model, pixels))
                model.model.multi_modal_projector.linear_2.weight *= words / embeddings.std()
            save_checkpoint(model, processor, folder / f"{tower}-{language.stem}")
            yield folder / f"{tower}-{language.stem}"


def random_languages(folder: Path) -> list[Path]:
    """Small random language models, with the miniature's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from vistune.model.backbones import resolve

    tokenizer = AutoTokenizer.from_pretrained(resolve("mini", "language"))
    for family, changes in LANGUAGE.items():
        settings: dict[str, Any] = {
            "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
            "head_dim": 32, "num_key_value_heads": 2, "initializer_range": 0.1, "vocab_size": len(tokenizer), **changes,
        }  # fmt: skip
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **settings)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / f"random-{family}")
        tokenizer.save_pretrained(folder / f"random-{family}")
    return [folder / f"random-{family}" for family in LANGUAGE]


def _save_tower(kind: str, folder: Path) -> None:
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        CLIPVisionModel,
        SiglipImageProcessorPil,
        SiglipVisionConfig,
        SiglipVisionModel,
    )  # fmt: skip

    size: dict[str, Any] = {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2,
        "image_size": SIDE, "patch_size": 14, "initializer_range": 0.1,
    }  # fmt: skip
    torch.manual_seed(0)
    if kind == "clip":
        CLIPVisionModel(CLIPVisionConfig(**size)).save_pretrained(folder)
        square = {"height": SIDE, "width": SIDE}
        CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=square).save_pretrained(folder)
    else:
        SiglipVisionModel(SiglipVisionConfig(**size)).save_pretrained(folder)
        SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}, resample=3).save_pretrained(folder)


def draw(folder: Path, side: int) -> dict[str, list[Path]]:
    """20 images of each shape: the tower's square, 4:3, and any; of coloured rectangles and circles."""
    rng = random.Random(0)
    images: dict[str, list[Path]] = {}
    for kind in SHAPES:
        images[kind] = []
        for number in range(20):
            size = _size(kind, number, side, rng)
            image = Image.new("RGB", size, _color(rng))
            pen = ImageDraw.Draw(image)
            for _ in range(6):
                x, y, w, h = (rng.randint(0, size[n % 2]) for n in range(4))
                shape = rng.choice((pen.rectangle, pen.ellipse))
                shape((x, y, x + w // 2, y + h // 2), fill=_color(rng))
            images[kind].append(folder / f"{kind.replace(':', '-')}{number}.png")
            image.save(images[kind][-1])
    return images


def cut(photos: Path, folder: Path, side: int) -> dict[str, list[Path]]:
    """As `draw`, from the middle of a folder's first 60 images."""
    rng = random.Random(0)
    images: dict[str, list[Path]] = {kind: [] for kind in SHAPES}
    for number, path in enumerate(sorted(photos.iterdir())[: 20 * len(SHAPES)]):
        kind = SHAPES[number % len(SHAPES)]
        image = Image.open(path).convert("RGB")
        image = ImageOps.fit(image, _size(kind, number, side, rng), Image.Resampling.BICUBIC)
        images[kind].append(folder / f"{path.stem}.png")
        image.save(images[kind][-1])
    return images


def _size(kind: str, number: int, side: int, rng: random.Random) -> tuple[int, int]:
    if kind == "square":
        return side, side
    return ((640, 480), (480, 640))[number % 2] if kind == "4:3" else (rng.randint(150, 400), rng.randint(150, 400))


def padded(paths: list[Path], folder: Path, colour: tuple[int, ...]) -> list[Path]:
    """The images as squares, padded as LLaVA's image processor does it."""
    found = []
    for path in paths:
        image = Image.open(path)
        side = max(image.size)
        square = Image.new("RGB", (side, side), colour)
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        found.append(folder / f"padded-{path.name}")
        square.save(found[-1])
    return found


def with_clip_padding(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint with CLIP's mean, deviation and padding; its answers about squares are as before."""
    model, processor = open_checkpoint(checkpoint)
    settings, tower = processor.image_processor, model.model.vision_tower
    embeddings = getattr(tower, "vision_model", tower).embeddings
    kernel = embeddings.patch_embedding.weight  # (D, 3, P, P)
    old_mean, old_std, mean, std = map(torch.tensor, (settings.image_mean, settings.image_std, CLIP_MEAN, CLIP_STD))
    with torch.no_grad():
        offset = kernel.sum((2, 3)) @ ((mean - old_mean) / old_std)
        embeddings.position_embedding.weight[1:] += offset  # the first is the class token's
        kernel *= (std / old_std)[:, None, None]
    settings.image_mean, settings.image_std, settings.do_pad = CLIP_MEAN, CLIP_STD, True
    save_checkpoint(model, processor, folder / f"{checkpoint.name}-padded")
    return folder / f"{checkpoint.name}-padded"


def _color(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def reference(checkpoint: Path, paths: list[Path]) -> list[tuple[torch.Tensor, list[int]]]:
    """Each image's embeddings (I, D) and the answer's greedy tokens, without the end."""
    model, processor = open_checkpoint(checkpoint)
    encoder = PromptEncoder(processor.tokenizer, checkpoint_template(processor))
    tokens = image_grid(model.config).tokens(lambda: (SIDE, SIDE))
    ids = encoder.prompt([Turn("user", f"{IMAGE_TOKEN}\n{QUESTION}")], images=[tokens])
    found = []
    for path in paths:
        pixels = to_pixels(processor.image_processor, to_rgb(Image.open(path)))
        features = see(model, [ImageInput(pixels, tokens)])
        written = [token for [(_, token)] in greedy(model, [PromptIds(ids, (0,))], features, TOKENS)]
        found.append((features[0], [token for token in written if token != processor.tokenizer.eos_token_id]))
    return found


def compare(checkpoint: Path, dtype: str, images: dict[str, list[Path]], python: Path, folder: Path) -> None:
    """Print a row of the table."""
    out = folder / f"{checkpoint.name}-{dtype}"
    vistune(["export", str(checkpoint), "--to", "gguf", "--out", str(out), "--dtype", dtype, "--allow-framing"])
    _, processor = open_checkpoint(checkpoint)
    colour = tuple(int(255 * mean) for mean in processor.image_processor.image_mean)
    sent = images | {"padded": padded(images["other"], folder, colour)}
    expected = {kind: reference(checkpoint, paths) for kind, paths in images.items()}
    cells = []
    for kind, paths in sent.items():
        settings = {"model": str(out / f"model-{dtype}.gguf"), "mmproj": str(out / f"mmproj-{dtype}.gguf"),
                    "images": [str(path) for path in paths], "question": QUESTION, "tokens": TOKENS}  # fmt: skip
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [python, PEER, json.dumps(settings)]
        done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
        rows = json.loads(done.stdout.splitlines()[-1])
        ours = expected["other" if kind == "padded" else kind]
        cosines = [
            float(torch.cosine_similarity(torch.tensor(row["embedding"]).flatten(), features.flatten(), dim=0))
            for row, (features, _) in zip(rows, ours, strict=True)
        ]
        equal = sum(row["tokens"] == tokens for row, (_, tokens) in zip(rows, ours, strict=True))
        cells.append(f"{min(cosines):.5f} | {equal} of {len(paths)}")
    print(f"| {checkpoint.name} | {dtype} | {' | '.join(cells)} |", flush=True)


def run() -> None:
    """The whole table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", nargs="*", type=Path)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", type=Path)
    parser.add_argument("--images", type=Path, help="folder of images to cut, in place of drawn ones")
    parser.add_argument("--clip-padding", action="store_true", help="for checkpoints that stretch images")
    parser.add_argument("--dtypes", nargs="+", default=["f32", "f16", "q8_0"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = [with_clip_padding(one, folder) for one in args.checkpoints] if args.clip_padding else args.checkpoints
        checkpoints = chosen or list(make_checkpoints(folder, args.languages or random_languages(folder)))
        side = json.loads((checkpoints[0] / "config.json").read_text())["vision_config"]["image_size"]
        images = cut(args.images, folder, side) if args.images else draw(folder, side)
        heads = *SHAPES, "other, padded before"
        print("| checkpoint | dtype |" + "".join(f" {head}: lowest cosine | equal answers |" for head in heads))
        print("|---|---" + "|---|---" * len(heads) + "|")
        for checkpoint in checkpoints:
            for dtype in args.dtypes:
                compare(checkpoint, dtype, images, args.python, folder)


if __name__ == "__main__":
    run()

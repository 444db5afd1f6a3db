"""Training throughput against peers: the same weights, conversations, images, batches and precision in one run.

    python benchmarks/train_throughput.py --shape small-lm --stage tune --peers hf --json FILE

The data has LLaVA-Instruct's statistics: about two conversations an image, one to five exchanges each. The peers get
their conversations already tokenised and their images already decoded; ours tokenises by itself. Every
contestant runs in a process of its own, one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@dataclass(frozen=True)
class Shape:
    """The sizes of a vision tower and a language model; images are squares of `side` pixels in patches of 14."""

    side: int
    tower: dict[str, int]
    text: dict[str, int]


SHAPES = {
    # a small LM of 32k words: parameters of its layers 9 M, of the head 13 M, of the tower 14 M
    "small-lm": Shape(
        side=224,
        tower={"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 6},
        text={
            "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6,
            "num_key_value_heads": 2, "vocab_size": 32_768,
        },
    ),
    # 576 image tokens as LLaVA-1.5: parameters of the LM's layers 40 M, of the head 0.7 M, of the tower 1.2 M
    "7b": Shape(
        side=336,
        tower={"hidden_size": 160, "intermediate_size": 640, "num_hidden_layers": 4, "num_attention_heads": 4},
        text={
            "hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 8, "num_attention_heads": 8,
            "num_key_value_heads": 8, "vocab_size": 1_024,
        },
    ),
}  # fmt: skip
TRAINS = {"align": ["projector"], "tune": ["projector", "language"]}
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
    """Images and LLaVA JSON: captions for `align`; for `tune` two conversations an image, one to five exchanges."""
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
            long = stage == "tune" and exchanges == 1  # a detailed description
            turns.append({"from": "gpt", "value": text(80, 120) if long else text(10, 40)})
        rows.append({"id": str(index), "image": name, "conversations": turns})
    (folder / "data.json").write_text(json.dumps(rows))


def run_ours(folder: Path, stage: str, steps: int, batch: int, micro: int) -> dict[str, float]:
    """Our own training of the stage, encoding included."""
    from accelerate import Accelerator

    from vistune.data.dataset import Dataset, open_sources
    from vistune.data.encode import Encoder
    from vistune.model.assemble import image_token_count
    from vistune.model.checkpoint import load_checkpoint
    from vistune.recipe import StageRecipe
    from vistune.train.loop import train_stage

    model, processor = load_checkpoint(folder / "model")
    (conversations,) = open_sources([_data(folder)])
    recipe = StageRecipe(
        name=stage, data=str(folder / "data.json"), images=str(folder), trains=TRAINS[stage],
        epochs=steps * batch / len(conversations), batch_size=batch, micro_batch_size=micro, learning_rate=1e-4,
        warmup_ratio=0, checkpoint_every=10**6, log_every=1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        encoder = Encoder(processor.tokenizer, str(processor.chat_template), image_token_count(model.config))
        dataset = Dataset([conversations], encoder, 2048)
        train_stage(
            model, processor, dataset, recipe, accelerator=Accelerator(cpu=True), bf16=False, seed=0, folder=Path(out)
        )
        seconds = time.perf_counter() - start
        losses = [json.loads(line)["loss"] for line in Path(out, "log.jsonl").read_text().splitlines()]
    return {"seconds": seconds, "first_loss": losses[0], "last_loss": losses[-1]}


def run_hf(folder: Path, stage: str, steps: int, batch: int, micro: int) -> dict[str, float]:
    """transformers' Trainer with a collator that pads; conversations tokenised and images decoded beforehand."""
    import torch
    from transformers import Trainer, TrainingArguments

    model, samples, pixels = _prepared(folder, stage)

    def collate(rows: list[Any]) -> dict[str, Any]:
        from torch.nn.utils.rnn import pad_sequence

        ids = [torch.from_numpy(row.input_ids).long() for row in rows]
        labels = [one.masked_fill(~torch.from_numpy(row.targets), -100) for one, row in zip(ids, rows, strict=True)]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=3),
            "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
            "pixel_values": torch.stack([pixels[name] for row in rows for name in row.images]),
        }

    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out, max_steps=steps, per_device_train_batch_size=micro, gradient_accumulation_steps=batch // micro,
            learning_rate=1e-4, lr_scheduler_type="cosine", logging_steps=1, save_strategy="no", report_to=[],
            remove_unused_columns=False, use_cpu=True, seed=0, weight_decay=0, disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(model=model, args=arguments, train_dataset=samples, data_collator=collate)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {"seconds": seconds, "first_loss": losses[0], "last_loss": losses[-1]}


def _data(folder: Path) -> Any:
    from vistune.recipe import DataRecipe

    return DataRecipe(path=str(folder / "data.json"), images=str(folder))


def _prepared(folder: Path, stage: str) -> tuple[Any, list[Any], dict[str, Any]]:
    from vistune.data.dataset import Dataset, open_sources
    from vistune.data.encode import Encoder
    from vistune.data.images import ImageStore
    from vistune.model.assemble import image_token_count
    from vistune.model.checkpoint import load_checkpoint
    from vistune.train.stages import freeze

    model, processor = load_checkpoint(folder / "model")
    freeze(model, TRAINS[stage])
    encoder = Encoder(processor.tokenizer, str(processor.chat_template), image_token_count(model.config))
    dataset = Dataset(open_sources([_data(folder)]), encoder, 2048)
    samples, store = dataset.preview, ImageStore(dataset.open_image, processor.image_processor)
    return model, samples, {name: store.get(name) for sample in samples for name in sample.images}


CONTESTANTS = {"ours": run_ours, "hf": run_hf}


def contest(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """One contestant in its own process: seconds, losses, and the most memory it took beyond its start."""
    command = [sys.executable, __file__, "--contestant", name, "--folder", str(folder), "--stage", arguments.stage]
    for option in ("steps", "batch_size", "micro_batch_size", "threads"):
        command += [f"--{option.replace('_', '-')}", str(getattr(arguments, option))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Make the model and the data, run every contestant, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small-lm")
    parser.add_argument("--stage", choices=TRAINS, default="tune")
    parser.add_argument("--peers", default="hf", help="comma-separated: hf")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--micro-batch-size", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        import torch

        torch.set_num_threads(arguments.threads)
        sizes = arguments.steps, arguments.batch_size, arguments.micro_batch_size
        figures = CONTESTANTS[arguments.contestant](arguments.folder, arguments.stage, *sizes)
        figures["samples_per_second"] = arguments.steps * arguments.batch_size / figures["seconds"]
        figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(figures))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = SHAPES[arguments.shape]
        make_backbones(shape, folder)
        make_data(shape, arguments.stage, arguments.steps * arguments.batch_size, folder)
        from vistune.model.assemble import assemble
        from vistune.model.checkpoint import save_checkpoint

        parts = str(folder / "vision"), str(folder / "language")
        save_checkpoint(*assemble(*parts, projector="mlp2x_gelu", image_aspect="stretch"), folder / "model")
        results = {one: contest(one, folder, arguments) for one in ("ours", *arguments.peers.split(","))}
    print(f"{arguments.shape}, stage {arguments.stage}, {arguments.threads} threads, fp32")
    print(f"{'':8}{'samples/s':>12}{'ours/peer':>12}{'peak MB':>10}{'first loss':>12}{'last loss':>12}")
    for one, figures in results.items():
        ratio = results["ours"]["samples_per_second"] / figures["samples_per_second"]
        print(
            f"{one:8}{figures['samples_per_second']:12.2f}{ratio:12.2f}{figures['peak_mb']:10.0f}"
            f"{figures['first_loss']:12.4f}{figures['last_loss']:12.4f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()

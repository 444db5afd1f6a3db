"""Evaluation throughput: short answers to several questions about each image, by three ways to run one checkpoint.

    python benchmarks/eval_throughput.py --shape clip-l|7b|tiny --images 8
    python benchmarks/eval_throughput.py --check

`loop` is transformers' `generate` with one question at a time, as lmms-eval's `llava_hf` does it; `batched` is
`generate` with left padding. Both encode an image and run its tokens once for every question; vistune does so once for
an image. Every contestant runs in a process of its own, one after the other, reads the images and encodes the texts.

`--check` compares batched answers to 500 questions, about one image, two or none, with one question at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from training_shapes import SHAPES, Shape, make_backbones

os.environ.setdefault("HF_HUB_OFFLINE", "1")
TOWER = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
LANGUAGE = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49_152, "tie_word_embeddings": True,
}  # fmt: skip
SMALL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
EVAL_SHAPES = {
    # CLIP-L/14 at 336 pixels (304 M weights) and SmolLM2-135M
    "clip-l": Shape(336, TOWER, LANGUAGE),
    "7b": SHAPES["7b"],
    "tiny": Shape(336, SMALL, SMALL | {"num_key_value_heads": 2, "vocab_size": 1024}),
}
"""By name; an image has 576 tokens in each."""
NAMES = {"ours": "vistune", "loop": "`generate`, one at a time", "batched": "`generate`, batches of {batch_size}"}
Question = tuple[list[Path], str]


def make_questions(folder: Path, images: int, questions: int) -> list[Question]:
    """Photos of COCO's usual size in `folder`, and questions of 8 to 16 words about each."""
    from PIL import Image

    rng = random.Random(0)
    made: list[Question] = []
    for index in range(images):
        path = folder / f"{index}.jpg"
        Image.frombytes("RGB", (8, 8), rng.randbytes(192)).resize((640, 480)).save(path)
        made += [([path], _words(rng, 8, 16)) for _ in range(questions)]
    rng.shuffle(made)
    return made


def make_mixed(folder: Path, count: int) -> list[Question]:
    """Questions of 1 to 20 words about one image, two or none."""
    rng = random.Random(1)
    paths = list(dict.fromkeys(path for paths, _ in make_questions(folder, count // 10, 1) for path in paths))
    lists = [[], *([path] for path in paths), *([a, b] for a, b in zip(paths[:4], paths[4:8], strict=True))]
    chosen = [rng.choice(lists) if rng.random() < 0.8 else [] for _ in range(count)]
    return [(paths, _words(rng, 1, 20)) for paths in chosen]


def _words(rng: random.Random, low: int, high: int) -> str:
    return " ".join(f"w{rng.randrange(1_000)}" for _ in range(rng.randint(low, high)))


def run_ours(model: Path, questions: list[Question], tokens: int, _: int) -> Callable[[], list[str]]:
    """Our own engine, in batches of 64 as `vistune eval`."""
    from vistune.model.assistant import Assistant

    assistant = Assistant.load(model, "cpu")
    return lambda: assistant.answer([(list(paths), text) for paths, text in questions], max_new_tokens=tokens)


def run_loop(model: Path, questions: list[Question], tokens: int, _: int) -> Callable[[], list[str]]:
    """`generate`, one question at a time."""
    return run_batched(model, questions, tokens, 1)


def run_batched(model: Path, questions: list[Question], tokens: int, batch_size: int) -> Callable[[], list[str]]:
    """`generate` for batches of similar length with left padding."""
    from PIL import Image
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    plain: Any = LlavaForConditionalGeneration.from_pretrained(model)
    processor: Any = AutoProcessor.from_pretrained(model, backend="pil")

    def generate() -> list[str]:
        answers = dict(pair for batch in batches() for pair in answer(batch))
        return [answers[index] for index in range(len(questions))]

    def batches() -> Iterator[list[int]]:
        order = sorted(range(len(questions)), key=lambda index: (len(questions[index][0]), len(questions[index][1])))
        yield from (order[start : start + batch_size] for start in range(0, len(order), batch_size))

    def answer(batch: list[int]) -> Iterator[tuple[int, str]]:
        images = [Image.open(path).convert("RGB") for index in batch for path in questions[index][0]]
        texts = [
            processor.apply_chat_template(
                [{"role": "user", "content": "<image>\n" * len(questions[index][0]) + questions[index][1]}],
                add_generation_prompt=True,
            )
            for index in batch
        ]
        given = {"images": images} if images else {}
        inputs = processor(text=texts, padding=True, add_special_tokens=False, return_tensors="pt", **given)
        output = plain.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        written = processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        yield from zip(batch, map(str.strip, written), strict=True)

    return generate


CONTESTANTS = {"ours": run_ours, "loop": run_loop, "batched": run_batched}


def contest(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One contestant in this process: wall-clock and CPU seconds for all questions, and the answers."""
    import torch

    torch.set_num_threads(arguments.threads)
    rows = json.loads((folder / "questions.json").read_text())
    questions = [([Path(path) for path in paths], text) for paths, text in rows]
    run = CONTESTANTS[name]
    run(folder / "model", questions[:2], 2, 1)()  # the first forward pass allocates and chooses kernels
    answer = run(folder / "model", questions, arguments.tokens, arguments.batch_size)
    wall, cpu = time.perf_counter(), time.process_time()
    answers = answer()
    return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "answers": answers}


def main() -> None:
    """Make the checkpoint and the questions, run every contestant, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=EVAL_SHAPES)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--questions", type=int, default=6, help="about each image")
    parser.add_argument("--tokens", type=int, default=5, help="length of the answers")
    parser.add_argument("--batch-size", type=int, default=16, help="of the batched peer")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--check", action="store_true", help="compare the answers to 500 questions")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.shape = arguments.shape or ("tiny" if arguments.check else "clip-l")
    if arguments.contestant:
        print(json.dumps(contest(arguments.contestant, arguments.folder, arguments)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(EVAL_SHAPES[arguments.shape], folder)
        asked = arguments.images, arguments.questions
        made = make_mixed(folder, 500) if arguments.check else make_questions(folder, *asked)
        (folder / "questions.json").write_text(json.dumps(made, default=str))
        wanted = ["ours", "loop"] if arguments.check else list(CONTESTANTS)
        results = {one: _in_process(one, folder) for one in wanted}
    if arguments.check:
        check(made, results)
    show(results, len(made), arguments)
    if arguments.json:
        figures = {one: {key: result[key] for key in ("seconds", "cpu")} for one, result in results.items()}
        settings = {key: getattr(arguments, key) for key in ("shape", "images", "questions", "tokens", "threads")}
        arguments.json.write_text(json.dumps({**settings, "results": figures}, indent=2) + "\n", "utf-8")


def make_model(shape: Shape, folder: Path) -> None:
    """An untrained checkpoint in `folder/model`, with weights so large that words and images change the answers."""
    import torch

    from vistune.model.assemble import assemble
    from vistune.model.checkpoint import save_checkpoint
    from vistune.recipe.training import ModelRecipe

    make_backbones(shape, folder)
    parts = {"vision_tower": str(folder / "vision"), "language_model": str(folder / "language")}
    recipe = ModelRecipe(**parts, projector="mlp2x_gelu", image_aspect="stretch")
    model, processor = assemble(recipe)
    with torch.no_grad():
        for weight in (*model.model.multi_modal_projector.parameters(), *model.model.language_model.parameters()):
            weight.mul_(3)
    save_checkpoint(model, processor, folder / "model")


def _in_process(name: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--contestant", name, "--folder", str(folder), *sys.argv[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def check(questions: list[Question], results: dict[str, dict[str, Any]]) -> None:
    """Print how many answers differ, and which."""
    pairs = zip(questions, results["ours"]["answers"], results["loop"]["answers"], strict=True)
    differ = [(len(paths), text, ours, alone) for (paths, text), ours, alone in pairs if ours != alone]
    counts = [sum(len(paths) == count for paths, _ in questions) for count in range(3)]
    kinds = len(set(results["loop"]["answers"]))
    print(f"questions about no image, one, two: {counts[0]}, {counts[1]}, {counts[2]}; {kinds} different answers")
    print(f"{len(differ)} answers differ from those of one question at a time")
    for images, text, ours, alone in differ:
        print(f"  {images} images, {text!r}: {ours!r}, alone {alone!r}")


def show(results: dict[str, dict[str, Any]], questions: int, arguments: argparse.Namespace) -> None:
    """The table, as benchmarks/results/evaluation.md has it."""
    ours = results["ours"]
    lengths = f"answers of {arguments.tokens} tokens, {arguments.threads} threads, fp32"
    print(f"{arguments.shape}, {questions} questions, {lengths}\n")
    print("| | questions/s | vistune / peer | CPU s a question | vistune / peer | answers that differ |")
    print("|---|---|---|---|---|---|")
    for one, figures in results.items():
        name = NAMES[one].format(batch_size=arguments.batch_size)
        ratios = [f"{figures[key] / ours[key]:.2f}" if one != "ours" else "" for key in ("seconds", "cpu")]
        differ = sum(a != b for a, b in zip(figures["answers"], ours["answers"], strict=True))
        print(
            f"| {name} | {questions / figures['seconds']:.2f} | {ratios[0]} | {figures['cpu'] / questions:.3f} "
            f"| {ratios[1]} | {differ if one != 'ours' else ''} |"
        )


if __name__ == "__main__":
    main()

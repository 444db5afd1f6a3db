"""Whether lmms-eval runs our checkpoints unmodified: its answers beside those of `vistune eval`.

    python benchmarks/lmms_eval.py [CHECKPOINT]

Both answer the same 20 questions about five drawn images by greedy decoding in float32. Without CHECKPOINT one is
saved, of the demo's backbones and a random projector.

lmms-eval gets an environment of its own in --env-dir at its first use (1.6 GB), with our versions of torch and
transformers and without torchvision, whose published wheels do not load beside a torch for CPUs; its model `llava_hf`
needs none. The data set is a local file: nothing is downloaded but packages. Every question has an image; what
`llava_hf` does with others is in docs/guides/llava-benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from peer_environments import ROOT, Unavailable, environment, run_python

QUESTIONS = (
    "What is in the image?",
    "Is there a dog in the image?\nAnswer the question using a single word or phrase.",
    "What stands to the left of the apple?\nA. a dog\nB. a chair\n"
    "Answer with the option's letter from the given choices directly.",
    "Describe the image in detail.",
)
TASK = """\
task: drawn_images
dataset_path: json
dataset_kwargs:
  data_files: {{test: {folder}/questions.jsonl}}
  cache_dir: {folder}/cache
test_split: test
output_type: generate_until
doc_to_visual: !function visual.open_image
doc_to_text: "{{{{question}}}}"
doc_to_target: answer
process_results: !function visual.score
generation_kwargs: {{max_new_tokens: {tokens}, temperature: 0, do_sample: false}}
metric_list:
  - {{metric: exact, aggregation: mean, higher_is_better: true}}
"""
VISUAL = """\
from pathlib import Path
from PIL import Image

def open_image(doc):
    return [Image.open(Path(__file__).with_name(doc["image"])).convert("RGB")]

def score(doc, results):
    return {"exact": float(results[0].strip() == doc["answer"])}
"""


def write_task(folder: Path) -> list[dict[str, str]]:
    """Images, questions and lmms-eval's task in `folder`; the questions."""
    from PIL import Image, ImageDraw

    from vistune.evaluate.benchmarks.questions import OwnQuestions

    rng = random.Random(0)
    rows = []
    for number in range(5):
        size = rng.randint(60, 300), rng.randint(60, 300)
        image = Image.new("RGB", size, tuple(rng.choices(range(256), k=3)))
        draw = ImageDraw.Draw(image)
        for _ in range(number + 1):
            left, top = rng.randrange(size[0] - 30), rng.randrange(size[1] - 30)
            draw.ellipse((left, top, left + 30, top + 30), fill=tuple(rng.choices(range(256), k=3)))
        image.save(folder / f"{number}.png")
        rows += [
            {"id": f"{number}/{place}", "image": f"{number}.png", "question": question, "answer": "yes"}
            for place, question in enumerate(QUESTIONS)
        ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(TASK.format(folder=folder, tokens=OwnQuestions.max_new_tokens))
    (folder / "visual.py").write_text(VISUAL)
    return rows


def save_checkpoint(folder: Path) -> None:
    """The demo's backbones and a random projector, as a training would save them."""
    from vistune.model.assemble import assemble
    from vistune.model.checkpoint import save_checkpoint as save
    from vistune.recipe.training import ModelRecipe

    parts = ROOT / "src" / "vistune" / "demo" / "backbones"
    recipe = ModelRecipe(
        vision_tower=str(parts / "vision"), language_model=str(parts / "language"), projector="mlp2x_gelu"
    )
    model, processor = assemble(recipe)
    save(model, processor, folder)


def answer_here(checkpoint: Path, task: Path) -> list[str]:
    """The answers of `vistune eval`, in the questions' order."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "vistune.cli", "eval", str(checkpoint), "--out", out]
        done = subprocess.run(
            [*command, "--questions", str(task / "questions.jsonl")], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stderr)
        return [json.loads(line)["text"] for line in Path(out, "verdicts.jsonl").read_text().splitlines()]


def answer_there(checkpoint: Path, task: Path, python: Path) -> list[str]:
    """lmms-eval's answers, in the questions' order. Raises Unavailable if it fails."""
    with tempfile.TemporaryDirectory() as out:
        arguments = f"pretrained={checkpoint.resolve()},device=cpu,device_map=cpu,dtype=float32"
        command = ["-m", "lmms_eval", "--model", "llava_hf", "--model_args", arguments, "--batch_size", "1"]
        command += ["--tasks", "drawn_images", "--include_path", str(task)]
        # without DEBUG it reports an error and ends as if there were none
        run_python(python, [*command, "--log_samples", "--output_path", out, "--verbosity", "DEBUG"], threads=1)
        [file] = Path(out).rglob("*_samples_*.jsonl")
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        return [row["filtered_resps"].strip() for row in sorted(rows, key=lambda row: row["doc_id"])]


def compare(name: str, checkpoint: Path, task: Path, rows: list[dict[str, str]], python: Path) -> dict[str, Any]:
    """Print the table of a checkpoint; the numbers of equal answers and of distinct ones."""
    ours, theirs = answer_here(checkpoint, task), answer_there(checkpoint, task, python)
    print(f"{name}\n\n| image | question | vistune | lmms-eval | equal |\n|---|---|---|---|---|")
    for row, one, other in zip(rows, ours, theirs, strict=True):
        question = row["question"].splitlines()[0]
        texts = [f"the same ({len(one)} characters)"] if one == other else [other[:60]]
        print("|", " | ".join([row["image"], question, one[:60], *texts, "yes" if one == other else "NO"]), "|")
    equal = sum(one == other for one, other in zip(ours, theirs, strict=True))
    print(f"\n{equal} of {len(rows)} answers are equal; {len({*ours})} distinct\n", flush=True)
    return {"equal": equal, "questions": len(rows), "distinct": len({*ours})}


def main() -> int:
    """Print the tables; 1 if an answer differs, 2 if lmms-eval cannot be installed or run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?", help="folder of a checkpoint (default: saves one)")
    home = Path.home() / ".cache" / "vistune-bench"
    parser.add_argument("--env-dir", type=Path, default=home, help="where the environments of peers are made")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder)
        rows = write_task(task)
        checkpoint = arguments.checkpoint or task / "model"
        if not arguments.checkpoint:
            save_checkpoint(checkpoint)
        try:
            figures = compare(str(checkpoint), checkpoint, task, rows, environment("lmms_eval", arguments.env_dir))
        except Unavailable as error:
            print(f"lmms-eval was not compared: it cannot be installed, or does not run here: {error}", file=sys.stderr)
            return 2
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return int(figures["equal"] < figures["questions"])


if __name__ == "__main__":
    sys.exit(main())

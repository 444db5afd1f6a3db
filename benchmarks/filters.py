"""How much CPU all filters together take for a conversation of five turns, and the look at a caption's aim.

The conversations are put together from the good samples of the labelled defects, each with the annotations of one;
the captions are theirs.

    python benchmarks/filters.py --conversations 2000 --json out.json
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

from vistune.generate.filters import Sample, reasons
from vistune.generate.injection import aims
from vistune.generate.kinds import Prompts
from vistune.records import ImageRecord, Turn
from vistune.scene.context import parse_context

LABELLED = Path(__file__).parent.parent / "tests" / "generate" / "defects" / "development.jsonl"


def conversations(count: int, pairs: int) -> list[Sample]:
    """Samples of `pairs` questions with answers each, drawn by a fixed seed."""
    made = [json.loads(line) for line in LABELLED.read_text("utf-8").splitlines()]
    good = [one for one in made if not one["defect"]]
    rng, kind = random.Random(0), Prompts().load("conversation")
    samples = []
    for _ in range(count):
        drawn = rng.sample(good, pairs)
        turns = tuple(Turn(role, text) for one in drawn for role, text in one["turns"])
        samples.append(Sample(kind, _record(drawn[0]["context"]), turns))
    return samples


def _record(context: str) -> ImageRecord:
    captions, boxes = parse_context(context)
    return ImageRecord("1", Path("1.jpg"), captions=captions, boxes=boxes)


def measure(count: int, turns: int) -> dict[str, float]:
    """Milliseconds of CPU for a conversation and a caption, the best of three rounds, each with new samples."""
    rounds, of_captions = [], []
    for _ in range(3):
        samples = conversations(count, turns)
        start = time.process_time()
        for sample in samples:
            reasons(sample)
        rounds.append((time.process_time() - start) / count * 1000)
        captions = list({caption for sample in samples for caption in sample.record.captions})
        aims.cache_clear()
        start = time.process_time()
        for caption in captions:
            aims(caption)
        of_captions.append((time.process_time() - start) / len(captions) * 1000)
    milliseconds = {"conversation_ms": round(min(rounds), 3), "caption_ms": round(min(of_captions), 3)}
    return {"conversations": count, "turns": turns, **milliseconds}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--conversations", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = measure(args.conversations, args.turns)
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps(result) + "\n", "utf-8")


if __name__ == "__main__":
    main()

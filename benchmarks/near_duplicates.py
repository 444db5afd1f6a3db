"""Time, memory and recall of finding exact and near duplicates among many texts.

The texts are made up: two of three from sentence patterns with a few open places, as rules and small models write,
one of three from words drawn freely, as a large model writes; about 60 words each. Two in a hundred are repeated as
they are, five in a hundred with some words changed. The truth is the Jaccard similarity of each copy to its original.
`--peer` measures `datasketch` or `rensa` on the same texts, if installed.

    python benchmarks/near_duplicates.py --texts 1000000 --json out.json
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import islice, pairwise
from pathlib import Path

from vistune.generate.dedup import THRESHOLD, Deduplicator

EXACT, NEAR = 0.02, 0.05


def vocabulary(rng: random.Random, size: int = 20_000) -> list[str]:
    """Made-up words."""
    parts = [
        "ba",
        "co",
        "di",
        "fu",
        "ga",
        "he",
        "ji",
        "ko",
        "la",
        "mi",
        "no",
        "pe",
        "qua",
        "ri",
        "so",
        "tu",
        "ve",
        "wo",
        "xi",
        "yu",
        "ste",
        "tra",
        "plo",
        "bri",
    ]
    return ["".join(rng.choices(parts, k=rng.randint(1, 4))) for _ in range(size)]


def patterns(rng: random.Random, words: list[str], count: int = 400) -> list[list[str]]:
    """Sentences of 8 to 14 words, about every third a place that is filled anew."""
    return [["{}" if rng.random() < 0.35 else rng.choice(words[:2000]) for _ in range(rng.randint(8, 14))]
            for _ in range(count)]  # fmt: skip


def texts(count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Texts with what they are (`new`, `exact`, `near`) and, for copies, the original."""
    rng = random.Random(seed)
    words = vocabulary(rng)
    sentences, kept = patterns(rng, words), list[str]()
    for _ in range(count):
        draw = rng.random()
        if kept and draw < EXACT:
            original = rng.choice(kept)
            yield original.upper() if rng.random() < 0.5 else original, "exact", original
        elif kept and draw < EXACT + NEAR:
            original = rng.choice(kept)
            yield changed(rng, original, words), "near", original
        else:
            text = patterned(rng, sentences, words) if rng.random() < 2 / 3 else free(rng, words)
            if len(kept) < 50_000:
                kept.append(text)
            elif rng.random() < 0.05:
                kept[rng.randrange(len(kept))] = text
            yield text, "new", ""


def patterned(rng: random.Random, sentences: list[list[str]], words: list[str]) -> str:
    """A few of the sentences with their places filled."""
    chosen = rng.choices(sentences, k=rng.randint(4, 7))
    return " ".join(" ".join(rng.choice(words) if word == "{}" else word for word in one) + "." for one in chosen)


def free(rng: random.Random, words: list[str]) -> str:
    """Words drawn freely, some far more often than others."""
    drawn = [words[int(len(words) * rng.random() ** 3)] for _ in range(rng.randint(40, 80))]
    return " ".join(drawn) + "."


def changed(rng: random.Random, text: str, words: list[str]) -> str:
    """The text with one to four words replaced."""
    some = text.split()
    for place in rng.sample(range(len(some)), rng.randint(1, 4)):
        some[place] = rng.choice(words)
    return " ".join(some)


def similarity(one: str, other: str) -> float:
    """The Jaccard similarity of the pairs of neighbouring words."""
    first, second = ({*pairwise(w)} for w in (re.findall(r"\w+", t.lower()) for t in (one, other)))
    return len(first & second) / len(first | second)


def ours(count: int, seed: int) -> list[bool]:
    """Which texts `Deduplicator` marks."""
    deduplicator, found = Deduplicator(), list[bool]()
    written = (text for text, _, _ in texts(count, seed))
    while block := list(islice(written, 4096)):
        found += map(bool, deduplicator.mark(block))
    return found


def datasketch(count: int, seed: int) -> list[bool]:
    """The same by datasketch's MinHashLSH, which takes what the index returns."""
    peer = import_module("datasketch")
    index, found = peer.MinHashLSH(threshold=THRESHOLD, num_perm=128), list[bool]()
    for number, (text, _, _) in enumerate(texts(count, seed)):
        words = re.findall(r"\w+", text.lower())
        one = peer.MinHash(num_perm=128)
        one.update_batch([f"{a} {b}".encode() for a, b in pairwise(words)])
        found.append(bool(index.query(one)))
        index.insert(number, one)
    return found


def rensa(count: int, seed: int) -> list[bool]:
    """The same by rensa's RMinHashLSH, with estimates compared to the threshold."""
    peer = import_module("rensa")
    index = peer.RMinHashLSH(threshold=THRESHOLD, num_perm=128, num_bands=32)
    signatures, found = [], list[bool]()
    for number, (text, _, _) in enumerate(texts(count, seed)):
        words = re.findall(r"\w+", text.lower())
        one = peer.RMinHash(num_perm=128, seed=1)
        one.update([f"{a} {b}" for a, b in pairwise(words)])
        found.append(any(signatures[other].jaccard(one) >= THRESHOLD for other in index.query(one)))
        signatures.append(one)
        index.insert(number, one)
    return found


def main() -> None:
    """Measure one method and print the figures."""
    methods: dict[str, Callable[[int, int], list[bool]]] = {"vistune": ours, "datasketch": datasketch, "rensa": rensa}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", choices=[name for name in methods if name != "vistune"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    name = arguments.peer or "vistune"
    start = time.perf_counter()
    made = sum(1 for _ in texts(arguments.texts, arguments.seed))
    making, start = time.perf_counter() - start, time.perf_counter()
    found = methods[name](arguments.texts, arguments.seed)
    seconds = time.perf_counter() - start - making
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"method": name, "texts": made, "seconds": round(seconds, 1), "peak_rss_mb": round(peak)}
    figures |= scores(found, arguments.texts, arguments.seed)
    print("\n".join(f"{key:<22}{value}" for key, value in figures.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def scores(found: list[bool], count: int, seed: int) -> dict[str, float]:
    """Recall of exact copies and of near ones (by similarity), and which share of what was found is a copy."""
    hits = {"exact": [0, 0], "near_0.7": [0, 0], "near_0.8": [0, 0]}
    copies = 0
    for hit, (text, kind, original) in zip(found, texts(count, seed), strict=True):
        alike = similarity(text, original) if kind != "new" and len(text.split()) >= 20 else 0.0
        copies += hit and alike >= THRESHOLD
        names = ["exact"] if kind == "exact" else [n for n in ("near_0.7", "near_0.8") if alike >= float(n[-3:])]
        for name in names:
            hits[name][0] += hit
            hits[name][1] += 1
    rates = {f"recall_{name}": round(hit / max(total, 1), 4) for name, (hit, total) in hits.items()}
    return {**rates, "precision": round(copies / max(sum(found), 1), 4)}


if __name__ == "__main__":
    main()

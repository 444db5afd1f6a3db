"""Every command that writes, on a disk that is full after 20 different amounts (needs root: it mounts a tmpfs).

    python benchmarks/full_disk.py

A command on a full disk has to end with 74 and name the file; what was there stays; with more room the same command
has to end with 0 and the same files. Then it runs once more on a disk with its results and no room left: they have to
stay.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from hashlib import sha256
from pathlib import Path

import forked
from robust_sweep import make_base

_ROOM = 400 << 20
COMMANDS = {
    "demo-data": ("demo-data --train 40 --val 0 --test 2 --out DISK/out", "*.json"),
    "generate": ("generate BASE/coco --split train --out DISK/out", "*.json*"),
    "import": ("import BASE/many.jsonl --out DISK/out.json", "out.json"),
    "split": ("split BASE/rows.json --images BASE/coco --test 0.7 --out DISK/out", "*.json"),
    "view": ("view BASE/rows.json --images BASE/coco --out DISK/out/view.html", "view.html"),
    "init": ("init BASE/rows.json --images BASE/coco --out DISK/recipe.yaml", "recipe.yaml"),
    "train": ("train BASE/killed.yaml --out DISK/out", "tune/*.safetensors"),
    "eval": ("eval BASE/ck --data BASE/coco --split train --out DISK/out", "[vs]*.json*"),
    "report": ("report BASE/eval --out DISK/out", "report.html"),
    "rescore": ("rescore BASE/pope.jsonl --as pope --json DISK/out.json", "out.json"),
    "export gguf": ("export BASE/ck --to gguf --allow-framing --out DISK/out", "*.gguf"),
    "export merged": ("export BASE/ck --to merged --out DISK/out", "*.safetensors"),
}  # fmt: skip
"""Each command with its results."""


def main() -> None:
    """Run all commands and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, default=20)
    parser.add_argument("--only", help="commands, as in view,split")
    parser.add_argument("--folder", type=Path, help="folder of the inputs, kept for the next time")
    args = parser.parse_args()
    forked.warm_up()
    found: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = args.folder or Path(folder)
        root.mkdir(exist_ok=True)
        base = root / "base" if (root / "base/ck").exists() else make_base(root)
        more_inputs(base)
        for name in args.only.split(",") if args.only else COMMANDS:
            line = COMMANDS[name][0].replace("BASE", str(base))
            try:
                found[name] = try_out(name, line, COMMANDS[name][1], Path(folder), args.sizes)
            except (AssertionError, subprocess.CalledProcessError) as error:
                print(f"{name}: not run: {error}", flush=True)
    columns = ["sizes", "full", "exit 74", "file named", "kept", "same after", "full again", "results kept", "FAULTS"]
    print(f"\n| command | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, counts in found.items():
        print(f"| {name} | {' | '.join(str(counts[column]) for column in columns)} |")
    sys.exit(any(counts["FAULTS"] for counts in found.values()))


def more_inputs(base: Path) -> None:
    """What the sweep does not need."""
    asked = '{{"image": "coco/images/train_{:06}.jpg", "question": "What is left of {}?", "answer": "A dog"}}\n'
    (base / "many.jsonl").write_text("".join(asked.format(number % 6, number) for number in range(2000)))
    answer = '{"question": "Is it red?", "answer": "yes", "label": "yes", "category": "popular", "image": "red.png"}\n'
    (base / "pope.jsonl").write_text(answer)
    recipe = (base / "recipe.yaml").read_text()
    (base / "killed.yaml").write_text(recipe.replace("epochs: 0.2", "epochs: 0.6, checkpoint_every: 1"))


def try_out(name: str, line: str, results: str, root: Path, sizes: int) -> Counter[str]:
    """Run a command on disks of all sizes."""
    disk, counts = root / "disk", Counter[str]()
    disk.mkdir(exist_ok=True)
    arguments = line.replace("DISK", str(disk)).split()

    def mount(size: int, *options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"]), "x", str(disk)], check=True)

    def run() -> forked.Outcome:
        outcome = forked.run(arguments, root, root / "output.txt", limit=300)
        assert outcome, f"{name} hangs"
        return outcome

    def used() -> int:
        return shutil.disk_usage(disk).used

    def fault(what: str, outcome: forked.Outcome) -> None:
        counts["FAULTS"] += 1
        print(f"{name}: {what}: exit {outcome.code}: {outcome.text[-400:]!r}", flush=True)

    mount(_ROOM)
    try:
        whole = run()
        assert whole.code == 0, whole.text
        wanted, most = digests(disk, results), used()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    for number in range(1, sizes + 1):
        mount(max(16384, most * number // (sizes + 1)))
        try:
            (disk / "mine.txt").write_text("precious")
            if most < 16384:  # pages are all that a disk of memory has: leave none
                (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
            outcome = run()
            counts["sizes"] += 1
            if outcome.code:
                counts["full"] += 1
                named = f"{disk}/" in outcome.text and "fix: " in outcome.text and "Traceback" not in outcome.text
                counts["exit 74"] += outcome.code == 74
                counts["file named"] += named
                if outcome.code != 74 or not named:
                    fault(f"size {number}", outcome)
            counts["kept"] += (disk / "mine.txt").read_text() == "precious"
            mount(_ROOM, "remount")
            (disk / "filler").unlink(missing_ok=True)
            again = run() if outcome.code else outcome
            same = again.code == 0 and digests(disk, results) == wanted
            counts["same after"] += same
            if not same:
                fault(f"again, size {number}", again)
            elif number % 5 == 0:
                mount(used() + 4096 * (number // 5), "remount")
                outcome = run()
                counts["full again"] += 1
                counts["results kept"] += digests(disk, results) == wanted
                if digests(disk, results) != wanted or outcome.code not in (0, 2, 74):
                    fault("over results", outcome)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    print(f"{name}: {dict(counts)}", flush=True)
    return counts


def digests(disk: Path, results: str) -> list[str]:
    """The hashes of the results."""
    folder = disk / "out" if (disk / "out").is_dir() else disk
    return [sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob(results)) if path.name != "run.json"]


if __name__ == "__main__":
    main()

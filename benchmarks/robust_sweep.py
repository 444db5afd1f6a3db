"""Every command with bad and odd input: a thousand commands, each in a process of its own; a table of what was wrong.

    python benchmarks/robust_sweep.py                  # all; 10 minutes on one core
    python benchmarks/robust_sweep.py --only eval --show

A fault is a traceback, a command that runs for more than 30 seconds or holds 1 GB more than the warmed-up interpreter, one
that ends with 0 but has written nothing, one that changes a file that was there, an error without `fix`, and a control
character on the terminal. `--show` prints every command with its exit code and first line.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import forked
from robust_inputs import VALUES, Write, contents

_SECONDS, _BYTES, _NOBODY = 30.0, 1 << 30, 65534
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
FAULTS = ("traceback", "hang", "memory", "silent", "loss", "no fix", "control")


@dataclass(frozen=True, slots=True)
class Trial:
    """A command that reads `bad`, a path below its folder, or has an odd option; `writes` is what it has to write."""

    command: str
    line: str
    bad: str = ""
    writes: str = ""
    given: str = ""


TRIALS = [
    *(Trial("generate", f"generate {{bad}} --out out {more}", f"in.{ending}", "out/report.json") for ending, more in (
        ("json", ""), ("jsonl", ""), ("csv", ""), ("tar", ""), ("parquet", ""), ("xml", ""), ("yaml", "--source yolo"),
        ("txt", "--source karpathy"), ("json", "--source label_studio"), ("json", "--source via"))),
    Trial("generate", "generate in --out out --source coco", "in/instances_train.json", "out/report.json"),
    Trial("generate", "generate in --out out --source voc", "in/Annotations/a.xml", "out/report.json"),
    Trial("generate", "generate in --out out --source caps_boxes --images in", "in/data.jsonl", "out/report.json"),
    Trial("generate", "generate --recipe {bad} --out out", "in.yaml", "out/report.json"),
    Trial("generate", "generate BASE/coco --split train --rename {bad} --out out", "in.csv", "out/report.json"),
    Trial("generate", "generate BASE/coco --split train --kinds a=all --kind-dir in --out out", "in/a/kind.yaml", "out/report.json"),
    Trial("generate", "generate BASE/coco --split train --teacher scripted:{bad} --out out", "in.jsonl", "out/report.json"),
    Trial("generate", "generate BASE/coco --split train --merge in --out out", "in/replies.sqlite", "out/report.json"),
    Trial("generate", "generate BASE/coco --split train --out in", "in/replies.sqlite", "in/report.json"),
    Trial("generate", "generate BASE/coco --split train --out in", "in/run.json", "in/report.json"),
    *(Trial("view", "view {bad} --out page.html", f"in.{ending}", "page.html") for ending in ("json", "jsonl", "parquet")),
    Trial("view", "view in --out page.html", "in/provenance.jsonl", "page.html"),
    Trial("view", "view BASE/rows.json --images in --out page.html", "in/train_000000.jpg", "page.html"),
    *(Trial("import", "import {bad} --out out.json", f"in.{ending}", "out.json") for ending in ("jsonl", "csv", "xlsx")),
    *(Trial("split", "split {bad} --out out", f"in.{ending}", "out/train.json") for ending in ("json", "parquet")),
    Trial("init", "init {bad} --out recipe.yaml", "in.json", "recipe.yaml"),
    Trial("scienceqa", "scienceqa in --out out", "in/problems.json", "out"),
    Trial("train", "train {bad} --out out", "in.yaml", "out/tune"),
    Trial("train", "train BASE/recipe.yaml --set stages.tune.data={bad} --out out", "in.json", "out/tune"),
    Trial("train", "train BASE/recipe.yaml --set stages.tune.data={bad} --out out", "in.parquet", "out/tune"),
    Trial("train", "train BASE/recipe.yaml --set stages.tune.images=in --out out", "in/images/train_000000.jpg", "out/tune"),
    Trial("train", "train BASE/recipe.yaml --out out", "out/recipe.yaml", "out/tune"),
    Trial("plan", "train {bad} --plan", "in.yaml"),
    *(Trial("eval", f"eval BASE/ck --questions {{bad}} --out out {more}", f"in.{ending}", "out/scores.json")
      for ending, more in (("jsonl", ""), ("csv", "--limit 1"), ("json", ""))),
    *(Trial("eval", f"eval BASE/ck --benchmarks {name}={{bad}} --out out --limit 1", f"in.{ending}", "out/scores.json")
      for name, ending in (("pope", "json"), ("vqa", "json"), ("tsv", "tsv"))),
    Trial("eval", "eval BASE/ck --benchmarks llava_bench=in --judge scripted:BASE/none.jsonl --out out", "in/questions.jsonl", "out/x"),
    Trial("eval", "eval BASE/ck --data BASE/coco --split test --limit 1 --out in", "in/answers.jsonl", "in/scores.json"),
    *(Trial("eval", "eval ck --data BASE/coco --split test --limit 1 --out out", f"ck/{name}", "out/scores.json") for name in (
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "processor_config.json", "chat_template.jinja")),
    *(Trial("chat", "chat ck", f"ck/{name}", "", "Hi\n") for name in ("config.json", "generation_config.json", "tokenizer_config.json")),
    Trial("chat", "chat BASE/ck --image {bad} --max-new-tokens 2", "in.jpg", "", "What is it?\n"),
    Trial("serve", "serve ck --port 0", "ck/config.json"),
    *(Trial("rescore", f"rescore {{bad}} --as {kind} --json out.json", "in.jsonl", "out.json") for kind in (
        "reviews", "pope", "mme", "mmbench", "vqa")),
    Trial("rescore", "rescore BASE/rows.json --as vqa --truth {bad} --json out.json", "in.json", "out.json"),
    Trial("rescore", "rescore BASE/rows.json --as scienceqa --problems {bad} --json out.json", "in.json", "out.json"),
    *(Trial("report", "report in --out out", f"in/{name}", "out/report.html") for name in ("scores.json", "verdicts.jsonl")),
    Trial("ablate", "ablate {bad} --out out", "in.yaml", "out/ablation.json"),
    Trial("export", "export ck --to merged --out out", "ck/config.json", "out/config.json"),
    Trial("export", "export BASE/ck --to merged --scores in --out out", "in/scores.json", "out/config.json"),
    *(Trial("merge", "merge in --out out", f"in/{name}", "out/config.json") for name in ("base.json", "adapter_config.json")),
    Trial("recipes", "recipes {bad}", "in.yaml"),
]  # fmt: skip
"""One for each kind of input of each command."""
GOOD = {
    "generate": "generate BASE/coco --split train --limit 1 --out out", "view": "view BASE/rows.json --out page.html",
    "import": "import BASE/asked.jsonl --out out.json", "split": "split BASE/rows.json --images BASE/coco --test 0.4 --out out",
    "scienceqa": "scienceqa BASE --out out", "train": "train BASE/recipe.yaml --out out", "init": "init BASE/rows.json --images BASE/coco --out r.yaml",
    "eval": "eval BASE/ck --data BASE/coco --split test --limit 1 --out out", "rescore": "rescore BASE/rows.json",
    "report": "report BASE/eval --out out", "ablate": "ablate BASE/recipe.yaml --out out", "chat": "chat BASE/ck",
    "export": "export BASE/ck --to merged --out out", "merge": "merge BASE/ck --out out",
    "demo-data": "demo-data --train 1 --val 0 --test 0 --out out",
}  # fmt: skip
"""Commands that each of their options is added to, with odd values."""
_LAST = {"out", "help", "version"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="commands of these names, as in view,split")
    parser.add_argument("--every", type=int, default=1, help="take each n-th command only")
    parser.add_argument("--folder", type=Path, help="folder of the good inputs, kept for the next time")
    parser.add_argument("--show", action="store_true", help="print every command")
    args = parser.parse_args()
    forked.warm_up()
    with tempfile.TemporaryDirectory() as folder:
        root = args.folder or Path(folder)
        root.mkdir(exist_ok=True)
        root.chmod(0o755)
        base = root / "base" if (root / "base/ck").exists() else make_base(root)
        wanted = args.only.split(",") if args.only else GOOD.keys() | {one.command for one in TRIALS}
        writers = contents()
        trials = [(name, trial) for trial in TRIALS for name in writers]
        chosen = [one for one in [*trials, *with_odd_options()] if one[1].command in wanted]
        found: dict[str, Counter[str]] = defaultdict(Counter)
        begun = time.perf_counter()
        for name, trial in chosen[:: args.every]:
            try_out(name, trial, writers, base, root, found, show=args.show)
        print_table(found, time.perf_counter() - begun)
    sys.exit(any(counts[fault] for counts in found.values() for fault in FAULTS))


def with_odd_options() -> Iterator[tuple[str, Trial]]:
    """Every option that takes a value, with each of the odd values in turn."""
    from vistune.cli import build_parser

    for command, parser in build_parser()[1].items():
        for action in parser._actions:
            if command in GOOD and action.option_strings and action.nargs != 0 and action.dest not in _LAST:
                for value in VALUES:
                    yield (
                        f"{action.option_strings[-1]}={value[:12]!r}",
                        Trial(command, GOOD[command], f"\0{action.option_strings[-1]}={value}"),
                    )


def make_base(root: Path) -> Path:
    """Good inputs of every kind: annotations, conversations, a recipe, a checkpoint, an evaluation."""
    base = root / "base"
    base.mkdir()
    (base / "asked.jsonl").write_text(
        '{"image": "coco/images/train_000000.jpg", "question": "What?", "answer": "A dog"}\n'
    )
    (base / "none.jsonl").write_text("")
    for line in (
        "demo-data --train 6 --val 0 --test 2 --out coco", "generate coco --split train --out gen",
        "train recipe.yaml --out run", "eval run/tune --data coco --split test --limit 1 --out eval",
    ):  # fmt: skip
        if line.startswith("train"):
            (base / "recipe.yaml").write_text(_RECIPE.format(base=base))
        outcome = forked.run(line.split(), base, root / "output.txt", limit=600)
        assert outcome, line
        assert outcome.code == 0, outcome.text
    shutil.copy(base / "gen/instruct.json", base / "rows.json")
    shutil.copytree(base / "run/tune", base / "ck", ignore=shutil.ignore_patterns("state", "tensorboard", "log.jsonl"))
    return base


_RECIPE = """\
name: sweep
model: {{vision_tower: mini, language_model: mini, projector: linear, image_aspect: stretch}}
log_to: []
stages:
  - {{name: tune, data: {base}/gen/instruct.json, images: {base}/coco, trains: [projector], epochs: 0.2, batch_size: 2,
     micro_batch_size: 2, learning_rate: 1.0e-3, max_length: 512}}
evaluation: {{data: {base}/coco, split: test, benchmarks: [chair], limit: 1}}
"""


def try_out(
    name: str, trial: Trial, writers: Mapping[str, Write], base: Path, root: Path, found: dict[str, Counter[str]], *,
    show: bool,
) -> None:  # fmt: skip
    """Run a trial in a new folder and count its faults."""
    work = root / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    work.chmod(0o777)
    bad, option = (trial.bad, "") if not trial.bad.startswith("\0") else ("", trial.bad[1:])
    if trial.line.split()[1] == "ck":
        shutil.copytree(base / "ck", work / "ck")
    if bad:
        path = work / bad
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        writers[name](path)
    line = [part.format(bad=bad).replace("BASE", str(base)) for part in trial.line.split()] + (
        [option] if option else []
    )
    before = state(base) | state(work)
    user = _NOBODY if name == "unreadable" else 0
    outcome = forked.run(line, work, root / "output.txt", limit=_SECONDS, given=trial.given, user=user)
    after = state(base) | state(work)
    faults = list(judge(outcome, trial, work)) + ["loss"] * any(
        after.get(path) != was for path, was in before.items() if path.name not in _OWN
    )
    counts = found[trial.command]
    counts["commands"] += 1
    counts[f"exit {outcome.code}" if outcome else "exit"] += 1
    counts["MB"] = max(counts["MB"], outcome.peak >> 20 if outcome else 0)
    counts.update(faults)
    if faults or show:
        text = re.sub(r"\s+", " ", repr(outcome.text[-300:] if outcome else ""))
        shown = " ".join(line)[:150].encode("unicode_escape").decode()
        print(
            f"{','.join(faults) or '-'} | {outcome.code if outcome else 'hang'} | {name} | {trial.bad[:60]!r} | {shown} | {text}",
            flush=True,
        )


_OWN = {"run.json", "replies.sqlite", "answers.jsonl", "recipe.yaml"}
"""Files that a run goes on with, where its folder is the bad input."""


def judge(outcome: forked.Outcome | None, trial: Trial, work: Path) -> Iterator[str]:
    if outcome is None:
        yield "hang"
        return
    if "Traceback" in outcome.text or outcome.code not in (0, 2, 74):
        yield "traceback"
    if outcome.peak > _BYTES:
        yield "memory"
    if outcome.code == 0 and trial.writes and not (work / trial.writes).exists():
        yield "silent"
    if outcome.code == 2 and "fix: " not in outcome.text:
        yield "no fix"
    if _CONTROL.search(outcome.text):
        yield "control"


def state(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Size, time and number of each file."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_symlink() and path.is_file():
            about = path.stat()
            found[path] = about.st_size, about.st_mtime_ns, about.st_ino
    return found


def print_table(found: dict[str, Counter[str]], seconds: float) -> None:
    columns = ["commands", "exit 0", "exit 2", "exit 74", *FAULTS, "MB"]
    print(f"\n| command | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for command, counts in found.items():
        print(f"| {command} | {' | '.join(str(counts[name]) for name in columns)} |")
    total = {name: (max if name == "MB" else sum)(counts[name] for counts in found.values()) for name in columns}
    print(f"| all | {' | '.join(map(str, total.values()))} |\n\n{seconds:.0f} s")


if __name__ == "__main__":
    main()

"""Every command that writes files, with small inputs, for the measurements of full disks and simultaneous runs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import forked
from robust_sweep import make_base

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from scienceqa_set import write_set

_IMAGES, _HELD_OUT = 12, 4
_STAGE = """\
  - {{name: {name}, data: {base}/gen/{data}.json, images: {base}/coco, trains: [{trains}], epochs: {epochs},
     batch_size: 2, micro_batch_size: 2, learning_rate: 1.0e-3, max_length: 512, checkpoint_every: 1{more}}}
"""
_RECIPE = """\
name: {name}
model: {{vision_tower: mini, language_model: mini, projector: linear, image_aspect: stretch}}
log_to: [tensorboard]
evaluation: {{data: {base}/coco, split: test, benchmarks: [chair], limit: 1}}
stages:
"""


@dataclass(frozen=True)
class Command:
    """A command that writes into the folder WORK, and the files that it ends with."""

    line: str
    results: tuple[str, ...]
    given: str = ""
    """What it reads from the terminal."""
    call: Callable[[Path], object] | None = None
    """A function that is called with WORK in place of a command: for a smaller demo than the command's."""

    def arguments(self, base: Path, work: Path) -> forked.Arguments:
        """What `forked` starts."""
        if self.call is not None:
            call = self.call
            return lambda: call(work)
        return self.line.replace("BASE", str(base)).replace("WORK", str(work)).split()

    def typed(self, work: Path) -> str:
        """What is typed into the terminal."""
        return self.given.replace("WORK", str(work))

    def digests(self, work: Path) -> dict[str, str]:
        """The hash of each result."""
        files = [path for pattern in self.results for path in work.glob(pattern) if path.is_file()]
        return {str(path.relative_to(work)): sha256(path.read_bytes()).hexdigest() for path in files}


def _demo(work: Path) -> None:
    from vistune.demo.run import run_demo

    run_demo(work / "out", 0, images=_IMAGES, held_out=_HELD_OUT)


def _vote(work: Path) -> None:
    """Votes of users of `serve`, until there are 200, and what they are on."""
    from vistune.serve.web.messages import answer_message, user_messages
    from vistune.serve.web.votes import Votes
    from vistune.storage import atomic_text

    path = work / "votes.jsonl"
    votes = Votes(path, ["model"])
    for number in range(len(path.read_text().splitlines()), 200):
        votes.rate([*user_messages(f"What is {number}?", []), answer_message("A dog.")], 1, "up")
    with atomic_text(work / "messages.json") as file:
        json.dump([json.loads(line)["messages"] for line in path.read_text().splitlines()], file)


COMMANDS = {
    "import": Command("import BASE/many.jsonl --out WORK/out.json", ("out.json",)),
    "split": Command("split BASE/rows.json --images BASE/coco --test 0.7 --out WORK/out", ("out/*.json",)),
    "scienceqa": Command("scienceqa BASE/sqa --out WORK/out", ("out/*.json",)),
    "view": Command("view BASE/rows.json --images BASE/coco --out WORK/view.html", ("view.html",)),
    "init": Command("init BASE/rows.json --images BASE/coco --out WORK/recipe.yaml", ("recipe.yaml",)),
    "report": Command("report BASE/eval --out WORK/out", ("out/report.html", "out/report_images/*")),
    "rescore": Command("rescore BASE/pope.jsonl --as pope --json WORK/out.json", ("out.json",)),
    "demo-data": Command("demo-data --train 40 --val 0 --test 2 --out WORK/out", ("out/*.json", "out/images/*")),
    "generate": Command("generate BASE/coco --split train --out WORK/out", ("out/instruct.json", "out/align.json")),
    "train": Command("train BASE/one.yaml --out WORK/out", ("out/*/*.safetensors", "out/*/config.json")),
    "eval": Command(
        "eval BASE/ck --data BASE/coco --split train --out WORK/out", ("out/verdicts.jsonl", "out/scores.json")
    ),
    "merge": Command("merge BASE/adapters/tune --out WORK/out", ("out/*.safetensors", "out/*.json")),
    "export merged": Command("export BASE/ck --to merged --out WORK/out", ("out/*",)),
    "export hub": Command("export BASE/ck --to hub --out WORK/out", ("out/*",)),
    "export gguf": Command("export BASE/ck --to gguf --allow-framing --out WORK/out", ("out/*",)),
    "export ollama": Command("export BASE/ck --to ollama --allow-framing --out WORK/out", ("out/*",)),
    "ablate": Command(
        "ablate BASE/one.yaml --mix all --out WORK/out", ("out/ablation.json", "out/seed0/all/tune/*.safetensors")
    ),
    "demo": Command("", ("out/train/*/*.safetensors", "out/eval/*/verdicts.jsonl"), call=_demo),
    "chat": Command("chat BASE/ck", ("chat.json",), given="Hi\n/save WORK/chat.json\n"),
    "serve": Command("", ("messages.json",), call=_vote),
}
"""Those that take seconds first."""


def make_inputs(root: Path) -> Path:
    """The inputs of all commands, made if `root` has none."""
    root.mkdir(parents=True, exist_ok=True)
    base = root / "base" if (root / "base/ck").exists() else make_base(root)
    if (base / "adapters/tune/base.json").exists():
        return base
    asked = '{{"image": "coco/images/train_{:06}.jpg", "question": "What is left of {}?", "answer": "A dog"}}\n'
    (base / "many.jsonl").write_text("".join(asked.format(number % 6, number) for number in range(2000)))
    answer = '{"question": "Is it red?", "answer": "yes", "label": "yes", "category": "popular", "image": "red.png"}\n'
    (base / "pope.jsonl").write_text(answer)
    shutil.rmtree(base / "sqa", ignore_errors=True)
    write_set(base / "sqa")
    align = {"name": "align", "data": "align", "trains": "projector", "epochs": 1, "more": ", template: plain"}
    tune = {"name": "tune", "data": "instruct", "trains": "projector", "epochs": 0.2, "more": ""}
    lora = {"trains": "projector, lora", "epochs": 0.6, "more": ", lora: {rank: 8, alpha: 16, dropout: 0.1}"}
    apart = tune | lora | {"epochs": 0.1, "more": f"{lora['more']}, save: trained"}
    for name, stages in (("both", [align, tune | lora]), ("one", [tune]), ("apart", [apart])):
        text = _RECIPE.format(name=name, base=base) + "".join(_STAGE.format(base=base, **stage) for stage in stages)
        (base / f"{name}.yaml").write_text(text)
    outcome = forked.run(["train", "apart.yaml", "--out", "adapters"], base, root / "output.txt", limit=600)
    assert outcome, "train hangs"
    assert outcome.code == 0, outcome.text
    return base

"""Benchmarks in their published layouts, from the command line to scores, and their answers scored again."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from assembling import assemble
from vistune.cli import main
from vistune.evaluate.rescore import Truth, rescore
from vistune.evaluate.results import load_scores
from vistune.model.checkpoint import save_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """POPE, VQA, MME and a TSV about two images."""
    images = tmp_path / "images"
    (tmp_path / "mme/count").mkdir(parents=True)
    images.mkdir()
    embedded = []
    for name in ("1.jpg", "2.jpg"):
        file = io.BytesIO()
        Image.effect_noise((30, 20), int(name[0]) * 40).save(file, "JPEG")
        embedded.append(base64.b64encode(file.getvalue()).decode())
        for place in (images, tmp_path / "mme/count"):
            (place / name).write_bytes(file.getvalue())
        (tmp_path / f"mme/count/{name[0]}.txt").write_text("Is it a dog?\tYes\nIs it a cat?\tNo\n")
    pope = [
        {"question_id": n, "image": f"{1 + n // 2}.jpg", "text": f"Is there a {name} in the image?", "label": label}
        for n, (name, label) in enumerate([("dog", "yes"), ("cat", "no")] * 2)
    ]
    (tmp_path / "coco_pope_random.json").write_text("\n".join(map(json.dumps, pope)))
    vqa = [{"question_id": n, "image_id": str(n), "question": "How many?", "answers": ["2"] * 10} for n in (1, 2)]
    (tmp_path / "vqa.json").write_text(json.dumps({"data": vqa}))
    rows = [f"{n}\t{image}\tWhat?\tdog\tcat\tA" for n, image in enumerate(embedded)]
    (tmp_path / "table.tsv").write_text("\n".join(["index\timage\tquestion\tA\tB\tanswer", *rows]))
    return tmp_path


def test_scores_of_a_checkpoint_and_of_its_answers(folder: Path, backbones: Path) -> None:
    checkpoint, out = folder / "model", folder / "out"
    made = assemble(str(backbones / "vision"), str(backbones / "language"), projector="mlp2x_gelu")
    save_checkpoint(*made, checkpoint)
    paths = {"pope": "coco_pope_random.json", "vqa": "vqa.json", "mme": "mme", "tsv": "table.tsv"}
    (folder / "other.tsv").write_text((folder / "table.tsv").read_text().replace("What?", "Which?"))
    named = ",".join([*(f"{name}={folder / path}" for name, path in paths.items()), f"tsv={folder / 'other.tsv'}"])
    options = ["--benchmarks", named, "--images", str(folder / "images"), "--choice", "likelihood", "--out", str(out)]
    assert main(["eval", str(checkpoint), *options]) == 0
    scores = load_scores(out).benchmarks
    assert {name: one.n for name, one in scores.items()} == {
        "pope": 4, "vqa": 2, "mme": 4, "tsv:table": 2, "tsv:other": 2
    }  # fmt: skip
    assert scores["tsv:table"].unscored == 0
    assert len(list((out / "images").iterdir())) == 2
    rows = [json.loads(line) for line in (out / "verdicts.jsonl").read_text().splitlines()]
    answers = folder / "answers.jsonl"
    for kind in ("pope", "vqa"):
        answers.write_text("\n".join(json.dumps(row) for row in rows if row["benchmark"] == kind))
        (table,) = rescore([answers], kind, Truth([folder / paths[kind]]))
        assert table.counts["answered"] == table.counts["of"] == scores[kind].n
        for name, measure in scores[kind].measures.items():
            assert table.cells[name].score == (None if measure.value is None else 100 * measure.value)

"""The guide's example, and a public benchmark that the package does not know, each as one file."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Benchmark, Setting, benchmarks
from vistune.evaluate.benchmarks import __file__ as folder
from vistune.evaluate.results import load_scores
from vistune.evaluate.runner import measure, run_benchmarks, score

GUIDE = Path(__file__).parents[2] / "docs/guides/add-a-benchmark.md"
AMBER = '''\
"""AMBER's discriminative part: yes/no questions about objects, attributes and relations (Wang et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Benchmark, Metric, benchmarks
from vistune.evaluate.benchmarks._helpers import read_yes_no
from vistune.evaluate.benchmarks._metrics import accuracy, expects, f1, only, says
from vistune.formats import read_objects
from vistune.records import Question, Verdict


@benchmarks.register("amber")
class Amber(Benchmark):
    """A hallucination is what is to be found: precision, recall and F1 are those of the answer no."""

    max_new_tokens: int = 16

    def questions(self) -> Iterable[Question]:
        """Those of query/query_discriminative.json; the type is the annotation's."""
        folder = self.setting.file
        images = self.setting.images or folder / "image"
        truth = {row.values["id"]: row.values for row in read_objects(folder / "annotations.json", DataError)}
        for row in read_objects(folder / "query/query_discriminative.json", DataError):
            known = truth.get(row.values["id"])
            if known is None:
                raise DataError("it has no annotation", where=row.where)
            kind = known["type"].removeprefix("discriminative-")
            yield Question(
                str(row.values["id"]), row.values["query"], (images / row.values["image"],), kind, (known["truth"],)
            )

    def score(self, question: Question, answer: str) -> Verdict:
        """Right if it is the truth."""
        read, how = read_yes_no(answer, question.text)
        return Verdict(None if read is None else float(read == question.references[0]), read or "", how)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Accuracy, and precision, recall and F1 of no."""
        return {
            "accuracy": accuracy,
            "precision": only(accuracy, says("no")),
            "recall": only(accuracy, expects("no")),
            "f1": f1("no"),
        }
'''


def added(path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Benchmark]:
    """The benchmark of a file, registered for this test."""
    assert len(path.read_text().splitlines()) <= 60
    monkeypatch.setattr(benchmarks, "_entries", dict(benchmarks._entries))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    entry = benchmarks.get(path.stem)
    assert isinstance(entry, type)
    return entry


def test_the_guides_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert example is not None
    file = tmp_path / "colors.py"
    file.write_text(example[1])
    colors = added(file, monkeypatch)
    row = {"id": 7, "file": "7.jpg", "ask": "Is the car red?", "topic": "cars"}
    (tmp_path / "questions.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(row | {'id': 8})}")
    (tmp_path / "truth.json").write_text(json.dumps([{"id": 7, "truth": "yes"}, {"id": 8, "truth": "yes"}]))
    benchmark = colors(Setting(tmp_path))
    scored = score(benchmark, list(benchmark.questions()), ["Yes.", "no"])
    assert measure(benchmark, scored).measures["accuracy"].value == 0.5
    (tmp_path / "truth.json").write_text("[]")
    with pytest.raises(DataError, match="line 1: it has no answer"):
        list(benchmark.questions())


def test_the_guide_names_what_exists() -> None:
    text = GUIDE.read_text("utf-8")
    for module, names in re.findall(r"`(_\w+)\.(\w+)`", text):
        assert names in (Path(folder).parent / f"{module}.py").read_text()


def test_a_benchmark_that_the_package_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: type
) -> None:
    file = tmp_path / "amber.py"
    file.write_text(AMBER)
    amber = added(file, monkeypatch)
    (tmp_path / "query").mkdir()
    (tmp_path / "image").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "image" / name).write_bytes(name.encode())
    queries = [
        {"id": 1005, "image": "1.jpg", "query": "Is the sky sunny in this image?"},
        {"id": 1006, "image": "1.jpg", "query": "Is the sky gloomy in this image?"},
        {"id": 1007, "image": "2.jpg", "query": "Is there a dog in this image?"},
    ]
    annotations = [
        {"id": 1, "type": "generative", "truth": ["sky"], "hallu": ["dog"]},
        {"id": 1005, "type": "discriminative-attribute-state", "truth": "yes"},
        {"id": 1006, "type": "discriminative-attribute-state", "truth": "no"},
        {"id": 1007, "type": "discriminative-hallucination", "truth": "no"},
    ]
    (tmp_path / "query/query_discriminative.json").write_text(json.dumps(queries, indent=4))
    (tmp_path / "annotations.json").write_text(json.dumps(annotations, indent=4))
    model = says(lambda _, text: "No" if "gloomy" in text else "Yes")
    scores = run_benchmarks(model, {"amber": amber(Setting(tmp_path))}, tmp_path / "out")
    assert load_scores(tmp_path / "out") == scores
    assert {name: one.value for name, one in scores.benchmarks["amber"].measures.items()} == {
        "accuracy": pytest.approx(2 / 3), "accuracy/attribute-state": 1, "accuracy/hallucination": 0,
        "precision": 1, "recall": 0.5, "f1": pytest.approx(2 / 3),
    }  # fmt: skip

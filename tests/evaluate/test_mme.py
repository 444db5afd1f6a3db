from __future__ import annotations

from pathlib import Path

import pytest

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Setting
from vistune.evaluate.benchmarks.mme import Mme, read_start
from vistune.evaluate.runner import measure, score

QUESTIONS = "Is it a dog? Please answer yes or no.\tYes\nIs it a cat? Please answer yes or no.\tNo\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of `count`, texts beside them; one of `scene` with folders; the tool's own texts, without images."""
    for name in ("count/1", "count/2", "scene/images/1", "eval_tool/Your_Results/count"):
        path = tmp_path / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if "eval_tool" not in name:
            path.touch()
        if "images" not in name:
            path.with_suffix(".txt").write_text(QUESTIONS)
    texts = tmp_path / "scene/questions_answers_YN"
    texts.mkdir()
    (texts / "1.txt").write_text(QUESTIONS)
    return tmp_path


def test_layouts(folder: Path) -> None:
    asked = list(Mme(Setting(folder)).questions())
    assert [(one.id, one.type, one.references) for one in asked] == [
        ("count/1/0", "count", ("yes",)), ("count/1/1", "count", ("no",)), ("count/2/0", "count", ("yes",)),
        ("count/2/1", "count", ("no",)), ("scene/1/0", "scene", ("yes",)), ("scene/1/1", "scene", ("no",)),
    ]  # fmt: skip
    assert asked[-1].images == (folder / "scene/images/1.jpg",)
    assert asked[0].text == "Is it a dog? Please answer yes or no."


def test_a_score_is_accuracy_plus_the_share_of_images_with_both_right(folder: Path) -> None:
    benchmark = Mme(Setting(folder))
    answers = ["Yes", "no.", "Yes, it is", "Yes", "Maybe", "No"]
    found = measure(benchmark, score(benchmark, list(benchmark.questions()), answers))
    values = {name: one.value for name, one in found.measures.items()}
    assert values == {
        "score/count": pytest.approx(0.75 + 0.5), "score/scene": pytest.approx(0.5), "score": pytest.approx(1.75),
        "perception": pytest.approx(1.75), "cognition": None,
    }  # fmt: skip
    assert found.unscored == 1
    low, high = found.measures["score"].low, found.measures["score"].high
    assert low is not None
    assert high is not None
    assert low < 1.75 < high


@pytest.mark.parametrize(
    ("answer", "read"), [("YES", "yes"), ('"No"', "no"), ("None", "no"), ("I'd say yes", ""), ("", "")]
)
def test_the_first_four_characters_are_read(answer: str, read: str) -> None:
    assert read_start(answer) == read


def test_mistakes_are_named(folder: Path) -> None:
    (folder / "count/1.txt").write_text("Is it a dog?\tperhaps\n")
    with pytest.raises(DataError, match="line 1: not a question, a tab and Yes or No"):
        list(Mme(Setting(folder)).questions())
    with pytest.raises(DataError, match="a folder for each category"):
        list(Mme(Setting(folder / "scene/images")).questions())

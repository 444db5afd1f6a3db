from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from vistune.errors import DataError
from vistune.evaluate.benchmarks import Setting
from vistune.evaluate.benchmarks._choices import read_choice
from vistune.evaluate.benchmarks.tsv import Table
from vistune.evaluate.models import Prompt
from vistune.evaluate.models.answerer import Likelihood
from vistune.evaluate.runner import measure, run_benchmarks, score

LETTERS = "Answer with the option's letter from the given choices directly."


def picture(color: str, side: int = 16) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), color).save(file, "PNG")
    return file.getvalue()


RED, BLUE = (base64.b64encode(picture(color)).decode() for color in ("red", "blue"))


def written(folder: Path, *rows: dict[str, object]) -> Path:
    path = folder / "table.tsv"
    with path.open("w", newline="", encoding="utf-8") as file:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(file, names, delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return path


def opened(folder: Path, *rows: dict[str, object], **options: object) -> Table:
    return Table(Setting(written(folder, *rows), unpacked=folder / "unpacked", options=options))


def choice(index: int, answer: str, **more: object) -> dict[str, object]:
    row = {"index": index, "image": RED, "question": "What is it?", "hint": "", "A": "dog", "B": "cat", "C": "bird"}
    return {**row, "D": "", "answer": answer, "category": "animals", **more}


def test_a_question_of_a_tsv(tmp_path: Path) -> None:
    table = opened(tmp_path, choice(7, "B", hint="Look\tclosely.", question='Is it "this"?\nThink.'))
    (question,) = table.questions()
    assert question.text == f'Look\tclosely.\nIs it "this"?\nThink.\nA. dog\nB. cat\nC. bird\n{LETTERS}'
    assert (question.id, question.type, question.choices) == ("7", "animals", ("dog", "cat", "bird"))
    assert question.references == ("cat",)
    assert Image.open(question.images[0]).getpixel((0, 0)) == (255, 0, 0)
    assert [table.score(question, text).value for text in ("B", "cat.", "A", "", "A dog or a cat")] == [
        1, 1, 0, None, None
    ]  # fmt: skip


def test_images_are_unpacked_once_and_may_be_another_rows(tmp_path: Path) -> None:
    big = base64.b64encode(Image.effect_noise((700, 700), 50).tobytes()).decode()  # over csv's usual limit of a field
    rows = [choice(1, "A", image="3"), choice(2, "A", image=BLUE), choice(3, "A"), choice(4, "A", image=big)]
    images = [question.images for question in opened(tmp_path, *rows).questions()]
    assert images[0] == images[2] != images[1]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "unpacked").iterdir()}
    assert len(files) == 3
    list(opened(tmp_path, *rows).questions())
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "unpacked").iterdir()} == files


def test_several_images_and_paths(tmp_path: Path) -> None:
    rows = [choice(1, "A", image=str([RED, BLUE])), choice(2, "A", image="", image_path="['x/1.jpg', 'x/2.jpg']")]
    both, paths = (question.images for question in opened(tmp_path, *rows).questions())
    assert [path.suffix for path in both] == [".png", ".png"]
    assert paths == (tmp_path / "x/1.jpg", tmp_path / "x/2.jpg")


def test_circular_files_count_a_question_right_in_all_rotations(tmp_path: Path) -> None:
    turned = {"A": "cat", "B": "bird", "C": "dog"}
    rows = [choice(1, "B"), choice(1_000_001, "A", **turned), choice(2, "A"), choice(1_000_002, "C", **turned)]
    table = opened(tmp_path, *rows)
    scores = measure(table, score(table, list(table.questions()), ["B", "A", "A", "A"])).measures
    assert {name: one.value for name, one in scores.items()} == {"circular": 0.5, "accuracy": 0.75}
    assert scores["circular"].n == 2


def test_own_rotations(tmp_path: Path) -> None:
    table = opened(tmp_path, choice(1, "B"), circular=True)
    questions = list(table.questions())
    assert [one.id for one in questions] == ["1", "1/1", "1/2"]
    assert [one.choices[one.details["answer"]] for one in questions] == ["cat", "cat", "cat"]
    assert [one.choices for one in questions][2] == ("bird", "dog", "cat")
    answers = [score(table, questions, texts) for texts in (["cat"] * 3, ["B"] * 3)]
    assert [table.metrics["circular"](one).value for one in answers] == [1, 0]


def test_answers_as_texts(tmp_path: Path) -> None:
    (question,) = opened(tmp_path, choice(1, "B"), choice="text").questions()
    assert question.text == "What is it?\n- dog\n- cat\n- bird\nAnswer with the text of one of the options."


def test_likelihoods(tmp_path: Path, says: type) -> None:
    class Likely(says):  # type: ignore[misc,valid-type]
        """The cat is likeliest per token, the bird in sum."""

        asked = 0

        def likelihoods(
            self, prompts: Sequence[Prompt], choices: Sequence[Sequence[str]], *, batch_size: int
        ) -> Iterator[tuple[int, list[Likelihood]]]:
            assert batch_size > 0
            assert [prompt.text for prompt in prompts] == ["What is it?", "What is it?"]
            self.asked += len(prompts)
            known = {"dog": Likelihood(-9, 1), "cat": Likelihood(-4, 4), "bird": Likelihood(-3, 1)}
            for index in (1, 0):
                yield index, [known[choice] for choice in choices[index]]

    open_question = {"index": 3, "image": RED, "question": "Is it a dog?", "answer": "no"}
    table = opened(tmp_path, choice(1, "B"), choice(2, "C", image=BLUE), open_question, choice="likelihood")
    model = Likely(lambda *_: "No")
    scores = run_benchmarks(model, {"tsv": table}, tmp_path / "out").benchmarks["tsv"].measures
    assert {name: one.value for name, one in scores.items() if "/" not in name} == {
        "accuracy": pytest.approx(2 / 3), "accuracy_sum": 0.5
    }  # fmt: skip
    run_benchmarks(model, {"tsv": table}, tmp_path / "out")
    assert (model.asked, len(model.prompts)) == (2, 1)  # nothing again


def test_scores_by_category_group_and_split(tmp_path: Path) -> None:
    rows = [
        choice(1, "A", **{"category": "x", "l2-category": "X", "split": "dev"}),
        choice(2, "A", **{"category": "y", "l2-category": "Y", "split": "dev"}),
    ]
    table = opened(tmp_path, *rows)
    scores = measure(table, score(table, list(table.questions()), ["A", "B"])).measures
    assert {name: one.value for name, one in scores.items()} == {
        "accuracy": 0.5, "accuracy/X": 1, "accuracy/Y": 0, "accuracy/x": 1, "accuracy/y": 0
    }  # fmt: skip


def test_yes_no_and_short_answers(tmp_path: Path) -> None:
    rows = [
        {"index": 1, "image": RED, "question": "Is it a dog? Please answer yes or no.", "answer": "Yes"},
        {"index": 2, "image": RED, "question": "What color?", "answer": str(["red"] * 10)},
        {"index": 3, "image": RED, "question": "How many?", "answer": ""},
    ]
    table = opened(tmp_path, *rows)
    yes, color, unknown = table.questions()
    assert [table.score(yes, text).value for text in ("Yes, it is", "no", "")] == [1, 0, None]
    assert [table.score(color, text).value for text in ("Red.", "blue")] == [1, 0]
    assert table.score(unknown, "3").value is None


def test_other_files_by_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "ai2d.jsonl"
    path.write_text(json.dumps({"id": "q", "question": "?", "options": ["x", "y"], "answer": "1", "image": "a.png"}))
    (question,) = Table(Setting(path)).questions()
    assert (question.id, question.references, question.images) == ("q", ("y",), (tmp_path / "a.png",))
    path.write_text(json.dumps({"question": "?", "choice_a": "x", "choice_b": "y", "answer": "A"}))
    assert next(iter(Table(Setting(path)).questions())).references == ("x",)


def test_a_data_set_of_the_hub(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [choice(1, "B", image={"bytes": picture("red"), "path": None})]
    features = datasets.Dataset.from_list(rows).features | {"image": datasets.Image()}
    datasets.Dataset.from_list(rows, features=datasets.Features(features)).to_parquet(folder / "test.parquet")
    setting = Setting(Path(f"hub:{folder}"), unpacked=tmp_path / "unpacked", options={"split": "test"})
    (question,) = Table(setting).questions()
    assert question.references == ("cat",)
    assert Image.open(question.images[0]).getpixel((0, 0)) == (255, 0, 0)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: the answer 'E' is none of the 3 choices"):
        list(opened(tmp_path, choice(1, "E")).questions())
    with pytest.raises(DataError, match="it has no question, but index, image"):
        list(opened(tmp_path, {"index": 1, "image": RED, "text": "?"}).questions())


@pytest.mark.parametrize(
    ("answer", "index"), [("b", 1), ("**B**", 1), ("I think that it must be B", 1), ("B or C", None), ("d", None)]
)
def test_letters(answer: str, index: int | None) -> None:
    assert read_choice(answer, ("dog", "cat", "bird")) == index

"""A teacher that sees the image, and samples with boxes."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from generating import annotations
from teacher_server import teaching
from vistune.errors import VistuneError
from vistune.generate import GenerateRecipe, generate
from vistune.generate.filters import Sample, reasons
from vistune.generate.kinds import Prompts
from vistune.generate.run import Generation
from vistune.llm import Request, open_client
from vistune.llm.budget import Budget, Cost, Limits
from vistune.llm.http import RemoteClient
from vistune.llm.images import ImageFile, generic_tokens, openai_tokens
from vistune.records import Box, ImageRecord, Turn

QUIET = Console(quiet=True)


def rotated(path: Path) -> None:
    """A file of 600 by 200 pixels that EXIF turns upright."""
    image = Image.new("RGB", (600, 200), "red")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)


def body(spec: str, image: ImageFile) -> dict[str, object]:
    client = open_client(spec, base_url="http://localhost/v1")
    assert isinstance(client, RemoteClient)
    return client.body(Request("Write.", (Turn("user", "A dog."),), images=(image,)))


@pytest.mark.parametrize("spec", ["openai:m", "anthropic:m", "batch:m"])
def test_the_image_is_sent_upright_and_small_enough(spec: str, tmp_path: Path) -> None:
    rotated(tmp_path / "1.jpg")
    part, text = body(spec, ImageFile(tmp_path / "1.jpg", "1.jpg", 300))["messages"][-1]["content"]  # type: ignore[index]
    data = part["source"]["data"] if spec.startswith("anthropic") else part["image_url"]["url"].partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (image.format, image.size) == ("JPEG", (100, 300))
    assert text == {"type": "text", "text": "A dog."}


def test_the_key_names_the_image_and_not_its_folder(tmp_path: Path) -> None:
    asked = Request("", (Turn("user", "?"),), images=(ImageFile(tmp_path / "a" / "1.jpg", "1.jpg", 300),))
    assert asked.key("m") == replace(asked, images=(ImageFile(tmp_path / "b" / "1.jpg", "1.jpg", 300),)).key("m")
    for other in (ImageFile(tmp_path, "2.jpg", 300), ImageFile(tmp_path, "1.jpg", 301)):
        assert asked.key("m") != replace(asked, images=(other,)).key("m")


def test_a_run_that_sees(tmp_path: Path) -> None:
    data = annotations(tmp_path, 3)
    for number in (0, 1):
        rotated(tmp_path / f"{number}.jpg")
    with teaching() as teacher:
        recipe = GenerateRecipe(
            data=str(data), source="caps_boxes", teacher="openai:teacher-1", base_url=f"{teacher.url}/v1",
            kinds={"conversation": "all"}, teacher_sees_image=True, image_max_side=64,
        )  # fmt: skip
        report = generate(recipe, tmp_path / "out", console=QUIET)
        asked = teacher.stats["requests"]
        generate(recipe, tmp_path / "out", console=QUIET)
        assert teacher.stats["requests"] == asked
    kind = report.kinds["conversation"]
    assert (kind.asked, kind.accepted, dict(kind.reasons)) == (3, 2, {"image_missing": 1})


def test_an_image_without_annotations_is_shown_too() -> None:
    bare = ImageRecord("1", Path("1.jpg"))
    kind = Prompts(sees=True).load("detail").of(bare)
    assert kind is not None
    assert "The image is shown to you" in kind.system
    assert "not shown to you" not in kind.system
    assert kind.request(bare, 0).messages[-1].text
    assert Prompts().load("detail").of(bare) is None


def test_a_teacher_without_eyes_is_refused(tmp_path: Path) -> None:
    recipe = GenerateRecipe(data=str(annotations(tmp_path, 1)), source="caps_boxes", teacher_sees_image=True)
    with pytest.raises(VistuneError, match="sees no images"):
        Generation(recipe, tmp_path / "out")


def test_image_tokens_are_in_estimates_and_budgets(tmp_path: Path) -> None:
    assert (openai_tokens(1024, 1024), openai_tokens(2048, 4096), openai_tokens(512, 512)) == (765, 1105, 255)
    assert generic_tokens(560, 280) == 200
    recipe = GenerateRecipe(
        data=str(annotations(tmp_path, 10)), source="caps_boxes", teacher="openai:m", base_url="http://localhost/v1",
        kinds={"detail": "all"}, image_max_side=560,
    )  # fmt: skip
    blind = Generation(recipe, tmp_path / "out", sends=False)
    seeing = Generation(recipe.model_copy(update={"teacher_sees_image": True}), tmp_path / "out", sends=False)
    [without], [with_image] = blind.estimate(), seeing.estimate()
    assert with_image.input - without.input == pytest.approx(10 * 20 * 20, rel=0.1)  # the prompt differs, too
    assert seeing.largest_cost().tokens - blind.largest_cost().tokens > openai_tokens(560, 560)
    budget = Budget(Cost(), Limits(), None, remote=True)
    assert budget.worst(next(seeing.plan().requests())).tokens > 5_000


def test_grounding_pairs_name_a_box_of_the_image(tmp_path: Path) -> None:
    def box(name: str, x: float, y: float) -> Box:
        return Box(name, x, y, x + 0.2, y + 0.3)

    boxes = (box("dog", 0.1, 0.1), box("dog", 0.6, 0.1), box("cat", 0.3, 0.6))
    records = [ImageRecord(str(n), Path(f"{n}.jpg"), 640, 480, (), boxes) for n in range(20)]
    records.append(ImageRecord("bare", Path("bare.jpg"), 640, 480, ("A dog.",)))
    recipe = GenerateRecipe(kinds={"grounding": "all"}, keep_duplicates=True)
    report = generate(recipe, tmp_path, records=records, console=QUIET)
    assert (report.kinds["grounding"].accepted, report.without_context) == (20, 1)
    samples = json.loads((tmp_path / "instruct.json").read_text())
    texts = Counter(turn["value"] for sample in samples for turn in sample["conversations"])
    assert {"[0.10, 0.10, 0.30, 0.40]", "The rightmost dog.", "The cat."} <= texts.keys()


@pytest.mark.parametrize(
    ("question", "answer", "right"),
    [
        ("Give the box of the dog.", "[0.10, 0.20, 0.30, 0.40]", True),
        ("Give the box of the puppy on the rug.", "[0.10, 0.20, 0.30, 0.40]", True),
        ("What is in the region [0.10, 0.20, 0.30, 0.40]?", "The sleepy one by the door.", True),
        ("Give the box of the cat.", "[0.10, 0.20, 0.30, 0.40]", False),
        ("Give the box of the dog.", "[0.10, 0.20, 0.35, 0.40]", False),
        ("Give the box of the dog.", "On the left.", False),
    ],
)
def test_a_box_that_is_none_of_the_image_is_wrong(question: str, answer: str, right: bool) -> None:
    record = ImageRecord("1", Path("1.jpg"), boxes=(Box("dog", 0.1, 0.2, 0.3, 0.4), Box("cat", 0.5, 0.5, 0.9, 0.9)))
    turns = (Turn("user", question), Turn("assistant", answer))
    codes = reasons(Sample(Prompts().load("grounding"), record, turns, ("cat", "dog")))
    assert codes == (() if right else ("wrong_box",))

"""Kinds of a user's own: a folder beside ours, with errors that name the file and the key."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vistune.errors import VistuneError
from vistune.generate import GenerateRecipe, generate
from vistune.generate.kinds import Prompts, brief_questions, prompt_folder
from vistune.generate.languages import language_code
from vistune.generate.replies import parse_reply
from vistune.records import Box, ImageRecord

RECORD = ImageRecord("7", Path("7.jpg"), 10, 10, ("A dog.",), (Box("dog", 0.1, 0.2, 0.3, 0.4),))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with one kind, `riddle`, made from ours."""
    shutil.copytree(Path(str(prompt_folder() / "reasoning")), tmp_path / "kinds" / "riddle")
    return tmp_path / "kinds"


def test_a_folder_of_kinds_or_a_kind_itself(own: Path) -> None:
    for folder in (own, own / "riddle"):
        found = Prompts(folder)
        assert sorted(found.folders()) == sorted([*Prompts().folders(), "riddle"])
        assert list(found.own()) == ["riddle"]
        request = found.load("riddle").request(RECORD, 0)
        assert request is not None
        assert request.kind == "riddle"


def test_a_kind_of_the_same_name_takes_our_place(own: Path) -> None:
    (own / "riddle").rename(own / "detail")
    assert list(Prompts(own).own()) == ["detail"]
    assert Prompts(own).load("detail").questions == ()
    assert Prompts().own() == {}


def test_a_kind_without_examples_is_enough(own: Path) -> None:
    shutil.rmtree(own / "riddle" / "fewshot")
    assert Prompts(own).load("riddle").fewshot == ()


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("kind.yaml", "turns:", "turn:"), r"kind.yaml: turns: this key is missing\n  fix: turns: \[1, 12\]"),
        (edit("kind.yaml", "words: [12, 400]", "words: [12, 400]\nwodrs: 1"), "wodrs: unknown key\n.*did you mean"),
        (edit("kind.yaml", "question: ask\n", ""), r"question: this key is missing\n  fix: question: ask"),
        (edit("kind.yaml", "[captions, boxes]", "[captions, box]"), "should be 'captions' or 'boxes' .*'box'"),
        (edit("kind.yaml", "[captions, boxes]", "[]"), "kind.yaml: context: .*at least 1 item"),
        (edit("kind.yaml", "question: ask", "question: [ask]"), "question: should be 'ask' or 'list'"),
        (edit("kind.yaml", "[12, 400]", "[true, 400]"), "words.0: should be a valid integer"),
        (edit("kind.yaml", "[12, 400]", "[400, 12]"), "words: the minimum comes first, then the maximum"),
        (edit("kind.yaml", "question: ask", "question: [ask"), "kind.yaml: not valid YAML"),
        (edit("system.txt", "{context}", ""), r"system.txt: there is no \{context\} in it"),
        (edit("system.txt", "{format}", ""), r"system.txt: there is no \{format\} in it"),
        (lambda folder: (folder / "system.txt").unlink(), "system.txt: there is no such file"),
        (lambda folder: (folder / "system.txt").write_bytes(b"\xff"), "system.txt: not text in UTF-8"),
        (lambda folder: (folder / "fewshot" / "2.reply.txt").unlink(), "2.reply.txt: there is no such file"),
        (edit("fewshot/1.reply.txt", "Question:", "Frage:"), "1.reply.txt: not a reply: unmarked_block"),
        (edit("fewshot/1.context.txt", "car: [", "car ["), "1.context.txt: not a box: 'car"),
        (edit("kind.yaml", "turns: [1, 1]", "turns: [2, 4]"), "it has 1 questions, and kind.yaml allows 2 to 4"),
        (edit("kind.yaml", "question: ask", "question: list"), "there is none in English"),
    ],
)  # fmt: skip
def test_mistakes_name_the_file_and_the_key(own: Path, change: Callable[[Path], object], message: str) -> None:
    change(own / "riddle")
    with pytest.raises(VistuneError, match=message) as raised:
        Prompts(own).load("riddle")
    assert str(own) in str(raised.value)


def test_a_folder_without_kinds_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VistuneError, match="there is no kind in this folder"):
        Prompts(tmp_path).folders()
    with pytest.raises(VistuneError, match="there is no such folder"):
        Prompts(tmp_path / "gone").folders()


@pytest.mark.parametrize("code", ["de", "es", "fr", "zh"])
def test_the_languages_with_question_lists(code: str) -> None:
    kind = Prompts(language=code).load("detail")
    assert len(set(kind.questions)) == 16
    assert not set(kind.questions) & set(Prompts().load("detail").questions)
    assert len(set(brief_questions(code))) == 11
    assert kind.prompt_hash != Prompts().load("detail").prompt_hash


def test_words_are_not_counted_where_there_are_no_spaces() -> None:
    assert Prompts(language="zh").load("detail").words == (1, 400)
    assert Prompts(language="de").load("detail").words == (8, 400)


def test_another_language_is_told_to_the_teacher_or_its_list_is_asked_for(own: Path) -> None:
    assert "Write everything in Italian" in Prompts(language="it").load("reasoning").system
    with pytest.raises(VistuneError, match=r"none in Italian\n  fix: .*write questions.it.txt"):
        Prompts(language="Italian").load("detail")
    with pytest.raises(VistuneError, match=r"no brief questions in Italian\n  fix: write brief.it.txt"):
        brief_questions("it")
    shutil.copytree(Path(str(prompt_folder() / "detail")), own / "detail")
    (own / "detail" / "questions.it.txt").write_text("Descrivi questa immagine.\n")
    (own / "brief.it.txt").write_text("Che cosa si vede?\n")
    assert Prompts(own, "it").load("detail").questions == ("Descrivi questa immagine.",)
    assert brief_questions("it", own) == ("Che cosa si vede?",)


def test_languages_by_code_or_name() -> None:
    assert language_code("de") == language_code(" GERMAN ") == "de"
    with pytest.raises(VistuneError, match="did you mean 'German'"):
        language_code("Germn")


@pytest.mark.parametrize("name", sorted(Prompts().folders()))
def test_the_json_format_says_and_shows_the_same(name: str) -> None:
    text = Prompts().load(name)
    structured = replace(text, structured=True)
    assert text.schema is None
    assert structured.schema is not None
    request = structured.request(RECORD, 0)
    assert request is not None
    assert request.schema == structured.schema
    assert "===" not in request.system
    for asked, shown in zip(text.fewshot[1::2], structured.fewshot[1::2], strict=True):
        assert shown.text.startswith("{")
        alone = bool(text.questions)
        assert parse_reply(shown.text, alone) == parse_reply(asked.text, alone)


def test_a_kind_of_ones_own_goes_through_the_whole_run(own: Path, tmp_path: Path) -> None:
    from rich.console import Console

    from vistune.llm.providers.scripted import ScriptedClient

    good = (
        "Question:\nWhy does the dog wait?\n===\nAnswer:\n"
        + "It seems to expect somebody to come home soon, so it waits."
    )
    report = generate(
        GenerateRecipe(kinds="riddle", kind_dir=str(own)), tmp_path / "out", records=[RECORD],
        client=ScriptedClient({(RECORD.id, "riddle"): good}), console=Console(quiet=True),
    )  # fmt: skip
    assert report.kinds["riddle"].accepted == 1

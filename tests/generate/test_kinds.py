from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vistune.errors import VistuneError
from vistune.generate.kinds import Prompts, brief_questions
from vistune.records import Box, ImageRecord
from vistune.scene.context import PARTS, Part, parse_context

RECORD = ImageRecord("7", Path("7.jpg"), 10, 10, ("A dog.",), (Box("dog", 0.1, 0.2, 0.3, 0.4),))


def test_the_papers_recipe() -> None:
    kinds = {name: Prompts().load(name) for name in sorted(Prompts().folders())}
    assert {name: kind.context for name, kind in kinds.items()} == {
        "conversation": ("captions",),
        "detail": ("captions", "boxes"),
        "grounding": ("captions", "boxes"),
        "reasoning": ("captions", "boxes"),
    }
    assert {name: len(kind.examples) for name, kind in kinds.items()} == {
        "conversation": 2,
        "detail": 3,
        "grounding": 2,
        "reasoning": 3,
    }
    assert len(set(kinds["detail"].questions)) == 16
    assert len(set(brief_questions())) == 11
    assert not kinds["conversation"].questions
    assert not kinds["reasoning"].questions


def test_a_request_is_system_examples_and_the_image() -> None:
    request = Prompts().load("detail").request(RECORD, seed=0)
    assert request is not None
    assert [message.role for message in request.messages] == ["user", "assistant"] * 3 + ["user"]
    assert request.query == "A dog.\n\ndog: [0.1, 0.2, 0.3, 0.4]"
    assert "{context}" not in request.system


def test_the_examples_and_the_prompt_show_what_the_query_shows() -> None:
    shown: tuple[Part, ...]
    for shown in (("captions",), ("captions", "boxes"), ("boxes",)):
        request = replace(Prompts().load("conversation"), context=shown).request(RECORD, seed=0)
        assert request is not None
        for message in request.messages[::2]:
            captions, boxes = parse_context(message.text)
            assert bool(captions) == ("captions" in shown)
            assert bool(boxes) == ("boxes" in shown)
        assert ("fractions of the image" in request.system) == ("boxes" in shown)


def test_the_seed_differs_by_run_image_and_kind() -> None:
    other = ImageRecord("8", RECORD.image, 10, 10, RECORD.captions, RECORD.boxes)
    asked = [("detail", RECORD, 0), ("detail", RECORD, 1), ("detail", other, 0), ("reasoning", RECORD, 0)]
    seeds = [request.seed for name, record, seed in asked if (request := Prompts().load(name).request(record, seed))]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)  # what servers take


def test_a_kind_also_shows_what_the_teacher_needs() -> None:
    assert Prompts().load("conversation", ("boxes",)).context == ("captions", "boxes")
    assert Prompts().load("detail", ("boxes",)) == Prompts().load("detail")


def test_the_prompt_hash_tells_versions_apart() -> None:
    kinds = [Prompts().load(name) for name in sorted(Prompts().folders())]
    hashes = {replace(kind, context=(part,)).prompt_hash for kind in kinds for part in PARTS}
    assert len(hashes) == 8


def test_a_prompt_promises_no_captions_and_no_boxes_that_the_image_lacks() -> None:
    kinds = [Prompts().load(name) for name in ("conversation", "detail", "reasoning")]
    for kind in kinds:
        of_boxes = kind.of(replace(RECORD, captions=()))
        assert of_boxes is not None
        assert of_boxes.context == ("boxes",)
        assert "Captions, one a line" not in of_boxes.system
        assert "Nothing else: there is no description of the image" in of_boxes.system
        assert of_boxes.fewshot
        assert all("\n\n" in message.text for message in of_boxes.fewshot[::2])
        assert of_boxes.prompt_hash != kind.prompt_hash
        of_captions = kind.of(replace(RECORD, boxes=()))
        assert of_captions is not None
        assert "[x1, y1, x2, y2]" not in of_captions.system
        assert kind.of(replace(RECORD, captions=(), boxes=())) is None
    assert kinds[0].of(RECORD) is kinds[0]


def test_the_domain_is_in_every_prompt() -> None:
    for name in Prompts().folders():
        assert "blood smears under a microscope" in Prompts(about="blood smears\nunder a microscope").load(name).system


def test_an_unknown_kind_gets_a_suggestion() -> None:
    with pytest.raises(VistuneError, match="did you mean 'conversation'"):
        Prompts().load("converstion")

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from vistune.data.encode import Encoder
from vistune.data.render import image_marks
from vistune.data.templates import own_template, read_template
from vistune.errors import DataError
from vistune.model.assemble import _prepare_tokenizer
from vistune.records import IMAGE_TOKEN, Conversation, Turn

SNIPPETS = (
    "two dogs", "yes", "no", "a red box, above the cat.", " ", "  ", "\n", "\n\n", "ASSISTANT:", "USER: ", "</s>",
    "<|end|>", "<|assistant|>\n", "<s>", "é", "犬が二匹", "🐕‍🦺", "<", "|", "<pad>", "picture", "left of", ".", "<unk>",
)  # fmt: skip


def _prepared(backbones: Path, name: str, template: str | None) -> tuple[Any, str]:
    tokenizer: Any = AutoTokenizer.from_pretrained(backbones / name)
    text = read_template(template) if template else own_template(tokenizer)
    _prepare_tokenizer(tokenizer, text)
    return tokenizer, text


def _text(rng: random.Random, extra: tuple[str, ...] = ()) -> str:
    while True:
        text = "".join(rng.choice(SNIPPETS + extra) + rng.choice(("", " ")) for _ in range(rng.randint(1, 8)))
        if text.strip():
            return text


def _conversation(rng: random.Random, index: int) -> Conversation:
    turns: list[Turn] = []
    images: list[str] = []
    for _ in range(rng.randint(1, 4)):
        question = _text(rng)
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            images.append(f"{len(images)}.png")
            question = rng.choice([f"{IMAGE_TOKEN}\n{question}", f"{question}\n{IMAGE_TOKEN}", IMAGE_TOKEN + question])
        turns += [Turn("user", question), Turn("assistant", _text(rng, (IMAGE_TOKEN,)))]
    return Conversation(str(index), tuple(turns), tuple(images))


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("language", None),
        ("language", "vicuna_v1"),
        ("language", "plain"),
        ("narrow", "vicuna_v1"),
        ("narrow", "plain"),
    ],
)
def test_targets_of_random_conversations_are_the_answers_and_their_end_of_turn(
    backbones: Path, name: str, template: str | None
) -> None:
    tokenizer, text = _prepared(backbones, name, template)
    encoder = Encoder(tokenizer, text, image_tokens=4)
    end = tokenizer.eos_token
    image_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    rng = random.Random(0)
    for index in range(1000):
        conversation = _conversation(rng, index)
        if template == "plain":
            first = conversation.turns[:2]
            conversation = Conversation(conversation.id, first, conversation.images[: image_marks(first)])
        sample = encoder.encode(conversation, 10_000)
        found = _runs(sample.input_ids.tolist(), sample.targets.tolist())
        decoded = [tokenizer.decode(run) for run in found]
        expected = [turn.text + end for turn in conversation.turns if turn.role == "assistant"]
        # the one space that joins an answer to `ASSISTANT:` is a part of its first token
        assert [one.lstrip(" ") for one in decoded] == [one.lstrip(" ") for one in expected], conversation
        assert all(run[-1] == tokenizer.eos_token_id and tokenizer.eos_token_id not in run[:-1] for run in found)
        assert sample.images == conversation.images
        assert np.flatnonzero(sample.input_ids == image_id).tolist() == sample.image_at.tolist()
        assert len(sample.image_at) == 4 * len(sample.images)


def _runs(ids: list[int], targets: list[bool]) -> list[list[int]]:
    runs: list[list[int]] = []
    before = False
    for index, target in zip(ids, targets, strict=True):
        if target and not before:
            runs.append([])
        if target:
            runs[-1].append(index)
        before = target
    return runs


def test_special_tokens_that_a_user_types_stay_text(backbones: Path) -> None:
    tokenizer, text = _prepared(backbones, "language", None)
    typed = "a<|end|>\n<|assistant|>\n<image> <s>"
    ids = Encoder(tokenizer, text, 4).prompt([Turn("user", f"<image>\n{typed}")], images=1)
    markers = ["<s>", "<|user|>", "<image>", "<image>", "<image>", "<image>", "<|end|>", "<|assistant|>"]
    special = set(tokenizer.all_special_ids) | {tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)}
    assert [tokenizer.convert_ids_to_tokens(one) for one in ids if one in special] == markers
    assert typed in tokenizer.decode(ids)


def test_a_prompt_is_how_the_training_text_begins(backbones: Path) -> None:
    for name, template in (("language", None), ("language", "vicuna_v1"), ("narrow", "vicuna_v1")):
        tokenizer, text = _prepared(backbones, name, template)
        encoder = Encoder(tokenizer, text, 4)
        turns = Turn("user", "<image>\nhow many dogs"), Turn("assistant", "two dogs"), Turn("user", "yes")
        sample = encoder.encode(Conversation("1", (*turns, Turn("assistant", "no")), ("x.png",)), 500)
        first = int(sample.targets.argmax())
        assert encoder.prompt(turns[:1], images=1) == sample.input_ids[:first].tolist()
        whole = encoder.prompt(turns, images=1)
        assert whole == sample.input_ids[: len(whole)].tolist()
        assert sample.targets[len(whole) :].tolist()[0]


def test_too_long_conversations_lose_whole_exchanges_from_the_end(backbones: Path) -> None:
    tokenizer, text = _prepared(backbones, "language", None)
    encoder = Encoder(tokenizer, text, 4)
    first = Turn("user", "<image>\nhow many"), Turn("assistant", "two dogs")
    turns = *first, Turn("user", "what is there"), Turn("assistant", "a red box")
    long = Conversation("7", turns, ("x.png",))
    short = encoder.encode(Conversation("7", first, ("x.png",)), 500)
    cut = encoder.encode(long, len(short.input_ids) + 3)
    assert cut.input_ids.tolist() == short.input_ids.tolist()
    assert cut.dropped_turns == 2
    with pytest.raises(DataError, match="conversation 7: its first answer does not fit in 9 tokens"):
        encoder.encode(long, 9)


def test_a_template_that_changes_the_text_is_an_error(backbones: Path) -> None:
    tokenizer, text = _prepared(backbones, "language", None)
    shouting = text.replace("+ message['content'] +", "+ message['content'] | upper +")
    assert shouting != text
    conversation = Conversation("3", (Turn("user", "yes"), Turn("assistant", "no")))
    with pytest.raises(DataError, match="conversation 3: the chat template changes"):
        Encoder(tokenizer, shouting, 4).encode(conversation, 500)


def test_templates_take_text_and_parts(backbones: Path) -> None:
    for name, template in (("language", None), ("narrow", "vicuna_v1"), ("narrow", "plain")):
        tokenizer, text = _prepared(backbones, name, template)
        parts = [{"type": "image"}, {"type": "text", "text": "what is it"}]
        rendered = [
            tokenizer.apply_chat_template([{"role": "user", "content": content}], chat_template=text, tokenize=False)
            for content in (parts, "<image>\nwhat is it")
        ]
        assert rendered[0] == rendered[1]
        assert "<image>" in rendered[0]

"""Batches with shared images, against transformers with one question at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from assembling import assemble
from vistune.errors import DataError
from vistune.model.assistant import Assistant
from vistune.model.checkpoint import save_checkpoint

WORDS = ["what", "is in", "this", "how many", "dogs", "are there", "left of", "the cat", "a red box", "two people"]


@pytest.fixture(scope="module")
def saved(backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("decode") / "model"
    parts = str(backbones / "vision"), str(backbones / "language")
    save_checkpoint(*assemble(*parts, projector="mlp2x_gelu"), path)
    return path


class Plain:
    """transformers, one question at a time."""

    def __init__(self, path: Path) -> None:
        self.model: Any = LlavaForConditionalGeneration.from_pretrained(path)
        self.processor: Any = AutoProcessor.from_pretrained(path, backend="pil")

    def inputs(self, images: Sequence[Image.Image], text: str, answer: str = "") -> Any:
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": "<image>\n" * len(images) + text}], add_generation_prompt=True
        )
        kinds = {"images": list(images)} if images else {}
        return self.processor(text=prompt + answer, add_special_tokens=False, return_tensors="pt", **kinds)

    def answer(self, images: Sequence[Image.Image], text: str) -> str:
        inputs = self.inputs(images, text)
        written = self.model.generate(**inputs, max_new_tokens=8, do_sample=False)
        found: str = self.processor.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return found.strip()

    def likelihood(self, images: Sequence[Image.Image], text: str, choice: str) -> tuple[float, int]:
        with torch.inference_mode():
            inputs = self.inputs(images, text, choice)
            tokens = inputs["input_ids"].shape[1] - self.inputs(images, text)["input_ids"].shape[1]
            scores = self.model(**inputs).logits[0, -tokens - 1 : -1].log_softmax(-1)
        return float(scores.gather(1, inputs["input_ids"][0, -tokens:, None]).sum()), tokens


def _mixed(count: int) -> list[tuple[Any, str]]:
    """Questions about one or two of five images, or none, of several lengths."""
    rng = random.Random(3)
    images = [Image.frombytes("RGB", (28, 28), rng.randbytes(3 * 28 * 28)) for _ in range(5)]
    lists = [[], *([one] for one in images), [images[0], images[1]], [images[1], images[0]]]
    return [(rng.choice(lists), " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))) for _ in range(count)]


def test_answers_are_those_of_one_question_at_a_time(saved: Path) -> None:
    prompts, plain, assistant = _mixed(60), Plain(saved), Assistant.load(saved, "cpu")
    expected = [plain.answer(*prompt) for prompt in prompts]
    assert len(set(expected)) > 30
    for batch_size in (64, 7):
        batches = [dict([one]) for one in assistant.answers(prompts, max_new_tokens=8, batch_size=batch_size)]
        found = {index: text for batch in batches for index, text in batch.items()}
        assert [found[index] for index in range(len(prompts))] == expected


def test_each_image_is_run_once_in_a_batch(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assistant, ran = Assistant.load(saved, "cpu"), []
    language: Any = assistant.model.model.language_model
    forward = language.forward
    monkeypatch.setattr(
        language, "forward", lambda *given, **how: ran.append(given[4].shape[:2]) or forward(*given, **how)
    )
    a, b, c = (Image.new("RGB", (28, 28), color) for color in ("red", "green", "blue"))
    prompts = [(a, "what"), (a, "how many dogs"), (b, "what"), (a, "no"), (c, "yes")]
    list(assistant.answers(prompts, max_new_tokens=1))
    assert [rows for rows, _ in ran] == [1, 1, 1, 3]  # each image, then all questions, in a row an image


def test_likelihoods_are_those_of_one_choice_at_a_time(saved: Path) -> None:
    prompts, plain, assistant = _mixed(24), Plain(saved), Assistant.load(saved, "cpu")
    choices = [["yes", "no", "two people above a red box"][: 1 + index % 3] for index in range(len(prompts))]
    found = dict(assistant.likelihoods(prompts, choices, batch_size=10))
    assert found.keys() == set(range(len(prompts)))
    for index, (images, text) in enumerate(prompts):
        expected = [plain.likelihood(images, text, choice) for choice in choices[index]]
        assert [tokens for _, tokens in found[index]] == [tokens for _, tokens in expected]
        assert [total for total, _ in found[index]] == pytest.approx([total for total, _ in expected], abs=1e-3)
    with pytest.raises(DataError, match="no tokens of its own"):
        list(assistant.likelihoods(prompts, [[""]] * len(prompts)))

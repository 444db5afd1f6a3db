"""Tokenizers that are not stored as fast ones: converted, or refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from assembling import assemble
from vistune.data.encode import Encoder
from vistune.errors import CheckpointError
from vistune.model.vision import image_grid
from vistune.records import Conversation, Turn


def _without_tokenizer(backbones: Path, folder: Path, config: dict[str, Any]) -> Path:
    shutil.copytree(backbones / "narrow", folder, ignore=shutil.ignore_patterns("tokenizer*", "special_tokens*"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("legacy", [True, False])
def test_a_sentencepiece_model_is_converted(backbones: Path, tmp_path: Path, legacy: bool) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = _without_tokenizer(
        backbones, tmp_path / "language",
        {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "legacy": legacy},
    )  # fmt: skip
    (tmp_path / "corpus.txt").write_text("how many dogs are there\nleft of the red box\n" * 50)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"), model_prefix=str(folder / "tokenizer"), vocab_size=310, model_type="bpe",
        byte_fallback=True, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    model, processor = assemble(str(backbones / "vision"), str(folder), projector="linear", chat_template="vicuna_v1")
    encoder = Encoder(processor.tokenizer, str(processor.chat_template), image_grid(model.config))
    turns = Turn("user", "<image>\nhow many</s>"), Turn("assistant", "犬 </s> dogs")
    sample = encoder.encode(Conversation("1", turns, ("a.png",)), 200)
    assert sample.targets[-1]
    assert processor.tokenizer.decode(sample.input_ids[sample.targets]).lstrip() == "犬 </s> dogs</s>"
    assert (sample.input_ids == processor.tokenizer.eos_token_id).sum() == 1


def test_a_tokenizer_in_python_is_refused(backbones: Path, tmp_path: Path) -> None:
    folder = _without_tokenizer(backbones, tmp_path / "language", {"tokenizer_class": "ByT5Tokenizer"})
    with pytest.raises(CheckpointError, match=r"no character offsets(.|\n)*tokenizer\.json"):
        assemble(str(backbones / "vision"), str(folder), projector="linear", chat_template="vicuna_v1")

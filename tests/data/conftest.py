"""Small tokenizers of every kind that language models have, and the behaviour of well-known chat templates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "what is in this picture? how many dogs are there left of the cat: a red box, above two people. yes no\n\n",
    "A chat between a curious user and an artificial intelligence assistant.\n### USER: hi ASSISTANT: ok\n\n\n",
    "system user model assistant # ## ### Human: Assistant: helpful, detailed answers to the user's questions",
]
MARKERS = [
    "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "[INST]", "[/INST]", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|User|>",
    "<|Assistant|>",
]  # fmt: skip
QWEN = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _byte_level(pre_tokenizer: Any, special: list[str], normalizer: Any = None, **model: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return tokenizer


def _qwen() -> PreTrainedTokenizerFast:
    """Byte-level BPE in NFC, no BOS; `<think>` is one token, but not special."""
    splits = [
        pre_tokenizers.Split(Regex(QWEN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ]  # fmt: skip
    tokenizer = _byte_level(pre_tokenizers.Sequence(splits), ["<|endoftext|>"], normalizers.NFC())
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def _llama3() -> PreTrainedTokenizerFast:
    """Byte-level BPE that looks whole words up first and puts BOS before every text by itself."""
    splits = [
        pre_tokenizers.Split(Regex(QWEN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ]  # fmt: skip
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    tokenizer = _byte_level(pre_tokenizers.Sequence(splits), special, ignore_merges=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>"
    )


def _gpt2() -> PreTrainedTokenizerFast:
    """GPT-2's byte-level BPE, whose BOS and EOS are one token that it never adds."""
    tokenizer = _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def _sentencepiece(change: Callable[[dict[str, Any]], None]) -> PreTrainedTokenizerFast:
    """SentencePiece's BPE with byte fallback and BOS before every text; `change` makes its variants."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=480, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]  # the bytes are ordinary vocabulary
    content["pre_tokenizer"]["split"] = False
    change(content)
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _prefix_after_special(content: dict[str, Any]) -> None:
    """As Llama 2's and Vicuna's files are: a space is put before the text and after every special token."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}
    content["pre_tokenizer"] = None


def _no_prefix(content: dict[str, Any]) -> None:
    """As Gemma's: no space is put anywhere; words are split at spaces."""
    content["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    content["pre_tokenizer"] = {
        "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False
    }  # fmt: skip


def _phi3() -> PreTrainedTokenizerFast:
    """Llama 2's tokenizer with markers that swallow the white space after them."""
    tokenizer = _sentencepiece(_prefix_after_special)
    names = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
    tokenizer.add_tokens(
        [AddedToken(name, rstrip=True, normalized=False, special=True) for name in names], special_tokens=True
    )
    return tokenizer


def _unigram() -> PreTrainedTokenizerFast:
    """Unigram with byte fallback, in NFKC, whose special tokens are pieces that ordinary text could match."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    content = json.loads(tokenizer.to_str())
    content["model"]["vocab"] += [[f"<0x{byte:02X}>", -20.0] for byte in range(256)]
    content["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "qwen": _qwen,
    "llama3": _llama3,
    "gpt2": _gpt2,
    "llama2": lambda: _sentencepiece(_prefix_after_special),
    "llama2_new": lambda: _sentencepiece(lambda _: None),
    "gemma": lambda: _sentencepiece(_no_prefix),
    "phi3": _phi3,
    "unigram": _unigram,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or leaves anything in the user's cache of data sets."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="session")
def make_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """A fresh tokenizer of one of `KINDS`, as it is loaded from its files, with the markers of all templates."""
    folder = tmp_path_factory.mktemp("tokenizers")

    def make(kind: str) -> Any:
        if not (folder / kind).exists():
            tokenizer = KINDS[kind]()
            new = [marker for marker in MARKERS if marker not in tokenizer.get_vocab()]
            tokenizer.add_tokens([AddedToken(one, normalized=False, special=True) for one in new], special_tokens=True)
            tokenizer.save_pretrained(folder / kind)
        return PreTrainedTokenizerFast.from_pretrained(folder / kind)

    return make


@pytest.fixture(scope="session")
def own_templates() -> dict[str, str]:
    """What well-known models' own chat templates do, each as a template in fewer words."""
    return {path.stem: path.read_text() for path in sorted((Path(__file__).parent / "chat_templates").iterdir())}

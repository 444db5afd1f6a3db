from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from teacher_server import Teacher, teaching
from vistune.generate.kinds import Prompts
from vistune.llm import Request
from vistune.records import Box, ImageRecord

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests do not see the keys of the person who runs them."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    """A local server without faults."""
    with teaching() as one:
        yield one


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama of random weights, with a tokenizer of letters and a chat template without a system message."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    letters = ["<pad>", "<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ m.role }}: {{ m.content }}<end>{% endfor %}assistant: "
    )
    folder = tmp_path_factory.mktemp("language") / "tiny"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", chat_template=template
    ).save_pretrained(folder)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, vocab_size=len(letters),
        max_position_embeddings=32_768, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def sample_request(number: int = 7, kind: str = "conversation") -> Request:
    """A real request about one of many images, with captions and boxes."""
    boxes = (Box("dog", 0.05, 0.55, 0.45, 0.95), Box("chair", 0.6, 0.3, 0.9, 0.9))
    captions = (f"A dog lies next to chair {number}.", "A brown dog and a chair.")
    record = ImageRecord(str(number), Path("7.jpg"), 640, 480, captions, boxes)
    request = Prompts().load(kind, ["captions", "boxes"]).request(record, seed=0)
    assert request is not None
    return request


@pytest.fixture
def chat() -> Request:
    """A request for a conversation."""
    return sample_request()

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

# the tests' own processes fill the cores; and with one thread sums have the same order wherever they are computed
os.environ["OMP_NUM_THREADS"] = "1"

COCO: dict[str, dict[str, Any]] = {
    "instances": {
        "images": [
            {"id": 7, "file_name": "street.jpg", "width": 200, "height": 100},
            {"id": 9, "file_name": "boxes only.jpg", "width": 50, "height": 50},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [20.0, 10.0, 100.0, 50.0], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [150.5, -0.4, 50.2, 60], "iscrowd": 1},
            {"id": 3, "image_id": 9, "category_id": 1, "bbox": [0, 0, 50, 50], "iscrowd": 0},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    },
    "captions": {
        "images": [
            {"id": 7, "file_name": "street.jpg", "width": 200, "height": 100},
            {"id": 8, "file_name": "captions only.jpg", "width": 64, "height": 48},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "caption": "A dog and some people.\n"},
            {"id": 2, "image_id": 8, "caption": "A picture."},
            {"id": 3, "image_id": 7, "caption": " Two  words "},
        ],
    },
}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A folder in COCO's format, split `train`: an image with captions and boxes, one with either alone."""
    folder = tmp_path / "coco"
    (folder / "images").mkdir(parents=True)
    for kind, content in COCO.items():
        (folder / f"{kind}_train.json").write_text(json.dumps(content))
        for row in content["images"]:
            Image.new("RGB", (row["width"], row["height"]), "gray").save(folder / "images" / row["file_name"])
    return folder


WORDS = "what is in this picture how many dogs are there left of the cat a red box above two people yes no"
CHAT = (
    "<s>{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def _byte_level() -> Any:
    """Byte-level BPE with chat markers and its own chat template, as in today's language models."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    markers = ["<s>", "<|user|>", "<|assistant|>", "<|end|>", "<pad>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=markers, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([WORDS] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|end|>", pad_token="<pad>", chat_template=CHAT,
        additional_special_tokens=["<|user|>", "<|assistant|>"],
    )  # fmt: skip


def _metaspace() -> Any:
    """BPE over `▁` with byte fallback, no chat template and no pad token, as SentencePiece's of Llama 2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    split = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    tokenizer.pre_tokenizer = split  # merges inside words only, as SentencePiece learns them
    tokenizer.train_from_iterator([WORDS] * 3, trainers.BpeTrainer(vocab_size=420, special_tokens=special))
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]  # the bytes are ordinary vocabulary
    content["pre_tokenizer"]["split"] = False
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny random backbones: `vision` (width 16, 4 patches of 28 pixels), `language` (width 32, tied embeddings,
    byte-level BPE), `narrow` (width 24, untied, SentencePiece-like, no chat template)."""  # fmt: skip
    import torch
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("backbones")
    torch.manual_seed(0)
    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "initializer_range": 0.3}
    CLIPVisionModel(CLIPVisionConfig(hidden_size=16, image_size=28, patch_size=14, **size)).to(
        torch.float16
    ).save_pretrained(folder / "vision")
    CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(
        folder / "vision"
    )
    for name, width, tied, tokenizer in (("language", 32, True, _byte_level()), ("narrow", 24, False, _metaspace())):
        config = LlamaConfig(
            hidden_size=width, vocab_size=len(tokenizer), tie_word_embeddings=tied, num_key_value_heads=2,
            max_position_embeddings=512, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id, **size,
        )  # fmt: skip
        LlamaForCausalLM(config).to(torch.float16).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


class Pages:
    """Opens pages from disk, or of a server, in a real browser.

    `complaints` are the errors, messages, dialogs and requests to other places of all its pages.
    """

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self.complaints: list[str] = []

    def open(self, place: Path | str, **options: Any) -> Any:
        """A file's page, or that at a server's URL, which ends with a slash."""
        url = place if isinstance(place, str) else place.as_uri()
        page = self._browser.new_page(**options)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.on("request", lambda request: self._note(request.url, url))
        page.goto(url)
        return page

    def _note(self, url: str, own: str) -> None:
        if url != own and not url.startswith(("data:", "blob:", own if own.endswith("/") else own + "#")):
            self.complaints.append(url)


@pytest.fixture(scope="module")  # closed before the next module's tests: while it is open, asyncio.run() does not work
def pages() -> Iterator[Pages]:
    """A real browser."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        yield Pages(browser)
        browser.close()

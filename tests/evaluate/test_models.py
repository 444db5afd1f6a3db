"""What an evaluation asks: checkpoints, other models of transformers, servers."""

from __future__ import annotations

import base64
import io
import json
import random
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from assembling import assemble
from teacher_server import Teacher, teaching
from vistune.data.images import data_url
from vistune.errors import CheckpointError, ClientError, DataError, VistuneError
from vistune.evaluate.models import Likelihood, Prompt, open_model
from vistune.evaluate.models.fingerprint import fingerprint
from vistune.llm.budget import Limits
from vistune.model.adapter_checkpoint import save_adapter_checkpoint
from vistune.model.assistant import Assistant
from vistune.model.checkpoint import load_checkpoint, save_checkpoint

TEXTS = ("how many dogs", "no", "what is left of the red cat", "is there a box above two people")


@pytest.fixture(scope="module")
def llava(backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "mine"
    save_checkpoint(*assemble(str(backbones / "vision"), str(backbones / "language"), projector="mlp2x_gelu"), path)
    return path


@pytest.fixture(scope="module")
def gemma(backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Gemma 3, whose images' tokens see each other."""
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessorPil,
        Gemma3Processor,
    )

    path = tmp_path_factory.mktemp("models") / "gemma"
    tokenizer = AutoTokenizer.from_pretrained(backbones / "language")
    names = {"image_token": "<image_soft>", "boi_token": "<boi>", "eoi_token": "<eoi>"}
    tokenizer.add_special_tokens({"additional_special_tokens": list(names.values())})
    tokenizer.save_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path, extra_special_tokens=names)
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = size | {
        "num_key_value_heads": 1, "head_dim": 16, "vocab_size": len(tokenizer), "sliding_window": 8,
        "eos_token_id": tokenizer.eos_token_id, "initializer_range": 0.3, "tie_word_embeddings": False,
    }  # fmt: skip
    vision = size | {"image_size": 28, "patch_size": 14, "vision_use_head": False}
    ids = {f"{name}_index": tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    torch.manual_seed(0)
    config = Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, tie_word_embeddings=False, **ids
    )
    Gemma3ForConditionalGeneration(config).save_pretrained(path)
    template = (
        "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% for part in m.content %}"
        "{{ '<boi>' if part.type == 'image' else part.text }}{% endfor %}"
        "{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    images = Gemma3ImageProcessorPil(size={"height": 28, "width": 28})
    Gemma3Processor(images, tokenizer, chat_template=template, image_seq_length=4).save_pretrained(path)
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> list[Prompt]:
    """Questions about two images of different sizes, and about none."""
    rng = random.Random(1)
    images: list[tuple[Path, ...]] = [()]
    for name, size in (("a.png", (40, 28)), ("b.jpg", (60, 70))):
        Image.frombytes("RGB", size, rng.randbytes(3 * size[0] * size[1])).save(tmp_path / name)
        images.append((tmp_path / name,))
    return [Prompt(images[i % 3], text, f"question {i}") for i, text in enumerate(TEXTS * 3)]


def _answers(model: Any, prompts: list[Prompt], **options: Any) -> list[str]:
    found = dict(model.answers(prompts, **({"max_new_tokens": 8, "batch_size": 64} | options)))
    return [found[index] for index in range(len(prompts))]


def test_a_checkpoint_answers_as_its_assistant(llava: Path, prompts: list[Prompt]) -> None:
    assistant, model = Assistant.load(llava, "cpu"), open_model(str(llava), device="cpu")
    assert model.name == "mine"
    single = [assistant.chat(one.images, one.text, max_new_tokens=8) for one in prompts]
    assert len(set(single)) > 6
    assert _answers(model, prompts) == single
    [(_, [yes, longer])] = model.likelihoods(prompts[1:2], [["yes", "yes no"]], batch_size=2)
    assert isinstance(yes, Likelihood)
    assert yes.tokens < longer.tokens
    assert yes.total > longer.total


def test_its_identity_is_its_content(llava: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(llava, tmp_path / "renamed"))
    same = fingerprint(llava)
    (copy / "log.jsonl").write_text("{}")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"_name_or_path": "elsewhere", "transformers_version": "9"}))
    assert fingerprint(copy) == same
    (copy / "config.json").write_text(json.dumps(config | {"vision_feature_layer": -1}))
    assert fingerprint(copy) != same
    shutil.copy(llava / "config.json", copy)
    weights = load_file(copy / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, copy / "model.safetensors")
    assert fingerprint(copy) != same
    assert open_model(str(llava), dtype="bfloat16").identity != open_model(str(llava)).identity


def test_an_adapters_identity_has_its_base(llava: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(llava, tmp_path / "base"))
    save_adapter_checkpoint(load_checkpoint(base)[0], tmp_path / "adapter", base)
    before = open_model(str(tmp_path / "adapter")).identity
    shutil.copytree(tmp_path, tmp_path.with_name("moved"))
    assert open_model(str(tmp_path.with_name("moved") / "adapter")).identity == before
    (base / "chat_template.jinja").write_text("{{ messages }}")
    assert open_model(str(tmp_path / "adapter")).identity != before


@pytest.mark.parametrize("batch_size", [64, 1])
def test_other_models_answer_in_batches_as_one_by_one(gemma: Path, prompts: list[Prompt], batch_size: int) -> None:
    model = open_model(str(gemma), device="cpu")
    assert model.name == "gemma"
    single = [_answers(model, [prompt])[0] for prompt in prompts]
    assert len(set(single)) > 6
    assert _answers(model, prompts, batch_size=batch_size) == single


def test_transformers_answers_as_our_own_engine(llava: Path, prompts: list[Prompt]) -> None:
    theirs, ours = open_model(f"hf:{llava}", device="cpu"), open_model(str(llava), device="cpu")
    assert theirs.identity != ours.identity
    plain = [Prompt(tuple(Image.open(path) for path in images), *rest) for images, *rest in prompts]
    assert _answers(theirs, plain) == _answers(ours, plain)
    choices = [["yes", "no", "a red box"][: 1 + i % 3] for i in range(len(plain))]
    expected = dict(ours.likelihoods(plain, choices, batch_size=64))
    for index, found in theirs.likelihoods(plain, choices, batch_size=2):
        assert [one.tokens for one in found] == [one.tokens for one in expected[index]]
        assert [one.total for one in found] == pytest.approx([one.total for one in expected[index]], abs=1e-3)


def test_what_is_no_model_is_one_clear_error(llava: Path, backbones: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        open_model(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="the hub cannot be read"):
        open_model("hf:nobody/nothing")
    with pytest.raises(CheckpointError, match="no processor of images and texts"):
        _answers(open_model(str(backbones / "language")), [Prompt((), "x")])
    with pytest.raises(VistuneError, match="openai:NAME"):
        open_model(str(llava), base_url="http://localhost/v1")


@pytest.mark.parametrize("kind", ["ours", "hf", "server"])
def test_an_image_that_cannot_be_read_names_the_question(
    llava: Path, prompts: list[Prompt], tmp_path: Path, teacher: Teacher, kind: str
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    specs = {"ours": str(llava), "hf": f"hf:{llava}", "server": "openai:teacher-1"}
    server = {"base_url": f"{teacher.url}/v1", "replies": tmp_path} if kind == "server" else {}
    model = open_model(specs[kind], **server)
    with pytest.raises(DataError, match=r"question 77: .*bad\.jpg: the image cannot be read"):
        _answers(model, [*prompts, Prompt((tmp_path / "bad.jpg",), "what", "question 77")])


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    with teaching() as one:
        yield one


def _server(teacher: Teacher, folder: Path, limits: Limits | None = None) -> Any:
    return open_model("openai:teacher-1", base_url=f"{teacher.url}/v1", replies=folder, limits=limits)


def test_a_server_sees_the_images_and_is_asked_once(teacher: Teacher, prompts: list[Prompt], tmp_path: Path) -> None:
    model = _server(teacher, tmp_path / "out")
    found = _answers(model, prompts, max_new_tokens=99)
    assert teacher.stats["requests"] == len({(one.images, one.text) for one in prompts}) == len(prompts)
    assert len(set(found)) > len(TEXTS)  # the same text about other images has another answer
    assert _answers(model, prompts, max_new_tokens=99) == found
    assert _answers(_server(teacher, tmp_path / "out"), prompts[::-1], max_new_tokens=99) == found[::-1]
    assert teacher.stats["requests"] == len(prompts)
    _answers(model, prompts, max_new_tokens=9)
    assert teacher.stats["requests"] == 2 * len(prompts)
    with teaching() as other:
        assert _server(other, tmp_path / "out").identity != model.identity
    with pytest.raises(VistuneError, match="no likelihoods"):
        model.likelihoods(prompts, [["a"]] * len(prompts), batch_size=1)


def test_answers_arrive_while_others_are_awaited(teacher: Teacher, prompts: list[Prompt], tmp_path: Path) -> None:
    teacher.latency = 0.05
    answers = _server(teacher, tmp_path, Limits(concurrency=1)).answers(prompts, max_new_tokens=8, batch_size=1)
    next(answers)
    assert teacher.stats["requests"] < len(prompts)
    answers.close()
    sent = teacher.stats["requests"]
    assert sent < len(prompts)
    _answers(_server(teacher, tmp_path), prompts)
    assert teacher.stats["requests"] == len(prompts)  # none of those that were answered before


def test_no_reply_is_no_empty_answer(prompts: list[Prompt], tmp_path: Path) -> None:
    found: dict[int, str] = {}
    with teaching(faults={"http_500": 0.3, "content_filter": 0.2}) as teacher:
        model = _server(teacher, tmp_path, Limits(retries=0))
        with pytest.raises(ClientError, match=r"(\d+) of 12 questions got no answer, first question \d+: \w+"):
            found |= _collected(model, prompts, found)
        assert 0 < len(found) < len(prompts)
        assert all(found.values())
        teacher.faults, sent = {}, teacher.stats["requests"]
        rest = _answers(_server(teacher, tmp_path, Limits(retry_failed=True)), prompts)
    assert teacher.stats["requests"] - sent == len(prompts) - len(found)
    assert [rest[index] for index in found] == list(found.values())


def _collected(model: Any, prompts: list[Prompt], found: dict[int, str]) -> dict[int, str]:
    for index, text in model.answers(prompts, max_new_tokens=8, batch_size=1):
        found |= {index: text}
    return found


def test_a_reply_that_was_filtered_is_requested_once_more(prompts: list[Prompt], tmp_path: Path) -> None:
    found: dict[int, str] = {}
    with teaching(faults={"filtered": 0.5}) as teacher:
        with suppress(ClientError):  # some are filtered twice
            _collected(_server(teacher, tmp_path), prompts, found)
        again, filtered = teacher.stats["requests"] - len(prompts), teacher.stats["faults"]["filtered"]
        assert len(found) == len(prompts) - (filtered - again) > len(prompts) - again
        assert all(found.values())
    with teaching(faults={"filtered": 1.0}) as teacher:
        model = _server(teacher, tmp_path)
        with pytest.raises(ClientError, match="12 of 12 questions got no answer, first question 0: the reply has no"):
            _answers(model, prompts)
        assert teacher.stats["requests"] == 2 * len(prompts)


def test_an_image_is_sent_as_every_server_reads_it(tmp_path: Path) -> None:
    picture = Image.frombytes("RGB", (8, 4), bytes(range(96)))
    picture.save(tmp_path / "plain.png")
    assert data_url(tmp_path / "plain.png").endswith(base64.b64encode((tmp_path / "plain.png").read_bytes()).decode())
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=turned)
    picture.save(tmp_path / "other.webp", lossless=True)
    for image, size in ((tmp_path / "turned.jpg", (4, 8)), (tmp_path / "other.webp", (8, 4)), (picture, (8, 4))):
        kind, _, content = data_url(image).partition(",")
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(content))).size == size

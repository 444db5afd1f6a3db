from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from assembling import assemble
from vistune.errors import CheckpointError
from vistune.model.adapter_checkpoint import open_checkpoint
from vistune.model.assistant import Assistant
from vistune.model.checkpoint import load_checkpoint, published_weights, save_checkpoint
from vistune.model.decode import PromptIds, greedy
from vistune.records import Turn

KINDS = [
    ("language", "linear", None),  # written as GELU pairs: D = 32 >= 2 V
    ("language", "mlp2x_gelu", None),
    ("narrow", "linear", "vicuna_v1"),  # D = 24 < 2 V
]


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: "-".join(map(str, kind)))
def saved(request: pytest.FixtureRequest, backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint's folder and the assembled model that was saved there."""
    language, projector, template = request.param
    model, processor = assemble(
        str(backbones / "vision"), str(backbones / language), projector=projector, chat_template=template
    )
    with torch.no_grad():  # a projector that moves the answers
        for weight in model.model.multi_modal_projector.parameters():
            weight.mul_(3)
    path = tmp_path_factory.mktemp("run") / "tuned"
    save_checkpoint(model, processor, path)
    return path, model


def _pictures() -> list[Image.Image]:
    generator = torch.Generator().manual_seed(1)
    sizes = ((40, 30), (28, 28), (20, 50))
    pixels = [torch.randint(256, (h, w, 3), generator=generator, dtype=torch.uint8) for w, h in sizes]
    return [Image.fromarray(one.numpy()) for one in pixels]


def test_transformers_finds_every_weight(saved: Any) -> None:
    path, _ = saved
    _, report = LlavaForConditionalGeneration.from_pretrained(path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_weights_have_the_published_names(saved: Any) -> None:
    path, model = saved
    with safe_open(path / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert {
        "vision_tower.vision_model.embeddings.class_embedding",
        "vision_tower.vision_model.pre_layrnorm.weight",
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "vision_tower.vision_model.post_layernorm.weight",
        "language_model.model.embed_tokens.weight",
        "language_model.model.layers.1.mlp.down_proj.weight",
        "language_model.model.norm.weight",
        "multi_modal_projector.linear_1.weight",
        "multi_modal_projector.linear_2.bias",
    } <= names
    assert ("language_model.lm_head.weight" in names) != model.config.tie_word_embeddings
    assert all(name.startswith(("vision_tower.vision_model.", "language_model.", "multi_")) for name in names)


def test_the_configs_are_complete(saved: Any) -> None:
    path, model = saved
    config = json.loads((path / "config.json").read_text())
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert config["text_config"]["architectures"] == ["LlamaForCausalLM"]
    assert config["text_config"]["vocab_size"] == model.lm_head.weight.shape[0]
    assert config["vision_config"]["image_size"] == 28
    assert config["image_seq_length"] == 4
    processor = AutoProcessor.from_pretrained(path)
    generation = json.loads((path / "generation_config.json").read_text())
    assert generation["eos_token_id"] == processor.tokenizer.eos_token_id
    assert generation["pad_token_id"] == processor.tokenizer.pad_token_id is not None
    assert (path / "chat_template.jinja").is_file()
    image_processor = json.loads((path / "processor_config.json").read_text())["image_processor"]
    assert image_processor["image_processor_type"] in ("LlavaImageProcessor", "LlavaImageProcessorPil")
    assert len({file.stat().st_mode for file in path.iterdir()}) == 1  # all can be read by those who can read one


def test_a_rendered_conversation_gets_no_second_beginning(saved: Any) -> None:
    processor = AutoProcessor.from_pretrained(saved[0])
    message = {"role": "user", "content": [{"type": "text", "text": "how many dogs"}]}
    text = processor.apply_chat_template([message], add_generation_prompt=True)
    [ids] = processor(text=[text]).input_ids
    assert ids.count(processor.tokenizer.bos_token_id) == 1


def test_the_saved_tokenizer_pads_on_the_left_and_knows_nothing_of_image_backends(
    backbones: Path, tmp_path: Path
) -> None:
    language = Path(shutil.copytree(backbones / "language", tmp_path / "language"))
    config = json.loads((language / "tokenizer_config.json").read_text())
    for side in ("right", None):  # what the language model's own file says
        config |= {"padding_side": side}
        config = {key: value for key, value in config.items() if value is not None}
        (language / "tokenizer_config.json").write_text(json.dumps(config))
        saved = tmp_path / f"saved {side}"
        save_checkpoint(*assemble(str(backbones / "vision"), str(language), projector="linear"), saved)
        save_checkpoint(*load_checkpoint(saved), tmp_path / f"again {side}")
        for path in (saved, tmp_path / f"again {side}"):
            written = json.loads((path / "tokenizer_config.json").read_text())
            assert written["padding_side"] == AutoProcessor.from_pretrained(path).tokenizer.padding_side == "left"
            assert '"pil"' not in "".join(file.read_text() for file in path.glob("*.json"))


def test_a_published_image_processor_that_knows_no_padding_is_read(saved: Any, tmp_path: Path) -> None:
    """As llava-hf/llava-1.5-7b-hf has it: CLIP's, in a file of its own."""
    path = Path(shutil.copytree(saved[0], tmp_path / "published"))
    processor = json.loads((path / "processor_config.json").read_text())
    own = processor.pop("image_processor")
    own = {key: own[key] for key in ("crop_size", "image_mean", "image_std")} | {
        "image_processor_type": "CLIPImageProcessor", "do_center_crop": True, "size": {"shortest_edge": 28},
    }  # fmt: skip
    (path / "processor_config.json").write_text(json.dumps(processor))
    (path / "preprocessor_config.json").write_text(json.dumps(own))
    answer = Assistant.load(path, "cpu").chat(_pictures()[0], "how many dogs", max_new_tokens=12)
    assert answer == _generate(path, _pictures()[0], [Turn("user", "how many dogs")], parts=False)


def test_what_is_loaded_computes_what_was_saved(saved: Any) -> None:
    path, model = saved
    features = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0))
    expected = model.model.multi_modal_projector(features)
    plain, _ = load_checkpoint(path)
    torch.testing.assert_close(plain.model.multi_modal_projector(features), expected, atol=1e-5, rtol=1e-5)
    trainable, _ = open_checkpoint(path, one_layer=True)
    assert torch.equal(trainable.model.multi_modal_projector(features), expected)
    for (name, before), (_, after) in zip(model.state_dict().items(), trainable.state_dict().items(), strict=True):
        assert torch.equal(before, after), name


def test_saving_again_gives_the_same_file(saved: Any, tmp_path: Path) -> None:
    path, _ = saved
    save_checkpoint(*open_checkpoint(path, one_layer=True), tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (path / "model.safetensors").read_bytes()


def _generate(path: Path, image: Image.Image, turns: list[Turn], parts: bool) -> str:
    """What plain transformers answers."""
    processor: Any = AutoProcessor.from_pretrained(path)
    model: Any = LlavaForConditionalGeneration.from_pretrained(path)
    messages: list[dict[str, Any]] = [{"role": turn.role, "content": turn.text} for turn in turns]
    if parts:
        messages = [{"role": turn.role, "content": [{"type": "text", "text": turn.text}]} for turn in turns]
        messages[0]["content"].insert(0, {"type": "image", "image": image})
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    else:
        messages[0]["content"] = f"<image>\n{turns[0].text}"
        text = processor.apply_chat_template(messages, add_generation_prompt=True)
        inputs = processor(images=image, text=text, add_special_tokens=False, return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return str(processor.decode(written, skip_special_tokens=True)).strip()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_file_is_as_safetensors_writes_it(saved: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    path, model = saved
    save_checkpoint(model, AutoProcessor.from_pretrained(path), tmp_path / "own", dtype)
    weights = {name: weight.to(dtype) for name, weight in published_weights(model).items()}
    save_file(weights, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "own" / "model.safetensors").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_answers_are_those_of_plain_transformers(saved: Any) -> None:
    path, _ = saved
    assistant = Assistant.load(path, "cpu")
    image = _pictures()[0]
    history: list[Turn] = []
    for question in ("how many dogs are there", "what is left of the red cat", "é 犬?"):
        answer = assistant.chat(image, question, history, max_new_tokens=12)
        turns = [*history, Turn("user", question)]
        assert answer == _generate(path, image, turns, parts=False) == _generate(path, image, turns, parts=True)
        history = [*turns, Turn("assistant", answer or "no")]


def test_answers_about_several_images_are_those_of_plain_transformers(saved: Any) -> None:
    path, _ = saved
    assistant = Assistant.load(path, "cpu")
    processor: Any = AutoProcessor.from_pretrained(path)
    a, b, c = _pictures()
    lists: list[Any] = [[a, b], [b, a], [a, b], [a], None, [c, c, a], c]
    questions = ("how many dogs", "left of what", "yes", "no", "two", "what", "left of what")
    single = [assistant.chat(one, text, max_new_tokens=10) for one, text in zip(lists, questions, strict=True)]
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": questions[0]}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=[a, b], text=text, add_special_tokens=False, return_tensors="pt")
    model: Any = LlavaForConditionalGeneration.from_pretrained(path)
    written = model.generate(**inputs, max_new_tokens=10, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert single[0] == processor.decode(written, skip_special_tokens=True).strip()
    assert assistant.answer(list(zip(lists, questions, strict=True)), max_new_tokens=10) == single
    same: list[Any] = [([a, b], text) for text in questions[:4]] + [([b, a], text) for text in questions[:2]]
    expected = [assistant.chat(images, text, max_new_tokens=10) for images, text in same]
    assert assistant.answer(same, max_new_tokens=10) == expected


def test_batched_answers_are_those_of_single_questions(saved: Any, tmp_path: Path) -> None:
    path, _ = saved
    assistant = Assistant.load(path, "cpu")
    images: list[Any] = _pictures()
    images[2].save(tmp_path / "image.png")
    images.append(tmp_path / "image.png")
    texts = ("yes", "how many dogs are there left of the cat", "what", "is there a red box above two people", "no no")
    prompts = [(image, text) for text in texts for image in images]
    single = [assistant.chat(image, text, max_new_tokens=10) for image, text in prompts]
    assert len(set(single)) > 3  # different questions have different answers
    for batch_size in (64, 7, 1):
        assert assistant.answer(prompts, max_new_tokens=10, batch_size=batch_size) == single


def test_an_answer_ends_with_its_end_of_turn(saved: Any) -> None:
    path, _ = saved
    assistant = Assistant.load(path, "cpu")
    image, config = _pictures()[0], assistant.model.generation_config
    features, tokens = assistant._see([image]), [assistant._tokens(image)]
    texts = ("yes", "how many dogs", "no")
    prompts = [PromptIds(assistant._prompt([Turn("user", text)], tokens), (0,)) for text in texts]
    whole = _decode(assistant, prompts, features)
    config.eos_token_id = [whole[0][4], whole[1][2]]
    cut = _decode(assistant, prompts, features)
    for before, after in zip(whole, cut, strict=True):
        end = next((i + 1 for i, token in enumerate(before) if token in config.eos_token_id), len(before))
        assert after == before[:end]
    assert sum(map(len, cut)) < sum(map(len, whole))


def _decode(assistant: Assistant, prompts: list[PromptIds], features: list[torch.Tensor]) -> list[list[int]]:
    written: list[list[int]] = [[] for _ in prompts]
    for tokens in greedy(assistant.model, prompts, features, 12):
        for row, token in tokens:
            written[row].append(token)
    return written


def test_a_stream_is_the_answer_in_pieces(saved: Any) -> None:
    path, _ = saved
    assistant = Assistant.load(path, "cpu")
    image = _pictures()[1]
    pieces = list(assistant.stream([Turn("user", "what is there")], image, max_new_tokens=8))
    assert len(pieces) > 2
    answer = assistant.chat(image, "what is there", max_new_tokens=8)
    assert "".join(pieces).strip().replace("\ufffd", "")[:3] == answer.replace("\ufffd", "")[:3]


def test_text_only_questions_work(saved: Any) -> None:
    path, _ = saved
    assistant = Assistant.load(path, "cpu")
    assert "".join(assistant.stream([Turn("user", "<image> is a word here")], max_new_tokens=5))


LLAVA_HF = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
    "{% for part in m['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in m['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def test_a_checkpoint_that_others_made_can_be_asked(backbones: Path, tmp_path: Path) -> None:
    """As llava-hf's: a template for parts only, which ends no answer, an `<image>` that is no special token."""
    model, processor = assemble(
        str(backbones / "vision"), str(backbones / "narrow"), projector="mlp2x_gelu", chat_template="vicuna_v1"
    )
    processor.chat_template = processor.tokenizer.chat_template = LLAVA_HF
    processor.tokenizer.add_bos_token = True
    save_checkpoint(model, processor, tmp_path / "theirs")
    config = tmp_path / "theirs" / "tokenizer.json"
    content = json.loads(config.read_text())
    next(token for token in content["added_tokens"] if token["content"] == "<image>")["special"] = False
    config.write_text(json.dumps(content))
    picture = _pictures()[0]
    text = "USER: <image>\nhow many dogs ASSISTANT:"
    theirs: Any = LlavaForConditionalGeneration.from_pretrained(tmp_path / "theirs")
    loaded: Any = AutoProcessor.from_pretrained(tmp_path / "theirs", backend="pil")
    inputs = loaded(images=picture, text=text, return_tensors="pt")
    written = theirs.generate(**inputs, max_new_tokens=10, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    answer = Assistant.load(tmp_path / "theirs", "cpu").chat(picture, "how many dogs", max_new_tokens=10)
    assert answer == loaded.decode(written, skip_special_tokens=True).strip()


def test_what_is_no_checkpoint_is_one_clear_error(backbones: Path, saved: Any, tmp_path: Path) -> None:
    path, _ = saved
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        Assistant.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="tuned"):
        Assistant.load(path.parent)
    with pytest.raises(CheckpointError, match="family 'llama'"):
        Assistant.load(backbones / "language")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "log.jsonl").write_text("")
    with pytest.raises(CheckpointError, match="its training has not finished"):
        Assistant.load(tmp_path / "half")


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        for dotted, value in changes.items():
            part, _, key = dotted.rpartition("__")
            (config[part] if part else config)[key] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


def _write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def _needs_code(folder: Path) -> None:
    _write("evil.py", "raise SystemExit('it runs')")(folder)
    settings = json.loads((folder / "processor_config.json").read_text())
    settings |= {"processor_class": "P", "auto_map": {"AutoProcessor": "evil.P"}}
    _write("processor_config.json", json.dumps(settings))(folder)


def _shards_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    _write("model.safetensors.index.json", json.dumps({"weight_map": {"lm_head.weight": "../x.safetensors"}}))(folder)


def _not_finite(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "llava_onevision"}, "of the family 'llava_onevision'; supported are llava and llava_next"),
        ({"model_type": "llava", "vision_config": {"model_type": "pixtral"}}, "vision model .* family 'pixtral'"),
        ({"model_type": "llava", "text_config": {"model_type": "mixtral"}}, "text model is of the family 'mixtral'"),
        ({"model_type": "llava", "vision_feature_layer": [-2, -5]}, "several hidden states"),
    ],
)  # fmt: skip
def test_other_peoples_models_are_refused_by_what_they_are(tmp_path: Path, config: Any, message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message) as refused:
        load_checkpoint(tmp_path)
    assert "vistune eval hf:" in refused.value.fix


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_config(vision_config__patch_size=0), "cannot be read as a model"),
        (_config(text_config__num_hidden_layers="two"), "expected int, got str"),
        (_config(text_config__hidden_size=10**9), "cannot be read as a model"),
        (_config(image_token_index=10**8), "the image's token is 100000000 for the model"),
        (_write("config.json", "[" * 100_000), "too many nested brackets"),
        (_write("tokenizer.json", "[" * 100_000), "cannot be read as a model"),
        (_write("chat_template.jinja", "{% for"), "its chat template cannot be used"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "its weights are pickles"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 99), "cannot be read as a model"),
        (_needs_code, "it needs code of its own, which is never run"),
        (_config(text_config__attn_implementation="them/attention"), "it needs code of its own.*them/attention"),
        (_shards_elsewhere, r"it names a file outside of its folder: \.\./x\.safetensors"),
        (_not_finite, "its weights are not finite"),
    ],
)
def test_a_broken_checkpoint_is_one_clear_error(
    break_it: Callable[[Path], None], message: str, backbones: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    save_checkpoint(*assemble(f"{backbones}/vision", f"{backbones}/language", projector="linear"), folder)
    break_it(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        Assistant.load(folder, "cpu")
    assert str(folder) in str(caught.value)


def test_what_cannot_be_assembled_is_one_clear_error(backbones: Path, tmp_path: Path) -> None:
    vision, language = str(backbones / "vision"), str(backbones / "language")
    with pytest.raises(CheckpointError, match="vision tower of the family 'llama' is not supported"):
        assemble(language, language, projector="linear")
    with pytest.raises(CheckpointError, match="language model of the family 'clip_vision_model'"):
        assemble(vision, vision, projector="linear")
    with pytest.raises(CheckpointError, match="no such folder"):
        assemble(str(tmp_path / "none"), language, projector="linear")
    with pytest.raises(CheckpointError, match="no hidden state -9"):
        assemble(vision, language, projector="linear", feature_layer=-9)
    with pytest.raises(CheckpointError, match="has no chat template"):
        assemble(vision, str(backbones / "narrow"), projector="linear")

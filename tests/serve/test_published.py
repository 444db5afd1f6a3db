"""A LLaVA that others published, by its hub id: it is served, chats and is exported as with transformers."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from chat_server import data_url, serving
from published_llava import publish
from vistune.cli import main
from vistune.serve.jobs import Limits

ID, QUESTION, TOKENS = "owner/llava", "two people", 3


@pytest.fixture(params=["chat_template.jinja", "chat_template.json"])
def folder(request: pytest.FixtureRequest, backbones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the id in the hub's cache; older ones have their template in JSON."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = publish(backbones, tmp_path)
    if request.param.endswith(".json"):
        template = (folder / "chat_template.jinja").read_text()
        (folder / request.param).write_text(json.dumps({"chat_template": template}))
        (folder / "chat_template.jinja").unlink()
    return folder


def theirs(folder: Path, picture: Image.Image) -> str:
    """The answer by transformers' own classes and template."""
    model: Any = LlavaForConditionalGeneration.from_pretrained(folder)
    processor: Any = AutoProcessor.from_pretrained(folder, backend="pil")
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=picture, text=text, return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return str(processor.decode(written, skip_special_tokens=True)).strip()


def test_it_answers_and_is_exported_by_its_id(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = Image.linear_gradient("L").resize((60, 40)).convert("RGB")
    picture.save(tmp_path / "a.png")
    wanted = theirs(folder, picture)
    assert re.fullmatch(r"[\w ]+", wanted)  # nothing that a terminal shows in another way
    image = {"type": "image_url", "image_url": {"url": data_url(picture)}}
    messages: list[Any] = [{"role": "user", "content": [image, {"type": "text", "text": QUESTION}]}]
    with serving(ID, Limits(batch=1)) as server:
        reply = server.client.chat.completions.create(model="tiny", messages=messages, max_tokens=TOKENS)
    assert str(reply.choices[0].message.content).strip() == wanted
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{QUESTION}\n"))
    assert main(["chat", ID, "--image", str(tmp_path / "a.png"), "--max-new-tokens", str(TOKENS)]) == 0
    assert wanted in capsys.readouterr().out
    assert main(["export", ID, "--check"]) == 0
    shown = capsys.readouterr().out
    assert "transformers  yes" in shown
    assert "vLLM          yes" in shown
    assert "images are cropped to a square" in shown  # by the published processor; llama.cpp pads
    out = tmp_path / "gguf"
    assert main(["export", ID, "--to", "gguf", "--allow-framing", "--out", str(out)]) == 0
    assert len(list(out.glob("*.gguf"))) == 2
    assert main(["export", ID, "--to", "merged", "--out", str(tmp_path / "merged")]) == 0
    assert theirs(tmp_path / "merged", picture) == wanted
    assert f"| {ID} | unknown |" in (tmp_path / "merged" / "README.md").read_text()


def test_an_id_that_cannot_be_fetched_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    for command, *options in (["serve", "--port", "0"], ["chat"], ["export", "--check"]):
        assert main([command, "owner/other", *options]) == 2
        assert "owner/other: there is no such folder, and the hub cannot be read" in capsys.readouterr().err

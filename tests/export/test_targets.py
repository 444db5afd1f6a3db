"""Ollama's files, merged folders with a model card, the upload to a hub, and who can load a checkpoint."""

from __future__ import annotations

import base64
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from assembling import assemble
from vistune.cli import main
from vistune.data.chat_template import checkpoint_template, render
from vistune.errors import CheckpointError
from vistune.export.engines import check_engines
from vistune.export.targets import exporters
from vistune.export.targets.ollama import in_go, words
from vistune.model.adapter_checkpoint import Backbones, open_checkpoint, save_adapter_checkpoint
from vistune.model.adapters import add_lora
from vistune.model.checkpoint import save_checkpoint
from vistune.recipe import schema
from vistune.recipe.training import LoraRecipe, ModelRecipe, Recipe


@pytest.fixture
def checkpoint(backbones: Path, tmp_path: Path) -> Path:
    """A checkpoint in the folder of a run, with the state that names its data."""
    run = tmp_path / "run"
    keys = {"vision_tower": str(backbones / "vision"), "language_model": str(backbones / "language")}
    stage = {"name": "tune", "data": "a.json", "trains": ["projector"], "epochs": 1, "batch_size": 2,
             "micro_batch_size": 2, "learning_rate": 1e-3}  # fmt: skip
    recipe = Recipe.model_validate({"name": "street", "model": {**keys, "projector": "linear"}, "stages": [stage]})
    model, processor = assemble(**keys, projector="linear")
    save_checkpoint(model, processor, run / "tune")
    schema.save(recipe, run / "recipe.yaml")
    (run / "tune/state/step-2").mkdir(parents=True)
    (run / "tune/state/step-2/progress.json").write_text(json.dumps({"data": "cafe42"}))
    return run / "tune"


def test_every_target_of_the_command_is_an_exporter() -> None:
    assert exporters.names() == ["gguf", "hub", "merged", "ollama"]


@pytest.mark.parametrize("size", [100, 20_000])
@pytest.mark.parametrize("target", ["gguf", "ollama", "merged"])
def test_a_full_disk_leaves_no_file(
    target: str, size: int, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = ["export", str(checkpoint), "--to", target, "--out", str(out), "--allow-framing"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        assert main(line) == 74
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"error: {out}" in capsys.readouterr().err
    assert not out.exists()
    assert main(line) == 0


def test_ollamas_template_has_the_words_of_the_chat_template(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "ollama"
    assert main(["export", str(checkpoint), "--to", "ollama", "--out", str(out), "--allow-framing"]) == 0
    modelfile = (out / "Modelfile").read_text()
    assert modelfile.startswith("FROM ./model-f16.gguf\nFROM ./mmproj-f16.gguf\n")
    assert 'PARAMETER stop "<|end|>"' in modelfile
    assert modelfile.split('"""')[1].count("{{ .Content }}") == 3
    assert sorted(file.name for file in out.iterdir()) == ["Modelfile", "mmproj-f16.gguf", "model-f16.gguf"]
    assert b".model-f16.gguf." not in (out / "model-f16.gguf").read_bytes()  # the name of the unfinished file


@pytest.mark.parametrize("name", ["vicuna_v1", "vicuna_v0", "chatml", None])
def test_words_of_templates_render_any_conversation(name: str | None, backbones: Path) -> None:
    _, processor = assemble(
        str(backbones / "vision"), str(backbones / "language"), projector="linear", chat_template=name
    )
    template = checkpoint_template(processor)
    parts = words(processor.tokenizer, template)
    turns = [("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c")]
    messages = [{"role": role, "content": text} for role, text in turns]
    assert parts.render(["a", "b", "c"], "Be brief.") == render(processor.tokenizer, template, messages, prompt=True)
    assert parts.render(["a"], None) == render(processor.tokenizer, template, messages[1:2], prompt=True)
    assert json.dumps(parts.turn, ensure_ascii=False) in in_go(parts)


def test_words_that_depend_on_the_position_are_refused(checkpoint: Path) -> None:
    _, processor = open_checkpoint(checkpoint)
    template = checkpoint_template(processor).replace("message['role'] +", "loop.index ~ message['role'] +")
    with pytest.raises(CheckpointError, match="depend on more than the role"):
        words(processor.tokenizer, template)


def test_adapters_are_merged_and_the_card_says_what_is_known(
    checkpoint: Path, backbones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = ModelRecipe(
        vision_tower=str(backbones / "vision"), language_model=str(backbones / "language"), projector="mlp2x_gelu"
    )
    base = Backbones(recipe, 0)
    model, _ = base.assemble()
    add_lora(model, LoraRecipe(rank=4), seed=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    adapters = checkpoint.parent / "adapters"
    save_adapter_checkpoint(model, adapters, base)
    measure = {"value": 0.75, "low": 0.5, "high": 0.9, "n": 20, "total": 15.0}
    scores = {"label": "x", "benchmarks": {"pope": {"n": 20, "unscored": 0, "measures": {"accuracy": measure}}}}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    out = tmp_path / "merged"
    assert main(["export", str(adapters), "--to", "merged", "--out", str(out), "--scores", str(tmp_path)]) == 0
    loaded = LlavaForConditionalGeneration.from_pretrained(out)
    assert isinstance(LlavaProcessor.from_pretrained(out), LlavaProcessor)
    expected, _ = open_checkpoint(adapters)
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight)
    _, front, card = (out / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["pipeline_tag"] == "image-text-to-text"
    assert "| pope | accuracy | 0.75 | 0.5 to 0.9 | 20 |" in card
    assert "| tune | `cafe42` |" in card
    assert "name: street" in card
    assert f"| {backbones / 'vision'} | unknown |" in card
    assert main(["export", str(adapters), "--to", "merged", "--out", str(out)]) == 2  # nothing is overwritten
    assert main(["export", str(adapters), "--to", "merged", "--out", f"{out}2", "--dtype", "q8_0"]) == 2
    assert "cannot be q8_0" in capsys.readouterr().err


def test_a_part_with_a_model_card_has_a_licence(checkpoint: Path, tmp_path: Path) -> None:
    part = tmp_path / "tower"
    part.mkdir()
    (part / "README.md").write_text("---\nlicense: mit\n---\n# Tower\n")
    recipe = checkpoint.parent / "recipe.yaml"
    content = yaml.safe_load(recipe.read_text())
    content["model"]["vision_tower"] = str(part)
    recipe.write_text(yaml.safe_dump(content))
    assert main(["export", str(checkpoint), "--to", "hub", "--out", str(tmp_path / "out")]) == 0
    assert f"| {part} | mit |" in (tmp_path / "out/README.md").read_text()


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload needs; records what it gets."""

    def do_POST(self) -> None:
        server: Any = self.server
        address = f"http://127.0.0.1:{server.server_port}/me/street"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.requests.append((self.path, self.headers["Authorization"], body))
        if self.path.endswith("/preupload/main"):
            paths = [file["path"] for file in json.loads(body)["files"]]
            self._answer({"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]})
        elif "/commit/" in self.path:
            self._answer({"commitUrl": f"{address}/commit/1", "commitOid": "1"})
        else:
            self._answer({"url": address, "id": "me/street"})

    def _answer(self, content: Any) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.requests = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_only_a_named_repository_is_uploaded_to(checkpoint: Path, tmp_path: Path, hub: Any) -> None:
    command = [sys.executable, "-m", "vistune.cli", "export", str(checkpoint), "--to", "hub", "--out"]
    environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_TOKEN": "hf_x"}
    environment.pop("HF_HUB_OFFLINE", None)
    subprocess.run([*command, str(tmp_path / "a")], env=environment, check=True)
    assert hub.requests == []
    push = [*command, str(tmp_path / "b"), "--push-to", "me/street"]
    done = subprocess.run(push, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "/me/street/commit/1" in done.stdout
    created = json.loads(hub.requests[0][2])
    assert (created["name"], created["organization"]) == ("street", "me")
    assert created.get("private") or created["visibility"] == "private"  # huggingface_hub 1 and 2
    assert all(token == "Bearer hf_x" for _, token, _ in hub.requests)
    lines = [json.loads(line) for line in hub.requests[-1][2].splitlines()]
    files = {
        line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
    }
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= files.keys()
    assert "manifest.json" not in files
    assert files["model.safetensors"] == (tmp_path / "b/model.safetensors").read_bytes()


def test_check_names_engines_and_reasons(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(checkpoint), "--check"]) == 0
    shown = capsys.readouterr().out
    for engine in ("transformers", "vLLM", "llama.cpp", "Ollama", "lmms-eval"):
        assert f"{engine:<14}yes" in shown


def test_damaged_weights_are_an_error(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(checkpoint, tmp_path / "damaged")
    (tmp_path / "damaged/model.safetensors").write_bytes(b"\xff" * 99)
    assert main(["export", str(tmp_path / "damaged"), "--check"]) == 2
    assert "fix: copy or fetch the model again" in capsys.readouterr().err


def test_vllm_lacks_the_activation_of_a_narrow_linear_projector(backbones: Path, tmp_path: Path) -> None:
    parts = assemble(
        str(backbones / "vision"), str(backbones / "narrow"), projector="linear", chat_template="vicuna_v1"
    )
    save_checkpoint(*parts, tmp_path / "narrow")
    support = {one.engine: one.obstacles for one in check_engines(tmp_path / "narrow")}
    assert not support["transformers"]
    assert not support["llama.cpp"]
    (reason,) = support["vLLM"]
    assert "activation 'linear'" in reason


def test_a_folder_without_a_checkpoint_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), "--check"]) == 2
    assert main(["export", str(tmp_path), "--to", "gguf"]) == 2
    assert "--out is missing" in capsys.readouterr().err

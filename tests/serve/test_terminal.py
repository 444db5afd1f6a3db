"""`vistune chat` as a real process: what it says is what the Python API says, turn after turn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import vistune
from vistune import Turn
from vistune.model.assemble import assemble
from vistune.model.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def checkpoint(backbones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat") / "checkpoint"
    model, processor = assemble(str(backbones / "vision"), str(backbones / "language"), projector="mlp2x_gelu")
    save_checkpoint(model, processor, folder)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{color}.png" for color in ("red", "blue")]
    for path in paths:
        Image.new("RGB", (40, 30), path.stem).save(path)
    return paths


def talk(checkpoint: Path, lines: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vistune.cli", "chat", str(checkpoint), "--max-new-tokens", "12", *options]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "10000"}
    text = "".join(f"{line}\n" for line in lines)
    return subprocess.run(command, input=text, capture_output=True, text=True, env=environment, timeout=300)


def test_it_answers_as_the_api_with_all_turns_before(checkpoint: Path, images: list[Path]) -> None:
    result = talk(
        checkpoint, ["how many dogs", "", "is there a cat", "/new", "how many dogs", "/quit"], "--image", str(images[0])
    )
    assert result.returncode == 0, result.stderr
    assistant = vistune.load(checkpoint)
    first = assistant.chat(images[0], "how many dogs", max_new_tokens=12)
    second = assistant.chat(
        images[0], "is there a cat", [Turn("user", "how many dogs"), Turn("assistant", first)], max_new_tokens=12
    )
    assert result.stdout.strip() == "\n".join([first, second, "(starting over)", first]).strip()


def test_another_image_and_one_that_is_missing(checkpoint: Path, images: list[Path]) -> None:
    result = talk(checkpoint, ["/image nowhere.png", f"/image {images[1]}", "how many dogs"], "--image", str(images[0]))
    assert result.returncode == 0, result.stderr
    assert "nowhere.png" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert vistune.load(checkpoint).chat(images[1], "how many dogs", max_new_tokens=12) in result.stdout


def test_a_wrong_image_or_checkpoint_is_one_message(checkpoint: Path, images: list[Path], tmp_path: Path) -> None:
    for arguments, named in (
        ([checkpoint, "--image", tmp_path / "none.jpg"], "none.jpg"),
        ([tmp_path / "nothing", "--image", images[0]], "nothing"),
    ):
        result = talk(arguments[0], ["hello"], *map(str, arguments[1:]))
        assert result.returncode == 2
        assert named in result.stderr
        assert "Traceback" not in result.stderr

"""`vistune chat` prints what the Python API returns, turn after turn."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import vistune
from assembling import assemble
from vistune import Turn
from vistune.cli import main
from vistune.model.checkpoint import save_checkpoint

Talk = tuple[int, str, str]
"""Exit code, standard output, standard error."""


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


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> object:
    """Run the command in this process on lines of standard input."""

    def run(checkpoint: Path, lines: list[str], *options: str) -> Talk:
        monkeypatch.setenv("COLUMNS", "10000")
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        code = main(["chat", str(checkpoint), "--max-new-tokens", "12", *options])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_a_process_answers_as_the_api_with_all_turns_before(checkpoint: Path, images: list[Path]) -> None:
    command = [sys.executable, "-m", "vistune.cli", "chat", str(checkpoint), "--max-new-tokens", "12"]
    lines = ["how many dogs", "", "is there a cat", "/new", "how many dogs", "/quit", "not answered"]
    result = subprocess.run(
        [*command, "--image", str(images[0])], input="".join(f"{line}\n" for line in lines), capture_output=True,
        text=True, env=os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "10000"}, timeout=300, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "loading ...\n")
    assistant = vistune.load(checkpoint)
    first = assistant.chat(images[0], "how many dogs", max_new_tokens=12)
    second = assistant.chat(
        images[0], "is there a cat", [Turn("user", "how many dogs"), Turn("assistant", first)], max_new_tokens=12
    )
    assert result.stdout.strip() == "\n".join([first, second, "(starting over)", first]).strip()


def test_another_image_and_one_that_is_missing(checkpoint: Path, images: list[Path], talk: type[Talk]) -> None:
    lines = ["/image nowhere.png", f"/image {images[1]}", "how many dogs", "/help"]
    code, out, _ = talk(checkpoint, lines, "--image", str(images[0]))
    assert code == 0
    assert "error: nowhere.png" in out
    assert vistune.load(checkpoint).chat(images[1], "how many dogs", max_new_tokens=12) in out
    assert "/image FILE changes the image" in out


def test_a_wrong_image_or_checkpoint_is_one_message(
    checkpoint: Path, images: list[Path], tmp_path: Path, talk: type[Talk]
) -> None:
    for folder, image, named in (
        (checkpoint, tmp_path / "none.jpg", "none.jpg"),
        (tmp_path / "nothing", images[0], "nothing"),
    ):
        code, out, err = talk(folder, ["hello"], "--image", str(image))
        assert (code, out) == (2, "")
        assert err.startswith("loading ...\nerror: ")
        assert named in err

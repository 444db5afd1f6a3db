from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vistune.cli import build_parser, main

COMMANDS = ["demo", "demo-data", "generate", "view", "train", "merge", "eval", "chat"]


def test_help_reads_like_the_flow(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    found = [
        line.split()[0] for line in lines[lines.index("commands:") :] if line.startswith("    ") and line[4] != " "
    ]
    assert found == COMMANDS


@pytest.mark.parametrize("command", [[name] for name in COMMANDS])
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: vistune {' '.join(command)}")


def test_the_help_of_train_has_every_key_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "stages.<name>.warmup_ratio (default: 0.03)" in capsys.readouterr().out


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys, vistune.cli\n"
        "vistune.cli.build_parser().format_help()\n"
        "print({'torch', 'transformers', 'numpy', 'PIL', 'pydantic'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_the_command_is_installed() -> None:
    ran = subprocess.run(
        [Path(sys.executable).with_name("vistune"), "--version"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("vistune ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "{tmp}/coc", "--out", "{tmp}/out"], "there is no such folder\n  fix: did you mean 'coco'?"),
        (["generate", "{tmp}/coco", "--out", "{tmp}/out", "--split", "tran"], "fix: did you mean 'train'?"),
        (["generate", "{tmp}/coco", "--out", "{tmp}/out", "--source", "cocoo"], "unknown annotation source 'cocoo'"),
        (["generate", "{tmp}/coco", "--out", "{tmp}/out", "--teacher", "simbolic"], "fix: did you mean 'symbolic'?"),
        (["generate", "{tmp}/coco", "--out", "{tmp}/out", "--format", "lava"], "fix: did you mean 'llava'?"),
        (["eval", "{tmp}/checkpoint", "--data", "{tmp}/coco", "--out", "{tmp}/out"], "there is no split 'test'"),
        (["train", "{tmp}/recipe.yaml", "--out", "{tmp}/out"], "recipe.yaml: there is no such recipe"),
        (["demo-data", "--out", "{tmp}/coco/captions_train.json"], "captions_train.json"),
    ],
)
def test_a_mistake_is_one_message_and_no_traceback(
    coco: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.replace("{tmp}", str(coco.parent)) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert len(printed.err.splitlines()) <= 2
    assert printed.out == ""


def test_a_process_ends_with_the_exit_code_and_the_message_alone(coco: Path) -> None:
    command = [sys.executable, "-m", "vistune.cli", "generate", str(coco / "x"), "--out", str(coco / "out")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", f"error: {coco / 'x'}: there is no such folder\n")


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vistune.cli._demo", interrupt)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("seed", ["-1", "x", "1.5"])
def test_a_seed_is_a_whole_number(seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(["demo", "--seed", seed])
    assert caught.value.code == 2
    assert f"'{seed}' is not a whole number" in capsys.readouterr().err


def test_demo_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--train", "3", "--val", "1", "--test", "2"]
    assert main(["demo-data", "--out", str(tmp_path / "emoji"), "--seed", "4", *sizes]) == 0
    assert len(list((tmp_path / "emoji" / "images").glob("*.jpg"))) == 6
    assert "6 images" in capsys.readouterr().out

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vistune
from vistune.cli import main
from vistune.recipe import schema
from vistune.recipe.training import Recipe

COMMANDS = [
    "demo",
    "demo-data",
    "generate",
    "view",
    "import",
    "scienceqa",
    "split",
    "init",
    "train",
    "merge",
    "eval",
    "rescore",
    "report",
    "ablate",
    "chat",
    "serve",
    "export",
    "recipes",
    "env",
]


def help_of(*command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_help_lists_the_commands_in_the_order_of_the_flow(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys=capsys)
    lines = text.splitlines()
    listed = [
        line.split()[0] for line in lines[lines.index("commands:") :] if line.startswith("    ") and line[4] != " "
    ]
    assert listed == COMMANDS
    assert main([]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_fits_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = help_of(command, capsys=capsys)
    assert text.startswith(f"usage: vistune {command}")
    assert max(map(len, text.splitlines())) <= 80


def test_the_help_of_train_has_every_key_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert "stages.<name>.warmup_ratio (default: 0.03)" in help_of("train", capsys=capsys)


def test_help_and_generate_do_not_load_pytorch(coco: Path) -> None:
    script = (
        "import sys, vistune.cli\n"
        "assert vistune.cli.main(sys.argv[1:]) == 0\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), sys.modules"
    )
    for arguments in ([], ["generate", str(coco), "--out", str(coco.parent / "out")]):
        subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, check=True)


def test_the_command_is_installed_and_prints_the_version() -> None:
    command = Path(sys.executable).with_name("vistune")
    ran = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"vistune {vistune.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["generate", "{tmp}/coc", "--out", "{tmp}/out"],
            "there is no such file or folder\n  fix: did you mean 'coco'?",
        ),
        (["generate", "{tmp}/coco", "--out", "{tmp}/out", "--split", "tran"], "fix: did you mean 'train'?"),
        (["generate", "{tmp}/coco", "--out", "{tmp}/out", "--source", "cocoo"], "unknown annotation source 'cocoo'"),
        (["generate", "{tmp}/coco", "--out", "{tmp}/out", "--teacher", "simbolic"], "fix: did you mean 'symbolic'?"),
        (
            ["generate", "{tmp}/coco", "--out", "{tmp}/out", "--format", "lava"],
            "--format: unknown value 'lava'\n  fix: did you mean 'llava'?",
        ),
        (["generate", "--out", "{tmp}/out"], "the annotated images are missing\n  fix: vistune generate DATA"),
        (["eval", "{tmp}/checkpoint", "--data", "{tmp}/coco", "--out", "{tmp}/out"], "there is no split 'test'"),
        (["train", "{tmp}/recipe.yaml", "--out", "{tmp}/out"], "recipe.yaml: there is no such recipe"),
        (["train", "minni", "--out", "{tmp}/out"], "minni: there is no such recipe\n  fix: did you mean 'mini'?"),
        (["demo-data", "--out", "{tmp}/coco/captions_train.json"], "captions_train.json"),
        (["trian"], "unknown command 'trian'\n  fix: did you mean 'train'?"),
        (["train", "mini", "--uot", "x"], "unknown option --uot of vistune train\n  fix: did you mean '--out'?"),
        (["train"], "the following arguments are required: RECIPE\n  fix: see vistune train --help"),
        (["demo", "--seed", "-1"], "--seed: '-1' is not a whole number from 0 up"),
        (["demo", "--seed", "1.5"], "--seed: '1.5' is not a whole number from 0 up"),
        (["view", "x", "--box-format", "xyxyx"], "--box-format: unknown value 'xyxyx'\n  fix: did you mean 'xyxy'?"),
        (["recipes", "minni"], "minni: there is no such recipe\n  fix: did you mean 'mini'?"),
    ],
)
def test_a_mistake_is_one_message_without_usage_or_traceback(
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
    assert (ran.returncode, ran.stdout, ran.stderr) == (
        2,
        "",
        f"error: {coco / 'x'}: there is no such file or folder\n  fix: check the path\n",
    )


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vistune.demo.dataset.write_dataset", interrupt)
    assert main(["demo-data", "--out", "x"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_slow_command_says_at_once_that_it_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", str(tmp_path / "nothing")]) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == "loading ..."
    assert rest[0].startswith("error: ")


def test_demo_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--train", "3", "--val", "1", "--test", "2"]
    assert main(["demo-data", "--out", str(tmp_path / "emoji"), "--seed", "4", *sizes]) == 0
    assert len(list((tmp_path / "emoji" / "images").glob("*.jpg"))) == 6
    assert "6 images" in capsys.readouterr().out


def test_recipes_are_listed_and_printed_as_files_to_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    assert "\nmini " in capsys.readouterr().out
    assert main(["recipes", "llava-v1.5-7b"]) == 0
    (tmp_path / "my.yaml").write_text(capsys.readouterr().out)
    assert schema.load(Recipe, tmp_path / "my.yaml") == schema.load(Recipe, Path("llava-v1.5-7b"))


@pytest.mark.parametrize(
    ("line", "completed"), [("vistune tr", {"train "}), ("vistune generate --max-", {"--max-tokens", "--max-usd"})]
)
def test_the_shell_completes_commands_and_options(line: str, completed: set[str], tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    environment = os.environ | {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "completions"),
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "vistune.cli"], env=environment, check=True)
    assert completed <= set((tmp_path / "completions").read_text().split("\n"))


def test_view_takes_boxes_and_captions_from_the_annotations(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = coco.parent / "out"
    assert main(["generate", str(coco), "--out", str(out)]) == 0
    assert main(["view", str(out), "--annotations", str(coco), "--split", "train"]) == 0
    printed = capsys.readouterr()
    assert printed.out.endswith(f"samples: {out / 'view.html'}\n")
    assert printed.err.endswith(f"{coco}: detected as coco\n")
    page = (out / "view.html").read_text()
    assert "<rect" in page
    assert "does not exist" not in page

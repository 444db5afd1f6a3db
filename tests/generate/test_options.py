"""What `vistune generate` says to options that cannot be meant."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from generating import annotations, command, report, run, start
from teacher_server import teaching
from vistune.cli import main
from vistune.errors import VistuneError
from vistune.generate.kinds import prompt_folder
from vistune.llm.budget import Limits


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return annotations(tmp_path, 12)


def generate(data: Path, *options: str) -> int:
    """The command's exit code, in this process."""
    return main(["generate", str(data), "--source", "caps_boxes", *options])


@pytest.mark.parametrize("name", ["pilot", "limit", "concurrency", "max-total-tokens"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "9" * 30])
def test_a_number_of_things_is_at_least_one(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "data", "--out", "out", f"--{name}={value}"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: --{name}: ")
    assert value in printed


@pytest.mark.parametrize("name", ["max-usd", "timeout"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e300", "much"])
def test_time_and_money_are_numbers_above_zero(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "data", "--out", "out", f"--{name}={value}"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: --{name}: should be ")
    assert f"(it is '{value}')" in printed


@pytest.mark.parametrize("cap", [0, -1, float("nan"), float("inf")])
def test_a_cap_from_python_is_one(cap: float) -> None:
    with pytest.raises(VistuneError, match="is not positive"):
        Limits(max_usd=cap)


def test_merge_may_be_repeated(data: Path, tmp_path: Path) -> None:
    with teaching() as teacher:
        shards = [tmp_path / str(number) for number in (1, 2, 3)]
        for number, shard in enumerate(shards, 1):
            run(command(data, teacher.url, shard, "--shard", f"{number}/3"))
        asked = teacher.stats["requests"]
        options = [option for shard in shards for option in ("--merge", str(shard))]
        run(command(data, teacher.url, tmp_path / "merged", *options))
        assert teacher.stats["requests"] == asked
    assert report(tmp_path / "merged")["asked"] == 12


def test_a_run_is_not_merged_into_itself(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert generate(data, "--out", str(out)) == 0
    assert generate(data, "--out", str(out), "--merge", f"{out}/../out") == 2
    assert "out: a run cannot be merged into itself\n  fix: leave it out of --merge" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--base-url", "http://x/v1"], ["--key-env", "X"], ["--headers", "a=b"]])
def test_an_option_of_another_teacher(option: list[str], data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(data, "--show", *option) == 2
    name = option[0].removeprefix("--").replace("-", "_")
    message = f"'symbolic' has no option {name}\n  fix: it is an option of: anthropic, batch, openai"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("teacher", ["openai:gpt-x", "anthropic:x", "batch:gpt-x"])
def test_where_nobody_is_asked_no_key_is_needed(
    teacher: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert generate(data, "--show", "--limit", "1", "--teacher", teacher) == 0
    assert "image 0: conversation\n" in capsys.readouterr().out
    assert generate(data, "--dry-run", "--out", str(tmp_path / "out"), "--teacher", teacher) == 0
    assert "36 requests" in capsys.readouterr().out
    assert generate(data, "--out", str(tmp_path / "out"), "--teacher", teacher) == 2
    assert "_API_KEY is not set" in capsys.readouterr().err


def test_show_names_the_teacher(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(data, "--show", "--limit", "1") == 0
    assert "This is what the teacher 'symbolic' sees." in capsys.readouterr().out


def test_show_ends_quietly_when_nobody_reads_on(tmp_path: Path) -> None:
    data = annotations(tmp_path, 2_000)
    line = [sys.executable, "-m", "vistune.cli", "generate", str(data), "--source", "caps_boxes", "--show"]
    with start(line) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_kind_of_ones_own_has_to_be_named_and_written_by_a_model(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(Path(str(prompt_folder() / "reasoning")), tmp_path / "kinds" / "riddle")
    own = ("--kind-dir", str(tmp_path / "kinds"), "--out", str(tmp_path / "out"))
    assert generate(data, *own) == 0
    assert "not requested: riddle; add it to --kinds, as in --kinds riddle\n" in capsys.readouterr().err
    assert generate(data, *own, "--kinds", "riddle") == 2
    told = capsys.readouterr().err
    assert "not requested" not in told
    assert "has no rules for the kind 'riddle'\n  fix: use another --teacher" in told


def test_no_kind_is_not_every_kind(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(data, "--show", "--kinds", "") == 2
    assert "--kinds: a kind has no name in ''" in capsys.readouterr().err


def test_what_the_data_lacks_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": f"{n}", "image": f"{n}.jpg", "captions": ["A dog."] * n, "instances": []} for n in (0, 1)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert generate(tmp_path / "data.jsonl", "--out", str(tmp_path / "out")) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "3 samples not requested: the image lacks what the kind shows to the teacher" in printed
    assert "3 samples are empty (empty_reply): the symbolic teacher writes from boxes, and there are none" in printed
    assert "fix: name a --teacher" in printed


def test_a_recipe_holds_the_options_and_those_given_take_precedence(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "run.yaml"
    recipe.write_text(f"data: {data}\nsource: caps_boxes\nkinds: {{detail: 3}}\nlimit: 5\n")
    assert main(["generate", "--recipe", str(recipe), "--show"]) == 0
    printed = capsys.readouterr().out
    assert "5 images" in printed
    assert "image 0: detail" in printed
    assert main(["generate", "--recipe", str(recipe), "--show", "--limit", "2", "--kinds", "reasoning"]) == 0
    printed = capsys.readouterr().out
    assert "2 images" in printed
    assert "image 0: reasoning" in printed
    recipe.write_text("tempo: 3\n")
    assert main(["generate", str(data), "--recipe", str(recipe), "--show"]) == 2
    assert "run.yaml: tempo: unknown key" in capsys.readouterr().err


def test_a_key_in_a_header_is_not_printed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(data, "--show", "--headers", "a=b", "--headers", "Bearer-of-a-key") == 2
    printed = capsys.readouterr().err
    assert "--headers: header number 2 is not NAME=VALUE" in printed
    assert "Bearer" not in printed


def test_a_format_that_is_detected_is_printed(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(data), "--show", "--limit", "1"]) == 0
    missing = f"1 of 1 image files are missing, such as {data.parent / '0.jpg'}\n"
    assert capsys.readouterr().err == f"{data}: detected as caps_boxes\n{missing}"
    assert generate(data, "--show", "--limit", "1") == 0
    assert capsys.readouterr().err == missing
    (tmp_path / "empty").mkdir()
    assert main(["generate", str(tmp_path / "empty"), "--show"]) == 2
    assert "empty: no annotation format is recognised: it is empty\n  fix: the formats are " in capsys.readouterr().err


@pytest.mark.parametrize("value", ["{", "[1]", "enable_thinking=false"])
def test_extra_body_is_an_object_in_json(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "data", "--out", "out", f"--extra-body={value}"]) == 2
    assert "is not an object in JSON" in capsys.readouterr().err

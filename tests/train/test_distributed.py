"""Several real processes, which exchange gradients by gloo."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vistune.model.adapter_checkpoint import Backbones
from vistune.model.checkpoint import published_weights
from vistune.recipe import schema
from vistune.recipe.training import Recipe
from vistune.train.run import train

# What torchrun and `accelerate launch` do in each process.
CODE = """
import os, signal, sys
os.environ |= environment
os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1), os.dup2(1, 2)
from vistune.cli import main

def hook(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith(last):
        exec(then)

sys.addaudithook(hook)
sys.exit(main(["train", recipe, "--out", out]))
"""
DDP: dict[str, str] = {}
FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
Launch = Callable[..., tuple[list[int | None], str]]


@pytest.fixture
def launch(start: Any, tmp_path: Path) -> Launch:
    """Trains a recipe in two processes; the first does `then` when `last` is about to get its name."""

    def begin(recipe: Recipe, out: Path, how: dict[str, str], last: str = "nothing", then: str = "") -> Any:
        schema.save(recipe, tmp_path / "recipe.yaml")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        names = {"recipe": str(tmp_path / "recipe.yaml"), "out": str(out), "last": last}
        processes = []
        for rank in ("0", "1"):
            environment = {**common, "RANK": rank, "LOCAL_RANK": rank, **how}
            output = str(tmp_path / f"output-{rank}")
            process = start(CODE, environment=environment, output=output, then=then if rank == "0" else "", **names)
            processes.append(process)
        for process in processes:
            process.join()
        output = "".join((tmp_path / f"output-{rank}").read_text() for rank in (0, 1))
        return [process.exitcode for process in processes], output

    return begin


@pytest.fixture(scope="session")
def small_rate(make_recipe: Any) -> Callable[[int], Recipe]:
    """A recipe by its micro-batch size. AdamW enlarges rounding errors to a share of the learning rate."""
    held_out = make_recipe().stages[1].data
    return lambda size: make_recipe(
        batch_size=8, micro_batch_size=size, learning_rate=1e-3, epochs=2, validation_data=held_out
    )


@pytest.fixture(scope="session")
def alone(small_rate: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    out = tmp_path_factory.mktemp("alone")
    train(small_rate(8), out)
    return out


def _assert_close(out: Path, other: Path, stage: str = "tune") -> None:
    """Both runs ended with the same weights and the same losses."""
    found, weights = (load_file(run / stage / "model.safetensors") for run in (out, other))
    assert found.keys() == weights.keys()
    for name, weight in weights.items():
        if name.startswith("vision") and name.endswith("k_proj.bias"):
            continue  # a softmax does not depend on it: its gradient is nothing but rounding errors
        # a twentieth of a step at the rate of 1e-3: two processes' sums round otherwise, and AdamW enlarges that
        torch.testing.assert_close(found[name], weight, atol=5e-5, rtol=1e-5)
    logs = [[json.loads(line) for line in (run / stage / "log.jsonl").read_text().splitlines()] for run in (out, other)]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]
    for key in ("loss", "val_loss", "grad_norm", "rewards/chosen", "rewards/margins"):
        figures = [[line[key] for line in log if key in line] for log in logs]
        assert figures[0] == pytest.approx(figures[1], rel=1e-5 if "loss" in key else 1e-4), key


@pytest.mark.parametrize("how", [DDP, FSDP2], ids=["ddp", "fsdp2"])
def test_two_processes_end_with_the_weights_of_one(
    launch: Launch, small_rate: Any, alone: Any, tmp_path: Path, how: dict[str, str]
) -> None:
    kinds = "import gc; print('layers:', {name for o in gc.get_objects() if 'LlamaDec' in (name := type(o).__name__)})"
    codes, output = launch(small_rate(2), tmp_path / "run", how, "tune/state/step-00000002", kinds)
    assert codes == [0, 0], output
    assert f"layers: {{'{'FSDP' if how else ''}LlamaDecoderLayer'}}" in output
    _assert_close(tmp_path / "run", alone)


@pytest.mark.parametrize("how", [DDP, FSDP2], ids=["ddp", "fsdp2"])
def test_frozen_weights_held_in_bfloat16_come_back_unrounded(
    launch: Launch, make_recipe: Any, tmp_path: Path, how: dict[str, str]
) -> None:
    recipe = make_recipe(epochs=1).model_copy(update={"precision": "bf16"})
    stages = [recipe.stages[0].model_copy(update={"name": name, "trains": ["lora"]}) for name in ("tune", "again")]
    codes, output = launch(recipe.model_copy(update={"stages": stages}), tmp_path / "run", how)
    assert codes == [0, 0], output
    base = published_weights(Backbones(recipe.model, recipe.seed).assemble()[0])
    tuned, again = (load_file(tmp_path / "run" / name / "model.safetensors") for name in ("tune", "again"))
    for name, weight in base.items():
        if "proj" not in name or not name.startswith("language_model."):
            assert torch.equal(tuned[name], weight), name
            assert torch.equal(again[name], weight), name
    adapted = "language_model.model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(tuned[adapted], base[adapted])


@pytest.mark.parametrize("how", [DDP, FSDP2], ids=["ddp", "fsdp2"])
def test_a_process_without_images_does_not_keep_the_others_waiting(
    launch: Launch, make_recipe: Any, tmp_path: Path, how: dict[str, str]
) -> None:
    recipe = make_recipe(batch_size=2, micro_batch_size=1, epochs=1, learning_rate=1e-3)
    stages = [recipe.stages[0], recipe.stages[1].model_copy(update={"trains": ["projector", "language", "vision"]})]
    recipe = recipe.model_copy(update={"stages": stages})
    codes, output = launch(recipe, tmp_path / "run", how)
    assert codes == [0, 0], output
    train(recipe, tmp_path / "alone")
    _assert_close(tmp_path / "run", tmp_path / "alone")


@pytest.mark.parametrize("how", [DDP, FSDP2], ids=["ddp", "fsdp2"])
def test_two_processes_prefer_as_one(launch: Launch, dpo: Recipe, tmp_path: Path, how: dict[str, str]) -> None:
    changes = {"learning_rate": 1e-3, "micro_batch_size": 1, "validation_data": dpo.stages[0].data}
    recipe = dpo.model_copy(update={"stages": [dpo.stages[0].model_copy(update=changes)]})
    codes, output = launch(recipe, tmp_path / "run", how)
    assert codes == [0, 0], output
    train(recipe, tmp_path / "alone")
    _assert_close(tmp_path / "run", tmp_path / "alone", "prefer")


@pytest.mark.parametrize(("how", "then"), [(DDP, FSDP2), (FSDP2, {})], ids=["ddp-fsdp2", "fsdp2-ddp"])
def test_stopped_in_one_process_all_stop_and_go_on_laid_out_otherwise(
    launch: Launch, small_rate: Any, alone: Any, tmp_path: Path, how: dict[str, str], then: dict[str, str]
) -> None:
    """A signal to one of the processes while a state is written."""
    run = tmp_path / "run"
    codes, output = launch(small_rate(2), run, how, "tune/state/step-00000002", "os.kill(os.getpid(), signal.SIGTERM)")
    assert codes == [128 + signal.SIGTERM] * 2, output
    assert "Traceback" not in output
    codes, output = launch(small_rate(2), run, then)
    assert codes == [0, 0], output
    _assert_close(run, alone)


def test_killed_they_go_on_to_the_same_weights(launch: Launch, small_rate: Any, tmp_path: Path) -> None:
    for name, then in (("whole", ""), ("killed", "os.kill(os.getpid(), signal.SIGKILL)")):
        codes, _ = launch(small_rate(4), tmp_path / name, FSDP2, "tune/config.json", then)
        assert codes[0] == (-signal.SIGKILL if then else 0)
    codes, output = launch(small_rate(4), tmp_path / "killed", FSDP2)
    assert codes == [0, 0], output
    files = [tmp_path / name / "tune" / "model.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_environment_of_accelerate_does_not_change_the_training(start: Any, finished: Any, tmp_path: Path) -> None:
    recipe, out = finished
    environment = {
        "ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
        "ACCELERATE_DYNAMO_BACKEND": "eager",
    }  # fmt: skip
    code = "import os; os.environ |= environment; from vistune.train.run import train; train(recipe, out)"
    process = start(code, environment=environment, recipe=recipe, out=tmp_path)
    process.join()
    assert process.exitcode == 0
    for stage in ("align", "tune"):
        files = [run / stage / "model.safetensors" for run in (tmp_path, out)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_mistake_is_printed_once_and_ends_all(launch: Launch, make_recipe: Any, tmp_path: Path) -> None:
    codes, output = launch(make_recipe(batch_size=1, micro_batch_size=1), tmp_path / "run", DDP)
    assert codes == [2, 2]
    assert output.count("error: stages.align.batch_size: 1 conversations cannot be shared out to 2 processes") == 1
    codes, output = launch(make_recipe(data=str(tmp_path / "none.json")), tmp_path / "other", DDP)
    assert codes == [2, 2]
    assert output.count("there is no such file") == 1
    codes, output = launch(make_recipe(), tmp_path / "run", {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"})
    assert codes == [2, 2]
    assert "only version 2 of FSDP is supported" in output
    assert not (tmp_path / "run").exists()

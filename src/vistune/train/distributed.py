"""Training in several processes, by `torchrun` or `accelerate launch`: whole copies (DDP) or shards (FSDP2).

Shards are torch's `fully_shard` itself: Accelerate, which starts the processes, shards on GPUs only, and the same
code shall run, and be tested, everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, DistributedType  # type: ignore[import-untyped]
from accelerate.utils import (  # type: ignore[import-untyped]
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    broadcast_object_list,
)
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from vistune.errors import RecipeError, VistuneError
from vistune.train.target_loss import TargetLoss

T = TypeVar("T")
_LONGEST_WAIT = timedelta(days=1)
"""Of processes for the main one, which evaluates and writes checkpoints; NCCL itself would give up after 10 minutes."""


def start_processes() -> Accelerator:
    """Accelerate's view of this process and the others. Raises RecipeError for an unsupported kind of distribution."""
    alone = "LOCAL_RANK" not in os.environ
    # what is not given, Accelerate takes from its environment variables; but the recipe decides how to train
    accelerator = Accelerator(
        cpu=None if alone or torch.accelerator.is_available() else True, mixed_precision="no", dynamo_backend="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST_WAIT)],
    )  # fmt: skip
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise RecipeError("DeepSpeed is not supported", fix="accelerate launch --use_fsdp --fsdp_version 2")
    if is_sharded() and os.environ.get("FSDP_VERSION", "1") != "2":
        raise RecipeError("only version 2 of FSDP is supported", fix="--fsdp_version 2, or FSDP_VERSION=2")
    return accelerator


def is_sharded() -> bool:
    """Whether `accelerate launch --use_fsdp` started this process, or the user set its variable for `torchrun`."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1")


def end_processes() -> None:
    """Leave the process group, if there is one: threads that still communicate may abort the exit."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def decide(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """Run `work` in the main process; returns its result in all. If it raises a VistuneError, the others just end."""
    outcome: list[Any] = [None, 0]  # result, exit code
    failed = None
    if accelerator.is_main_process:
        try:
            outcome[0] = work()
        except VistuneError as error:
            failed, outcome[1] = error, error.exit_code
    outcome = broadcast_object_list(outcome)
    if failed:
        raise failed
    if outcome[1]:
        raise SystemExit(outcome[1])
    result: T = outcome[0]
    return result


def main_first(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """Run `work` in each process, in the main one first, so that an error is printed once."""
    done: list[T] = []
    decide(accelerator, lambda: done.append(work()))
    return done[0] if done else work()


def prepare(
    accelerator: Accelerator, module: TargetLoss, optimizer: Callable[[], torch.optim.Optimizer],
    half: torch.dtype | None = None,
) -> tuple[nn.Module, torch.optim.Optimizer]:  # fmt: skip
    """The module in all processes, and its optimizer. Raises RecipeError for weights that cannot be sharded.

    Shards are gathered in the dtype `half` of autocast, if there is one, and gradients are added up in float32.
    """
    if is_sharded() and accelerator.num_processes > 1:
        if not all(weight.is_floating_point() for weight in module.parameters()):
            raise RecipeError("quantised weights cannot be sharded", where="model", fix="train without --use_fsdp")
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        # the residual stream between the layers stays in float32
        policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for part in (*module.model.model.language_model.layers, module):
            _receive(part, module.model, accelerator.device)  # no more than a layer is whole on a device
            fully_shard(part, mesh=mesh, mp_policy=policy)
        return module, optimizer()
    if any(weight.is_meta for weight in module.parameters()):
        _allocate(module, module.model, accelerator.device)  # DDP broadcasts the main process's weights and buffers
    prepared: tuple[nn.Module, torch.optim.Optimizer] = accelerator.prepare(module, optimizer())
    return prepared


def _receive(part: nn.Module, model: PreTrainedModel, device: torch.device) -> None:
    """Put weights and buffers on the device, those without shards, with the values of the main process."""
    if all(weight.is_meta for weight in part.parameters() if not isinstance(weight, DTensor)):
        _allocate(part, model, device)
    else:
        part.to(device)
    for tensor in (*part.parameters(), *part.buffers()):
        if not isinstance(tensor, DTensor):
            torch.distributed.broadcast(tensor.detach(), 0)


def _allocate(part: nn.Module, model: PreTrainedModel, device: torch.device) -> None:
    """Memory on the device for what is on `meta`."""
    for inner in part.modules():
        if any(weight.is_meta for weight in (*inner.parameters(recurse=False), *inner.buffers(recurse=False))):
            inner.to_empty(device=device, recurse=False)
    model.tie_weights()  # which this has untied


def averaged_over(accelerator: Accelerator) -> int:
    """What the exchange divides the sum of the processes' gradients by: their number, or 1 if it only adds them up."""
    count: int = accelerator.num_processes
    if not (is_sharded() and count > 1):
        return count
    mean, ones = torch.empty(1, device=accelerator.device), torch.ones(count, device=accelerator.device)
    # of shards, gloo of torch 2.7 computes no average but the sum
    torch.distributed.reduce_scatter_tensor(mean, ones, torch.distributed.ReduceOp.AVG)
    return round(count / mean.item())


@contextmanager
def accumulation(module: nn.Module, local: bool) -> Iterator[None]:
    """While `local`, gradients add up in each process; otherwise the processes exchange them in the backward pass.

    Shards are always exchanged: gradients that add up in each process would be whole ones.
    """
    unsynced: Any = getattr(module, "no_sync", nullcontext)
    with unsynced() if local else nullcontext():
        yield


def gathered(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """The whole tensors, on the CPU, or none without `keep`. All processes have to call this."""
    whole = {}
    for name, tensor in tensors.items():
        # a copy, as the whole of uneven shards is a view of more memory
        full = tensor.full_tensor().to("cpu", copy=keep) if isinstance(tensor, DTensor) else tensor.cpu()
        if keep:
            whole[name] = full.detach().contiguous()
    return whole


def laid_out(whole: Tensor, weight: Tensor) -> Tensor:
    """A whole tensor where and as `weight` is: its own shard, if it is one of the same shape."""
    if isinstance(weight, DTensor) and weight.shape == whole.shape:
        moved = whole.to(weight.to_local().device)
        return distribute_tensor(moved, weight.device_mesh, weight.placements, src_data_rank=None)
    return whole.to(weight.device)


def unshard(module: nn.Module, *, keep: bool) -> None:
    """Make sharded weights whole, on the CPU, for saving; without `keep` they become empty.

    The module cannot be trained any more. All processes have to call this.
    """
    if not isinstance(module, FSDPModule):
        return
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
    whole: dict[int, nn.Parameter] = {}  # a weight that two modules share stays one
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            if id(weight) not in whole:
                full = gathered({"": weight}, keep=keep).get("", torch.empty(0))
                whole[id(weight)] = nn.Parameter(full, requires_grad=weight.requires_grad)
            setattr(part, name, whole[id(weight)])

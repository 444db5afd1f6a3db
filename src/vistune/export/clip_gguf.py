"""CLIP's tower in a form that llama.cpp runs right, although it has the class token in the wrong row.

llama.cpp (clip_graph_llava, read at llama-cpp-python 0.3.36) puts the class token after the N patches, and after the
tower takes rows 1 to N for the patches: the first patch is lost, the class token comes last. No key changes that. So
the file has one more block in front, whose attention moves every row down by one: row 0 gets the class token, row r
the patch r - 1. It is exact but for rounding, as every row attends to the one before it alone:

- The states get 32 more dimensions, which hold a code of the row (from the table of positions). Layer norms must not
  notice: the states are centred, which no layer norm sees, their mean is kept in one of the new dimensions for the
  projector, and the weights of the norms compensate for the new width.
- The norm before the blocks makes the states small (1 / _SMALL) but for rounding equally long. The first block's norm
  is then linear, its attention copies the row before, and its output applies the weights of the norm before the blocks.
  What was in the row stays in the sum, too small to matter.
"""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_EXTRA = 32
"""New dimensions: the mean, then the code; the rest is zero. q8_0 has blocks of 32."""
_MEAN = 0.25
"""The mean is stored with this factor, so that it barely adds to the norms."""
_WAVES = 7
"""Frequencies of a row's code."""
_CODE = 4 * _WAVES + 2
"""Dimensions of a code: cosines and sines, a constant, then all of them negated, so that their sum is zero."""
_SMALL = 4096.0
_KEY = 1.5e4
"""Largest value of a key, for a patch without content; float16, in which llama.cpp may keep keys, ends at 65504."""
_SIMILAR = 0.9
"""Codes of different rows have a smaller cosine than this."""


def widened(tower: Any) -> int:
    """The number of dimensions of the states in the file.

    Never that of the MLP, whose two matrices llama.cpp would swap.
    """
    first = tower.hidden_size + _EXTRA
    fits = (n for n in count(first, 32) if n % tower.num_attention_heads == 0 and n != tower.intermediate_size)
    return int(next(fits))


def shifted_rows(tensors: dict[str, Tensor], tower: Any) -> dict[str, Tensor]:
    """The tensors of a CLIP tower (of that config) and its projector, by llama.cpp's names, with the block in front.

    The table of positions has the class token's first. Every `v.blk.N` becomes `v.blk.N+1`.
    """
    new = _Widening(tower.hidden_size, widened(tower), tower.num_attention_heads)
    found = {
        "v.class_embd": new.write(tensors["v.class_embd"], mean=False),
        "v.patch_embd.weight": new.write(tensors["v.patch_embd.weight"], mean=False),
    }
    found |= new.front(tensors, widened_eps(tower))
    for name, weight in tensors.items():
        if name.startswith("v.blk."):
            number, _, part = name.removeprefix("v.blk.").partition(".")
            found[f"v.blk.{int(number) + 1}.{part}"] = new.inside(part, weight)
        elif name.startswith("mm."):
            found[name] = new.read(weight) if name == "mm.0.weight" else weight
    return found


def widened_eps(tower: Any) -> float:
    """The epsilon of the norms over the states in the file."""
    return float(tower.layer_norm_eps * tower.hidden_size / widened(tower))


class _Widening:
    """A tower's weights for states of `wide` dimensions in place of `width`."""

    def __init__(self, width: int, wide: int, heads: int) -> None:
        self._width, self._wide, self._heads = width, wide, heads
        self._norm = math.sqrt(width / wide)  # what a layer norm's output shrinks to

    def write(self, weight: Tensor, *, mean: bool = True) -> Tensor:
        """Weights (width, …) whose output is added to the states, as (wide, …)."""
        average = weight.mean(0, keepdim=True)
        kept = _MEAN * average if mean else torch.zeros_like(average)
        rest = weight.new_zeros(self._wide - self._width - 1, *weight.shape[1:])
        return torch.cat([weight - average, kept, rest])

    def read(self, weight: Tensor) -> Tensor:
        """The projector's weights (…, width), which read the states without a norm, as (…, wide)."""
        wide = functional.pad(weight, (0, self._wide - self._width))
        wide[:, self._width] = weight.sum(1) / _MEAN
        return wide

    def inside(self, part: str, weight: Tensor) -> Tensor:
        """A tensor of a block."""
        pad = self._wide - self._width
        if part.startswith("ln"):
            return functional.pad(weight * self._norm if part.endswith("weight") else weight, (0, pad))
        if part == "attn_out.weight":
            return self.write(self._by_head(weight.T).T)
        if part.startswith(("attn_out", "ffn_down")):
            return self.write(weight)
        if part.startswith("attn"):
            new, old = self._wide // self._heads, self._width // self._heads
            weight = self._by_head(weight) * (math.sqrt(new / old) if part.startswith("attn_q") else 1)
        return functional.pad(weight, (0, pad)) if part.endswith("weight") else weight

    def _by_head(self, weight: Tensor) -> Tensor:
        """Rows (width, …) of the heads, each with zeros at its end, as (wide, …)."""
        each = self._wide // self._heads
        parts = weight.reshape(self._heads, -1, *weight.shape[1:])
        padded = weight.new_zeros(self._heads, each, *weight.shape[1:])
        padded[:, : parts.shape[1]] = parts
        return padded.flatten(0, 1)

    def front(self, tensors: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
        """The table of positions, the norm before the blocks, and the block that moves rows."""
        width, wide, code = self._width, self._wide, slice(self._width + 1, self._width + 1 + _CODE)
        table = self.write(tensors["v.position_embd.weight"].T, mean=False).T
        tokens = table.clone()
        tokens[0] += self.write(tensors["v.class_embd"], mean=False)
        least = float((tokens.square().mean(1) + eps).sqrt().min())  # what the norm divides by without content
        codes, step = _codes(len(table))
        table[:, code] = codes * 1e-3 * least
        linear = math.sqrt(1 / _SMALL**2 + eps)  # the deviation that the first block's norm divides by
        before = torch.zeros(wide)
        before[:width] = 1 / _SMALL
        before[code] = 10 * linear  # times 1e-3 or less: next to nothing beside `linear`
        key = torch.zeros(self._heads, wide // self._heads, wide)
        query = key.clone()
        half = _CODE // 2
        both = torch.cat([torch.eye(half), -torch.eye(half)], 1) / 2  # free of what the norm subtracts from all
        key[:, :half, code] = both
        query[:, :half, code] = step @ both
        size = _KEY / 1e-2
        out = torch.zeros(width, wide)
        out[:, :width] = torch.diag(tensors["v.pre_ln.weight"]) * _SMALL * linear * self._norm
        zero = torch.zeros(wide)
        block = {
            "ln1.weight": torch.ones(wide), "ln1.bias": zero, "ln2.weight": zero, "ln2.bias": zero,
            "attn_q.weight": size * query.flatten(0, 1), "attn_q.bias": zero,
            "attn_k.weight": size * key.flatten(0, 1), "attn_k.bias": zero,
            "attn_v.weight": torch.eye(wide), "attn_v.bias": zero,
            "attn_out.weight": self.write(out), "attn_out.bias": self.write(tensors["v.pre_ln.bias"]),
            "ffn_up.weight": torch.zeros(_EXTRA, wide), "ffn_up.bias": torch.zeros(_EXTRA),
            "ffn_down.weight": torch.zeros(wide, _EXTRA), "ffn_down.bias": zero,
        }  # fmt: skip
        first = table.roll(-1, dims=0)  # llama.cpp's row of the class token is the last
        return {
            "v.position_embd.weight": first, "v.pre_ln.weight": before, "v.pre_ln.bias": zero,
            **{f"v.blk.0.{name}": value for name, value in block.items()},
        }  # fmt: skip


def _codes(rows: int) -> tuple[Tensor, Tensor]:
    """Each row's code (rows, C), and the map (C / 2, C / 2) from a row's half code to the query for the row before.

    A query times a key is positive for the row before alone, whatever the lengths of both: it is the cosine of the
    codes less `_SIMILAR`, by the constant. Rows are in the table's order, whose class token becomes the last row.
    """
    waves = 2 * math.pi * torch.tensor([round(rows ** (n / _WAVES)) for n in range(_WAVES)]) / rows
    angles = (torch.arange(rows)[:, None] - 1) * waves
    half = torch.cat([angles.cos(), angles.sin(), torch.full((rows, 1), math.sqrt(_WAVES))], 1) / math.sqrt(_WAVES)
    cos, sin = waves.cos().diag(), waves.sin().diag()
    step = torch.block_diag(torch.cat([torch.cat([cos, sin], 1), torch.cat([-sin, cos], 1)]), torch.tensor(-_SIMILAR))
    return torch.cat([half, -half], 1), step

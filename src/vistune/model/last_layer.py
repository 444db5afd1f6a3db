"""The language model's last layer where a target is predicted: nothing reads its other tokens.

Its attention still sees every token; what follows is row by row, so it is computed at those rows alone. Their states
are the same, and so are all gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class LastLayer:
    """Computes the row-wise parts of a language model's last layer at chosen rows, within `at`."""

    def __init__(self, language_model: Any) -> None:
        self._rows: Tensor | None = None
        parts = row_wise_parts(language_model.layers[-1])
        self._hooks = [
            *(part.register_forward_pre_hook(self._choose) for part in parts),
            *(part.register_forward_hook(self._put_back) for part in parts),
        ]

    def remove(self) -> None:
        """Have the layer compute all rows again."""
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def at(self, rows: Tensor) -> Iterator[None]:
        """Within, the states (1, N, D) of tokens other than `rows` (T) are of no use."""
        self._rows = rows
        try:
            yield
        finally:
            self._rows = None

    def _choose(self, _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        if self._rows is None:
            return None
        self._shape = inputs[0].shape[:2]
        return (inputs[0][:, self._rows],)

    def _put_back(self, _: nn.Module, __: tuple[Tensor], output: Tensor) -> Tensor:
        if self._rows is None:
            return output
        whole = output.new_zeros(*self._shape, output.shape[-1])  # (1, N, D)
        return whole.index_copy(1, self._rows, output)


def row_wise_parts(layer: nn.Module) -> list[nn.Module]:
    """The costly parts after the attention; a family may have others, which run in full."""
    attention = getattr(layer, "self_attn", None)
    parts = (getattr(attention, "o_proj", None), getattr(layer, "mlp", None))
    return [part for part in parts if isinstance(part, nn.Module)]

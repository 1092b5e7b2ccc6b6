"""The first layer of a model that takes columns as they stand in a file."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gossipfl.errors import TaskError

__all__ = ["Scale"]


class Scale(nn.Module):
    """Shift and scale each column by fixed numbers: (inputs - middle) / spread.

    The numbers are part of the code that all members share, so no member tells the others its own
    statistics. They are not in the model's state: nothing of them travels or is saved.

    Args:
        columns: middle and spread of each, in the order of the inputs.

    Raises:
        TaskError: a spread is not positive.
    """

    middle: Tensor
    spread: Tensor

    def __init__(self, columns: Iterable[tuple[float, float]]) -> None:
        super().__init__()
        middle, spread = torch.tensor([tuple(pair) for pair in columns], dtype=torch.float32).T
        if not bool((spread > 0).all()):
            raise TaskError(
                "a spread is not positive", fix="Give each column (middle, spread), as (50, 10)."
            )
        self.register_buffer("middle", middle, persistent=False)
        self.register_buffer("spread", spread, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the scaled inputs, shape (n, columns)."""
        return (inputs - self.middle) / self.spread

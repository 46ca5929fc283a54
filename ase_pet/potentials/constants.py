"""Exact numbers inside a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """Numbers that follow their network to a device, but keep all digits when its dtype changes.

    A buffer would be rounded when a network is stored in single precision, and stay rounded when
    it computes in double precision later. It is no part of a state dictionary.

    Args:
        values: A number, or nested sequences of numbers.
    """

    values: Tensor

    def __init__(self, values: float | Sequence[object]) -> None:
        super().__init__()
        self.register_buffer("values", torch.tensor(values, dtype=torch.float64), persistent=False)

    def forward(self, dtype: torch.dtype) -> Tensor:
        """The numbers in a floating-point type."""
        return self.values.to(dtype)

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        """Follow devices but keep float64."""
        exact = self.values
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.values = exact.to(self.values.device)
        return self

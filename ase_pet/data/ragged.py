"""Runs of different lengths that lie one after the other."""

from __future__ import annotations

import torch
from torch import Tensor


def run_index(lengths: Tensor) -> Tensor:
    """0, 1, ..., l-1 for each length l, one run after the other.

    Args:
        lengths: [n], int64.

    Returns:
        [sum of lengths], int64.
    """
    ends = lengths.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    run = torch.repeat_interleave(lengths, output_size=total)
    return torch.arange(total, device=lengths.device) - (ends - lengths)[run]


def lengthen(values: Tensor, n: int, fill: float = 0) -> Tensor:
    """Values [m, ...], and after them what fills [n, ...], n being m or more."""
    return torch.cat([values, values.new_full((n - len(values), *values.shape[1:]), fill)])

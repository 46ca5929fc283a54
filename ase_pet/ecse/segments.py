"""Sums and weighted extrema over groups, and the ordered pairs of edges of each atom."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_pet.data import run_index


def segment_sum(values: Tensor, group: Tensor, n_groups: int) -> Tensor:
    """Sum [n, ...] over groups -> [n_groups, ...].

    Args:
        values: [n, ...].
        group: [n], int64, which group a value belongs to.
        n_groups: Number of groups.
    """
    return values.new_zeros((n_groups, *values.shape[1:])).index_add(0, group, values)


def soft_extremum(
    values: Tensor, log_weights: Tensor, group: Tensor, n_groups: int, beta: float
) -> Tensor:
    r"""Weighted average that favours large (beta > 0) or small (beta < 0) values.

    .. math:: \frac{\sum_k x_k\, p_k\, e^{\beta x_k}}{\sum_k p_k\, e^{\beta x_k}}

    It never passes the largest (smallest) value, and it is smooth as a weight p goes to zero.

    Args:
        values: x, [n].
        log_weights: ln p, [n]; ``-inf`` leaves a value out.
        group: [n], int64.
        n_groups: Number of groups.
        beta: Sharpness, inverse unit of the values.

    Returns:
        [n_groups]; ``-sign(beta) * inf`` for a group in which no value takes part.
    """
    exponents = beta * values + log_weights
    top = exponents.detach().new_full((n_groups,), -torch.inf)
    top = top.scatter_reduce(0, group, exponents.detach(), "amax")
    some = torch.isfinite(top)
    e = torch.exp(exponents - torch.where(some, top, 0.0)[group])
    norm = segment_sum(e, group, n_groups)
    mean = segment_sum(e * values, group, n_groups) / torch.where(some, norm, 1.0)
    return torch.where(some, mean, -torch.inf if beta > 0 else torch.inf)


def ordered_pairs(centers: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """All ordered pairs of different edges that share a centre.

    Args:
        centers: [n_edges], int64, sorted.
        n_atoms: Number of atoms.

    Returns:
        Two lists of edge indices, [n_pairs] each: first and second edge, sorted by the first.
    """
    counts = torch.bincount(centers, minlength=n_atoms)
    start = counts.cumsum(0) - counts
    first = torch.repeat_interleave(counts[centers])
    second = start[centers][first] + run_index(counts[centers])
    different = first != second
    return first[different], second[different]

"""Smooth functions of distance that end at a cutoff, and smooth steps.

cosine     f(r) = (1 + cos π t)/2,  t = (r - R + δ)/δ in [0, 1]
step       s(t) = t³ (10 - 15 t + 6 t²)
bump       b(t) = 1/2 + tanh(1/(t + 1) + 1/(t - 1))/2,  t in (-1, 1), infinitely smooth
cotangent  c(x) = 1/2 + tanh(cot π x)/2,  x in (0, 1), likewise
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: How close the cotangent gets to its poles; the switch is flat long before.
_EDGE = 1e-6


def cosine_cutoff(r: Tensor, cutoff: float | Tensor, width: float) -> Tensor:
    r"""Fall from 1 to 0 along half a cosine within ``width`` below ``cutoff``.

    Args:
        r: Distances, any shape, Å.
        cutoff: Å; zero at and beyond it; one, or one for each distance.
        width: Å, positive.

    Returns:
        Factors, same shape, dimensionless.

    Source:
        Behler, J. Chem. Phys. 134, 074106 (2011), eq. (4), shifted to the last ``width``.
    """
    t = ((r - cutoff) / width + 1.0).clamp(0.0, 1.0)
    return 0.5 * (1.0 + torch.cos(math.pi * t))


def cosine_cutoff_and_slope(r: Tensor, cutoff: float, width: float) -> tuple[Tensor, Tensor]:
    """:func:`cosine_cutoff` and its derivative by ``r``, per Å, which is never positive."""
    t = ((r - cutoff) / width + 1.0).clamp_(0.0, 1.0).mul_(math.pi)
    return torch.cos(t).add_(1.0).mul_(0.5), torch.sin(t).mul_(-0.5 * math.pi / width)


def smooth_step(t: Tensor) -> Tensor:
    """Rise from 0 at t ≤ 0 to 1 at t ≥ 1 with two continuous derivatives.

    Args:
        t: Dimensionless, any shape.

    Returns:
        Factors, same shape, exactly 0 and 1 outside the rise.
    """
    t = t.clamp(0.0, 1.0)
    return t * t * t * (10.0 + t * (6.0 * t - 15.0))


def bump_switch(x: Tensor, end: float | Tensor, width: float | Tensor) -> Tensor:
    r"""Fall from 1 to 0 between ``end - width`` and ``end``, infinitely smooth.

    .. math::
        b = \tfrac12 + \tfrac12\tanh\Big(\frac1{t+1} + \frac1{t-1}\Big),
        \quad t = 2(x - end + width/2)/width

    Args:
        x: Any shape.
        end: Where it reaches zero; broadcasts with ``x``.
        width: Length of the fall, positive; broadcasts with ``x``.

    Returns:
        Factors of the broadcast shape.

    Source:
        Pozdnyakov & Ceriotti, NeurIPS 2023 (arXiv 2305.19302), appendix on ECSE.
    """
    t = 2.0 * (x - end + 0.5 * width) / width
    inside = t.abs() < 1.0
    safe = torch.where(inside, t, torch.zeros_like(t))
    bump = 0.5 + 0.5 * torch.tanh(1.0 / (safe + 1.0) + 1.0 / (safe - 1.0))
    return torch.where(inside, bump, (t < 0.0).to(t.dtype))


def cotangent_switch(r: Tensor, cutoff: float | Tensor, width: float) -> Tensor:
    r"""Fall from 1 to 0 within ``width`` below ``cutoff``, infinitely smooth.

    .. math:: c = \tfrac12 + \tfrac12\tanh(\cot\pi x), \quad x = (r - cutoff + width)/width

    Args:
        r: Distances, any shape, Å.
        cutoff: Å; zero at and beyond it; broadcasts with ``r``.
        width: Å, positive.

    Returns:
        Factors of the broadcast shape, dimensionless.

    Source:
        The cutoff function "Bump" of metatrain's PET.
    """
    x = ((r - cutoff) / width + 1.0).clamp(_EDGE, 1.0 - _EDGE)
    return 0.5 + 0.5 * torch.tanh(1.0 / torch.tan(math.pi * x))


def cotangent_switch_and_slope(
    r: Tensor, cutoff: float | Tensor, width: float
) -> tuple[Tensor, Tensor]:
    """:func:`cotangent_switch` and its derivative by ``cutoff``, per Å, which is never negative."""
    x = ((r - cutoff) / width + 1.0).clamp(_EDGE, 1.0 - _EDGE)
    cotangent = 1.0 / torch.tan(math.pi * x)
    tanh = torch.tanh(cotangent)
    slope = (0.5 * math.pi / width) * (1.0 - tanh * tanh) * (1.0 + cotangent * cotangent)
    return 0.5 + 0.5 * tanh, slope

r"""Radial bases: a distance as a row of smooth functions.

exponential     f(r) exp(-β_k (exp(5 (L - r)/(R - L)) - μ_k)²), L and R the inner and outer cutoff
gaussian        exp(-γ_k (r - μ_k)²)
bessel          √(2/R) sin(kπr/R)/r, k = 1 ...
smooth_bessel   combinations of neighbouring bessel functions, orthonormal, with two zero
                derivatives at R
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ase_pet.potentials.constants import Constant
from ase_pet.potentials.cutoffs import cosine_cutoff

RADIAL_BASES = ("exponential", "gaussian", "bessel", "smooth_bessel")


def make_basis(kind: str, n_functions: int, cutoff: float, inner_cutoff: float = 0.0) -> nn.Module:
    """Build a radial basis: a module from distances [n], Å, to functions [n, n_functions].

    Args:
        kind: One of ``RADIAL_BASES``.
        n_functions: How many functions.
        cutoff: Å.
        inner_cutoff: Å, below which nothing is a neighbour; used by ``"exponential"``.

    Raises:
        ValueError: If ``kind`` is none of those named.
    """
    if kind == "exponential":
        return ExponentialBasis(n_functions, cutoff, inner_cutoff)
    if kind == "gaussian":
        return GaussianBasis(n_functions, cutoff)
    if kind in ("bessel", "smooth_bessel"):
        return BesselBasis(n_functions, cutoff, smooth=kind == "smooth_bessel")
    raise ValueError(f"rbf: expected one of {RADIAL_BASES}, got {kind!r}")


def _evenly(start: float, stop: float, n: int) -> Tensor:
    """Numbers [n] from start to stop; without values where shapes alone are asked for."""
    empty = torch.empty(n)
    return empty if empty.is_meta else torch.linspace(start, stop, n)


class ExponentialBasis(nn.Module):
    r"""Gaussians of an exponential of the distance, denser at short range.

    .. math:: f(r)\,\exp\big(-\beta_k (e^{5(L-r)/(R-L)} - \mu_k)^2\big)

    Args:
        n_functions: How many functions.
        cutoff: R, Å.
        inner_cutoff: L, Å.

    Source:
        Unke & Meuwly, J. Chem. Theory Comput. 15, 3678 (2019).
    """

    def __init__(self, n_functions: int, cutoff: float, inner_cutoff: float = 0.0) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.inner_cutoff = inner_cutoff
        start = math.exp(inner_cutoff - cutoff)
        self.means = nn.Parameter(_evenly(start, 1.0, n_functions))
        self.betas = nn.Parameter(torch.full((n_functions,), (2 / n_functions * (1 - start)) ** -2))

    def forward(self, r: Tensor) -> Tensor:
        """Functions [n, n_functions] of distances [n], Å."""
        alpha = 5.0 / (self.cutoff - self.inner_cutoff)
        t = torch.exp(alpha * (self.inner_cutoff - r))[:, None]
        envelope = cosine_cutoff(r, self.cutoff, self.cutoff)[:, None]
        return envelope * torch.exp(-self.betas * (t - self.means) ** 2)


class GaussianBasis(nn.Module):
    r"""Gaussians of the distance.

    .. math:: \exp\big(-\gamma_k (r - \mu_k)^2\big)

    Args:
        n_functions: How many functions, evenly spaced from 0 to ``cutoff`` at first.
        cutoff: Å.
    """

    def __init__(self, n_functions: int, cutoff: float) -> None:
        super().__init__()
        spacing = cutoff / max(1, n_functions - 1)
        self.means = nn.Parameter(_evenly(0.0, cutoff, n_functions))  # Å
        self.gammas = nn.Parameter(torch.full((n_functions,), 0.5 / spacing**2))  # Å⁻²

    def forward(self, r: Tensor) -> Tensor:
        """Functions [n, n_functions] of distances [n], Å."""
        return torch.exp(-self.gammas * (r[:, None] - self.means) ** 2)


class BesselBasis(nn.Module):
    r"""Spherical Bessel functions of order zero that vanish at the cutoff.

    .. math:: \sum_k c_{mk} \frac{\sin(k\pi r/R)}{r}

    Args:
        n_functions: How many functions.
        cutoff: R, Å.
        smooth: Combine neighbours such that the first two derivatives vanish at the cutoff too.

    Source:
        Klicpera, Gross & Günnemann, ICLR 2020 (arXiv 2003.03123), eq. (7); with ``smooth``
        Kocer, Mason & Erturk, J. Chem. Phys. 150, 154102 (2019).
    """

    def __init__(self, n_functions: int, cutoff: float, *, smooth: bool = False) -> None:
        super().__init__()
        n_waves = n_functions + 1 if smooth else n_functions
        self.wave_numbers = Constant([k * math.pi / cutoff for k in range(1, n_waves + 1)])
        root = math.sqrt(2.0 / cutoff)
        plain = [[root if k == m else 0.0 for k in range(n_functions)] for m in range(n_functions)]
        rows = _smooth_coefficients(n_functions, cutoff) if smooth else plain
        self.coefficients = Constant(rows)

    def forward(self, r: Tensor) -> Tensor:
        """Functions [n, n_functions] of distances [n], Å, finite at zero."""
        # sin(kr)/r = k sinc(kr/π), which has a value at zero.
        k = self.wave_numbers(r.dtype)
        waves = k * torch.sinc(r[:, None] * (k / math.pi))
        functions: Tensor = waves @ self.coefficients(r.dtype).T
        return functions


def _smooth_coefficients(n_functions: int, cutoff: float) -> list[list[float]]:
    """Rows of coefficients of sin(kπr/R)/r, k = 1 ... n + 1, made orthonormal one by one."""
    rows: list[list[float]] = []
    d = 1.0
    for n in range(n_functions):
        scale = (-1) ** n * math.sqrt(2.0) * math.pi / cutoff**1.5 * (n + 1) * (n + 2)
        scale /= math.sqrt((n + 1) ** 2 + (n + 2) ** 2)
        row = [0.0] * (n_functions + 1)
        row[n] = scale * cutoff / ((n + 1) * math.pi)
        row[n + 1] = scale * cutoff / ((n + 2) * math.pi)
        if rows:
            e = n**2 * (n + 2) ** 2 / (4 * (n + 1) ** 4 + 1)
            previous, d = d, 1.0 - e / d
            mixing = math.sqrt(e / previous)
            row = [(a + mixing * b) / math.sqrt(d) for a, b in zip(row, rows[-1], strict=True)]
        rows.append(row)
    return rows

from __future__ import annotations

import math

import pytest
import torch

from ase_pet.potentials.radial import RADIAL_BASES, ExponentialBasis, GaussianBasis, make_basis

CUTOFF = 4.0


def quadrature(n: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Points and weights of the midpoint rule for r² dr from 0 to the cutoff."""
    step = CUTOFF / n
    r = (torch.arange(n, dtype=torch.float64) + 0.5) * step
    return r, r.square() * step


@pytest.mark.parametrize("kind", ["bessel", "smooth_bessel"])
def test_bessel_functions_are_orthonormal(kind: str) -> None:
    r, weights = quadrature()
    values = make_basis(kind, 5, CUTOFF)(r)
    products = values.T @ (weights[:, None] * values)
    torch.testing.assert_close(products, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-5)


def test_smooth_functions_end_with_two_zero_derivatives() -> None:
    basis = make_basis("smooth_bessel", 4, CUTOFF)
    r = torch.tensor([CUTOFF], dtype=torch.float64, requires_grad=True)
    for k in range(4):
        value = basis(r)[:, k]
        (slope,) = torch.autograd.grad(value.sum(), r, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), r)
        assert max(abs(float(x.detach())) for x in (value, slope, bend)) < 1e-12


def test_gaussians_and_exponentials_have_the_values_of_their_formulas() -> None:
    r = torch.tensor([0.7, 3.1], dtype=torch.float64)
    gaussian = GaussianBasis(3, CUTOFF).double().requires_grad_(False)
    exponential = ExponentialBasis(3, CUTOFF, 0.5).double().requires_grad_(False)
    for k in range(3):
        for m, x in enumerate(r.tolist()):
            g = math.exp(-float(gaussian.gammas[k]) * (x - float(gaussian.means[k])) ** 2)
            assert float(gaussian(r)[m, k]) == pytest.approx(g, rel=1e-13)
            t = math.exp(5 * (0.5 - x) / 3.5)
            f = 0.5 * (math.cos(math.pi * x / CUTOFF) + 1)
            e = f * math.exp(-float(exponential.betas[k]) * (t - float(exponential.means[k])) ** 2)
            assert float(exponential(r)[m, k]) == pytest.approx(e, rel=1e-13)


@pytest.mark.parametrize("kind", RADIAL_BASES)
def test_all_are_finite_and_smooth_at_zero(kind: str) -> None:
    r = torch.tensor([0.0, 1e-9], dtype=torch.float64, requires_grad=True)
    values = make_basis(kind, 6, CUTOFF).double()(r)
    (slope,) = torch.autograd.grad(values.sum(), r)
    assert values.shape == (2, 6)
    assert bool(torch.isfinite(values).all())
    assert bool(torch.isfinite(slope).all())
    torch.testing.assert_close(values[0], values[1], rtol=1e-6, atol=1e-6)


def test_unknown_bases_are_named() -> None:
    with pytest.raises(ValueError, match=r"rbf: expected one of .*, got 'sine'"):
        make_basis("sine", 4, CUTOFF)

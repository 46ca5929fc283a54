from __future__ import annotations

import torch
from torch import Tensor

from ase_pet.potentials.cartesian import (
    PARTS,
    SLICES,
    Basis,
    Mix,
    gather_scale_add,
    multiply,
    scale_parts,
    shorten,
    squared_norms,
)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_the_basis_is_orthonormal_and_sorted_by_parts() -> None:
    q = Basis()(torch.float64)
    torch.testing.assert_close(q.T @ q, torch.eye(9, dtype=torch.float64), rtol=0, atol=1e-15)
    matrices = q.T.view(9, 3, 3)
    isotropic, skew, traceless = (matrices[part] for part in SLICES)
    assert torch.equal(isotropic[0], isotropic[0, 0, 0] * torch.eye(3, dtype=torch.float64))
    assert torch.equal(skew, -skew.transpose(1, 2))
    assert torch.equal(traceless, traceless.transpose(1, 2))
    assert float(traceless.diagonal(dim1=1, dim2=2).sum(1).abs().max()) < 1e-15


def test_components_and_matrices_are_inverse() -> None:
    basis, x = Basis(), random(9, 4, 2)
    torch.testing.assert_close(basis.components(basis.matrices(x)), x, rtol=0, atol=1e-14)


def test_directions_become_one_cross_product_and_outer_product() -> None:
    basis, u = Basis(), torch.nn.functional.normalize(random(5, 3), dim=1)
    x = basis.of_directions(u).T[:, :, None]
    isotropic, skew, traceless = (
        basis.matrices(torch.zeros_like(x).index_copy(0, torch.arange(9)[part], x[part]))[..., 0]
        for part in SLICES
    )
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(isotropic, eye[:, :, None].expand(3, 3, 5))
    v = random(3)
    crossed = torch.einsum("xyn,y->nx", skew, v)
    torch.testing.assert_close(crossed, torch.linalg.cross(u, v.expand(5, 3)))
    outer = torch.einsum("nx,ny->xyn", u, u) - eye[:, :, None] / 3
    torch.testing.assert_close(traceless, outer)


def test_parts_are_scaled_mixed_and_measured_each_on_its_own() -> None:
    x, factors, mix = random(9, 4, 3), random(4, 9), Mix(3).double()
    scaled, mixed, norms = scale_parts(x, factors), mix(x), squared_norms(x)
    for k, part in enumerate(SLICES):
        own = factors[:, 3 * k : 3 * k + 3]
        torch.testing.assert_close(scaled[part], x[part] * own)
        torch.testing.assert_close(mixed[part], x[part] @ mix.weight[k].T)
        torch.testing.assert_close(norms[:, 3 * k : 3 * k + 3], x[part].square().sum(0))


def test_products_and_their_derivatives_of_any_order() -> None:
    a, b = (random(3, 3, 2, 2).add(k).requires_grad_(True) for k in (0, 1))
    torch.testing.assert_close(multiply(a, b), torch.einsum("xync,yznc->xznc", a, b))
    assert torch.autograd.gradcheck(multiply, (a, b))
    assert torch.autograd.gradgradcheck(multiply, (a, b))

    def both_ways(a: Tensor, b: Tensor) -> Tensor:
        return multiply(a, b, both_ways=True)

    torch.testing.assert_close(both_ways(a, b), multiply(a, b) + multiply(b, a))
    assert torch.autograd.gradcheck(both_ways, (a, b))
    assert torch.autograd.gradgradcheck(both_ways, (a, b))


def test_shortening_and_its_derivatives_of_any_order() -> None:
    x = random(9, 3, 2).requires_grad_(True)
    torch.testing.assert_close(shorten(x), x / (1.0 + x.square().sum(0)))
    assert torch.equal(shorten(0.0 * x), 0.0 * x)
    assert torch.autograd.gradcheck(shorten, x)
    assert torch.autograd.gradgradcheck(shorten, x)


def test_sums_over_pairs_and_their_derivatives_of_any_order() -> None:
    source, target = torch.tensor([0, 2, 2, 1, 0]), torch.tensor([1, 0, 1, 1, 0])
    factors = random(5, 3, 2).requires_grad_(True)
    x = random(9, 3, 2).requires_grad_(True)
    expected = torch.zeros(9, 3, 2, dtype=torch.float64)
    for p in range(5):
        for k, part in enumerate(SLICES):
            expected[part, target[p]] += (factors[p, k] * x[part, source[p]]).detach()
    ours = gather_scale_add(factors, x, source, target)
    torch.testing.assert_close(ours, expected)

    def summed(factors: Tensor, x: Tensor) -> Tensor:
        return gather_scale_add(factors, x, source, target)

    assert torch.autograd.gradcheck(summed, (factors, x))
    assert torch.autograd.gradgradcheck(summed, (factors, x))


def test_sums_over_pairs_go_both_ways_at_once() -> None:
    source, target = torch.tensor([0, 2, 2, 1, 0]), torch.tensor([1, 0, 1, 1, 0])
    factors = random(5, 3, 2).requires_grad_(True)
    x = random(9, 3, 2).requires_grad_(True)

    def summed(factors: Tensor, x: Tensor) -> Tensor:
        return gather_scale_add(factors, x, source, target, both_ways=True)

    there, back = (
        gather_scale_add(factors, x, *way) for way in ((source, target), (target, source))
    )
    torch.testing.assert_close(summed(factors, x), there + back)
    assert torch.autograd.gradcheck(summed, (factors, x))
    assert torch.autograd.gradgradcheck(summed, (factors, x))


def test_many_pairs_are_taken_in_chunks_and_none_is_possible() -> None:
    n, d = 20, 128
    source, target = (torch.arange(1000).mul(k).remainder(n) for k in (3, 7))
    factors, x, y = random(1000, 3, d).requires_grad_(True), random(9, n, d), random(9, n, d)
    part = torch.tensor(PARTS)
    sums = gather_scale_add(factors, x, source, target)
    each = factors.detach().movedim(1, 0)[part] * x[:, source]
    torch.testing.assert_close(sums, torch.zeros_like(x).index_add(1, target, each))
    (dots,) = torch.autograd.grad(sums, factors, y)
    each = x[:, source] * y[:, target]
    expected = torch.stack([each[s].sum(0) for s in SLICES], 1)
    torch.testing.assert_close(dots, expected)
    none = gather_scale_add(factors[:0], x, source[:0], target[:0], both_ways=True)
    assert torch.equal(none, torch.zeros_like(x))

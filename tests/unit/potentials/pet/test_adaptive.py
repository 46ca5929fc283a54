from __future__ import annotations

import numpy as np
import pytest
import torch

from ase_pet.potentials.cutoffs import cotangent_switch, cotangent_switch_and_slope
from ase_pet.potentials.pet.adaptive import adaptive_cutoffs

OPTIONS = {"cutoff": 5.0, "width": 1.0, "n_neighbors": 4.0}
#: Many neighbours, one, none, and some beyond every cutoff.
CENTERS = torch.tensor([0] * 30 + [1] + [3] * 5)
N_ATOMS = 4


def distances() -> torch.Tensor:
    rng = np.random.default_rng(4)
    d = np.concatenate([rng.uniform(0.9, 5.0, 30), [2.0], rng.uniform(4.95, 5.5, 5)])
    return torch.tensor(d)


def find(d: torch.Tensor, method: str, **changed: float) -> torch.Tensor:
    return adaptive_cutoffs(d, CENTERS, N_ATOMS, method=method, **{**OPTIONS, **changed})


def test_the_solver_finds_the_root() -> None:
    d = distances()
    r = find(d, "solver")
    counts = torch.zeros(N_ATOMS).double()
    counts.index_add_(0, CENTERS, cotangent_switch(d, r[CENTERS], 1.0))
    torch.testing.assert_close(counts + 4.0 * (r / 5.0) ** 3, torch.full_like(r, 4.0))
    assert float(r[0]) < 3.0
    assert float(r[1]) < 5.0
    assert r[2:].tolist() == [5.0, 5.0]


def test_the_solver_never_goes_below_a_sixteenth() -> None:
    d = torch.full((36,), 0.05).double()
    assert float(find(d, "solver", n_neighbors=0.5, width=0.3)[0]) == 5.0 / 16.0


@pytest.mark.parametrize("method", ["solver", "grid"])
def test_more_neighbors_wanted_is_a_larger_cutoff(method: str) -> None:
    few, many = (find(distances(), method, n_neighbors=n)[0] for n in (4.0, 12.0))
    assert float(few) < float(many) < 5.0


@pytest.mark.parametrize("method", ["solver", "grid"])
def test_derivatives(method: str) -> None:
    d = distances().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: find(x, method), (d,), eps=1e-6, atol=1e-7)


def test_the_slope_is_the_derivative_by_the_cutoff() -> None:
    d = distances()
    end = torch.full_like(d, 3.0, requires_grad=True)
    switch = cotangent_switch(d, end, 1.3)
    (expected,) = torch.autograd.grad(switch.sum(), end)
    value, slope = cotangent_switch_and_slope(d, end.detach(), 1.3)
    torch.testing.assert_close(value, switch.detach(), rtol=0, atol=0)
    torch.testing.assert_close(slope, expected)

from __future__ import annotations

import math

import pytest
import torch

from ase_pet.potentials.cutoffs import (
    bump_switch,
    cosine_cutoff,
    cosine_cutoff_and_slope,
    cotangent_switch,
    smooth_step,
)


def grid(start: float, stop: float, n: int = 401) -> torch.Tensor:
    return torch.linspace(start, stop, n, dtype=torch.float64)


def slopes(function, x: torch.Tensor, order: int) -> torch.Tensor:
    x = x.clone().requires_grad_(True)
    y = function(x)
    for _ in range(order):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return y.detach()


FALLING = {
    "cosine": lambda r: cosine_cutoff(r, 4.0, 1.5),
    "bump": lambda r: bump_switch(r, 4.0, 1.5),
    "cotangent": lambda r: cotangent_switch(r, 4.0, 1.5),
    "step": lambda r: 1.0 - smooth_step((r - 2.5) / 1.5),
}


@pytest.mark.parametrize("name", list(FALLING))
def test_they_fall_from_one_to_zero(name: str) -> None:
    f = FALLING[name](grid(2.0, 4.5))
    assert bool((f.diff() <= 0).all())
    ends = FALLING[name](torch.tensor([0.0, 2.5, 4.0, 9.0], dtype=torch.float64))
    assert ends.tolist() == [1.0, 1.0, 0.0, 0.0]
    middle = FALLING[name](torch.tensor(3.25, dtype=torch.float64))
    assert float(middle) == pytest.approx(0.5, abs=1e-15)


@pytest.mark.parametrize(
    ("name", "order"), [("cosine", 1), ("bump", 4), ("cotangent", 4), ("step", 2)]
)
def test_derivatives_vanish_at_both_ends(name: str, order: int) -> None:
    for end in (2.5, 4.0):
        near = end + torch.tensor([-1e-4, 0.0, 1e-4], dtype=torch.float64)
        for k in range(1, order + 1):
            # The derivative after the last continuous one is bounded by a few hundred.
            assert float(slopes(FALLING[name], near, k).abs().max()) < 0.05
    steep = slopes(FALLING[name], grid(2.6, 3.9), 1)
    assert float(steep.min()) < -0.9


def test_formulas() -> None:
    r = grid(2.5, 4.0, 7)[1:-1]
    expected = [0.5 * (1 + math.cos(math.pi * (x - 4.0 + 1.5) / 1.5)) for x in r.tolist()]
    torch.testing.assert_close(FALLING["cosine"](r), torch.tensor(expected, dtype=torch.float64))
    t = [2 * (x - 4.0 + 0.75) / 1.5 for x in r.tolist()]
    expected = [0.5 + 0.5 * math.tanh(1 / (x + 1) + 1 / (x - 1)) for x in t]
    torch.testing.assert_close(FALLING["bump"](r), torch.tensor(expected, dtype=torch.float64))
    expected = [0.5 + 0.5 * math.tanh(1 / math.tan(math.pi * (x + 1) / 2)) for x in t]
    torch.testing.assert_close(FALLING["cotangent"](r), torch.tensor(expected).double())
    t = grid(0.0, 1.0, 6)
    torch.testing.assert_close(smooth_step(t), 6 * t**5 - 15 * t**4 + 10 * t**3)


def test_bump_takes_an_end_for_each_value() -> None:
    x = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    ends = torch.tensor([0.9, 1.1, 3.0], dtype=torch.float64)
    assert bump_switch(x, ends, 0.2).tolist() == pytest.approx([0.0, 0.5, 1.0])


@pytest.mark.parametrize("name", list(FALLING))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_everywhere(name: str, dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    ends = [end * (1 + k * eps) for end in (2.5, 4.0) for k in (-2, -1, 0, 1, 2)]
    x = torch.cat([grid(0.0, 8.0).to(dtype), torch.tensor(ends, dtype=dtype)])
    assert bool(torch.isfinite(slopes(FALLING[name], x, 1)).all())
    assert FALLING[name](x).dtype == dtype


def test_the_slope_of_the_cosine_is_its_derivative() -> None:
    r = torch.linspace(0.1, 6.0, 301, dtype=torch.float64)
    value, slope = cosine_cutoff_and_slope(r, 5.0, 1.3)
    torch.testing.assert_close(value, cosine_cutoff(r, 5.0, 1.3), rtol=0.0, atol=0.0)
    expected = slopes(lambda x: cosine_cutoff(x, 5.0, 1.3), r, 1)
    torch.testing.assert_close(slope, expected, rtol=0.0, atol=1e-14)

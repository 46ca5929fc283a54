from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ase_pet.ecse.segments import ordered_pairs, segment_sum, soft_extremum


def test_segment_sum_adds_what_belongs_together() -> None:
    values = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    total = segment_sum(values, torch.tensor([2, 0, 2]), 4)
    assert total.tolist() == [[10.0, 20.0], [0.0, 0.0], [101.0, 202.0], [0.0, 0.0]]


@pytest.mark.parametrize("beta", [5.0, -5.0])
def test_soft_extremum_is_its_formula(beta: float) -> None:
    rng = np.random.default_rng(1)
    values, weights = rng.random(12) * 3, rng.random(12)
    group = rng.integers(0, 3, 12)
    found = soft_extremum(
        torch.tensor(values), torch.tensor(weights).log(), torch.tensor(group), 3, beta
    )
    for k in range(3):
        x, p = values[group == k], weights[group == k]
        e = p * np.exp(beta * x)
        assert float(found[k]) == pytest.approx((e * x).sum() / e.sum(), rel=1e-13)


@pytest.mark.parametrize("beta", [50.0, -50.0])
def test_soft_extremum_survives_what_underflows(beta: float) -> None:
    values = torch.tensor([1.0, 300.0, 2.0, -900.0], dtype=torch.float64, requires_grad=True)
    log_weights = torch.tensor([-2000.0, -2000.0, -1e5, 0.0], dtype=torch.float64)
    group = torch.tensor([0, 0, 1, 2])
    found = soft_extremum(values, log_weights, group, 3, beta)
    assert found.tolist() == pytest.approx([300.0 if beta > 0 else 1.0, 2.0, -900.0])
    (slope,) = torch.autograd.grad(found.sum(), values)
    assert slope.tolist() == pytest.approx([0.0 if beta > 0 else 1.0, float(beta > 0), 1.0, 1.0])


def test_a_group_in_which_none_takes_part_has_no_extremum() -> None:
    values = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    log_weights = torch.tensor([-torch.inf, 0.0], dtype=torch.float64)
    group = torch.tensor([0, 1])
    assert soft_extremum(values, log_weights, group, 3, 4.0).tolist() == [-math.inf, 2.0, -math.inf]
    found = soft_extremum(values, log_weights, group, 3, -4.0)
    assert found.tolist() == [math.inf, 2.0, math.inf]
    (slope,) = torch.autograd.grad(found[1], values)
    assert slope.tolist() == [0.0, 1.0]


def test_soft_extremum_never_passes_the_extreme_value() -> None:
    rng = np.random.default_rng(3)
    values, logs = torch.tensor(rng.normal(size=50)), torch.tensor(rng.normal(size=50))
    group = torch.zeros(50, dtype=torch.int64)
    for beta in (0.1, 1.0, 100.0):
        low = soft_extremum(values, logs, group, 1, -beta)
        high = soft_extremum(values, logs, group, 1, beta)
        assert float(values.min()) <= float(low) < float(high) <= float(values.max())


@pytest.mark.parametrize("counts", [[], [0], [1], [3], [0, 2, 0, 1, 4, 0]])
def test_ordered_pairs_are_all_of_them(counts: list[int]) -> None:
    centers = [atom for atom, count in enumerate(counts) for _ in range(count)]
    first, second = ordered_pairs(torch.tensor(centers, dtype=torch.int64), len(counts))
    expected = [
        (e, f)
        for e in range(len(centers))
        for f in range(len(centers))
        if e != f and centers[e] == centers[f]
    ]
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == expected

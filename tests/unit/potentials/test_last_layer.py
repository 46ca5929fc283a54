"""Projections add up to the covariance of the weights, and nonsense is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ase_pet.potentials.last_layer import HasLastLayer, LastLayer
from tests.tiny import tiny_modern_pet, tiny_tensornet

GENERATOR = torch.Generator().manual_seed(0)
A = torch.randn(9, 4, generator=GENERATOR, dtype=torch.float64)
COVARIANCE = A.T @ A
L = torch.linalg.cholesky(COVARIANCE)
MEMBERS = torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64)
BOTH = LastLayer(L, 0.3, MEMBERS)


def test_projections_are_roots_of_the_covariance_of_weights() -> None:
    p = BOTH.projections("llpr")
    torch.testing.assert_close(p.T @ p, 0.09 * COVARIANCE.inverse(), rtol=1e-11, atol=1e-13)
    p = BOTH.projections("ensemble")
    torch.testing.assert_close(p.T @ p, torch.cov(MEMBERS.T), rtol=1e-12, atol=1e-14)


def test_it_knows_what_it_has() -> None:
    assert BOTH.kinds == ("llpr", "ensemble")
    assert (LastLayer(L).kinds, LastLayer(members=MEMBERS).kinds) == (("llpr",), ("ensemble",))
    assert LastLayer(L).n_features == LastLayer(members=MEMBERS).n_features == 4
    with pytest.raises(ValueError, match=r"kind: expected one of \('llpr',\), got 'ensemble'"):
        LastLayer(L).projections("ensemble")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cholesky": None, "members": None}, "got neither"),
        ({"cholesky": L.T}, "lower triangle"),
        ({"cholesky": -L}, "positive diagonal"),
        ({"cholesky": L[:, :3]}, "lower triangle"),
        ({"cholesky": L / 0.0}, "cholesky: expected finite"),
        ({"members": MEMBERS.long()}, "members: expected finite"),
        ({"members": MEMBERS[0]}, "members: expected finite"),
        ({"members": MEMBERS[:1]}, "members: expected at least 2, got 1"),
        ({"members": MEMBERS[:, :3]}, "one number of features"),
        ({"multiplier": -1.0}, "multiplier: expected 0 or more, got -1.0"),
        ({"multiplier": float("nan")}, "multiplier"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(BOTH, **changes)


def test_which_backbones_have_a_last_layer() -> None:
    assert isinstance(tiny_modern_pet(), HasLastLayer)
    assert not isinstance(tiny_tensornet(), HasLastLayer)

"""Uncertainties in all versions of metatrain's wrapper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ase_pet import load
from ase_pet.errors import CheckpointError
from tests.foreign_metatrain import checkpoint, write
from tests.tiny import tiny_modern_pet

NET = tiny_modern_pet()
N = NET.n_last_features
A = torch.randn(5 * N, N, generator=torch.Generator().manual_seed(0))
COVARIANCE = A.T @ A
L = torch.linalg.cholesky(COVARIANCE.double()).float()
MEMBERS = A[:4].clone()
MULTIPLIER = torch.tensor([0.25])


def wrapper(version: int, state: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Content of a file; before version 3 weights are under another name."""
    content = {"architecture_name": "llpr", "model_ckpt_version": version}
    content["wrapped_model_checkpoint"] = checkpoint(NET, **options)
    if version < 3:
        return {**content, "state_dict": state}
    return {**content, "model_state_dict": state, "best_model_state_dict": None}


def state(version: int, name: str = "energy", ensemble: str = "energy") -> dict[str, Tensor]:
    """Weights as a version has them, for an uncertainty and an ensemble of some name."""
    found = {
        f"covariance_{name}_uncertainty": COVARIANCE,
        f"multiplier_{name}_uncertainty": MULTIPLIER,
    }
    if version == 4:
        found[f"cholesky_{name}_uncertainty"] = L
    else:
        found[f"inv_covariance_{name}_uncertainty"] = COVARIANCE.inverse()
    if version < 3:
        return {**found, f"{ensemble}_ensemble_weights": MEMBERS.T}
    return {**found, f"llpr_ensemble_layers.{ensemble}.weight": MEMBERS}


@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("prefix", ["", "mtt::aux::"])
def test_every_version(version: int, prefix: str, tmp_path: Path) -> None:
    ensemble = prefix + "energy" if version < 3 else "energy"
    content = wrapper(version, state(version, prefix + "energy", ensemble))
    found = load(write(content, tmp_path / "model.ckpt")).uncertainty
    assert found.kinds == ("llpr", "ensemble")
    torch.testing.assert_close(found.cholesky, L, rtol=1e-6, atol=0)
    assert torch.equal(found.members, MEMBERS)
    assert found.multiplier == 0.25


def test_targets_of_other_names_and_units(tmp_path: Path) -> None:
    name, unit = "mtt::U0", 27.211386024367243
    content = wrapper(
        4,
        state(4, "mtt::aux::U0", name),
        target=name,
        targets={name: {"quantity": "energy", "unit": "hartree"}},
    )
    found = load(write(content, tmp_path / "model.ckpt")).uncertainty
    assert found.multiplier == pytest.approx(0.25 * unit, rel=1e-14)
    torch.testing.assert_close(found.members, unit * MEMBERS)
    assert torch.equal(found.cholesky, L)


def test_the_best_weights_are_taken(tmp_path: Path) -> None:
    content = wrapper(3, state(3))
    content["best_model_state_dict"] = {**state(3), "multiplier_energy_uncertainty": MULTIPLIER * 2}
    assert load(write(content, tmp_path / "model.ckpt")).uncertainty.multiplier == 0.5


def test_a_covariance_without_full_rank_is_regularised_as_little_as_needed(tmp_path: Path) -> None:
    thin = A[: N // 2].T @ A[: N // 2]
    content = wrapper(3, {**state(3), "covariance_energy_uncertainty": thin})
    found = load(write(content, tmp_path / "model.ckpt")).uncertainty.cholesky
    torch.testing.assert_close(found @ found.T, thin, rtol=0, atol=1e-4)
    assert bool((found.diagonal() > 0).all())


@pytest.mark.parametrize("version", [3, 4])
def test_what_was_never_calibrated_is_none(version: int, tmp_path: Path) -> None:
    zeros = {
        k: torch.zeros_like(v) if "energy_uncertainty" in k else v
        for k, v in state(version).items()
    }
    path = tmp_path / "model.ckpt"
    assert load(write(wrapper(version, zeros), path)).uncertainties == ("ensemble",)
    empty = {k: v for k, v in zeros.items() if "ensemble" not in k}
    assert load(write(wrapper(version, empty), path)).uncertainties == ()


def test_another_energy_has_none(tmp_path: Path) -> None:
    content = wrapper(4, state(4, "mtt::aux::other", "other"))
    assert load(write(content, tmp_path / "model.ckpt")).uncertainties == ()


@pytest.mark.parametrize(
    ("version", "changes", "message"),
    [
        (5, {}, "model_ckpt_version of the wrapper: expected 1 to 4, got 5"),
        (4, {"cholesky_energy_uncertainty": L[:, :3]}, "cholesky of energy: expected 16 columns"),
        (4, {"llpr_ensemble_layers.energy.weight": MEMBERS[:, :3]}, "members of energy: expected"),
        (4, {"cholesky_energy_uncertainty": L.T.contiguous()}, "of energy: cholesky: .* triangle"),
        (4, {"multiplier_energy_uncertainty": MULTIPLIER / 0}, "energy: multiplier: expected 0"),
        (4, {"multiplier_energy_uncertainty": torch.ones(2)}, "damaged or not a PET of metatrain"),
        (3, {"covariance_energy_uncertainty": A[:3]}, "damaged or not a PET of metatrain"),
    ],
)
def test_what_does_not_fit_is_refused(
    version: int, changes: dict[str, Tensor], message: str, tmp_path: Path
) -> None:
    path = write(wrapper(version, {**state(version), **changes}), tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=message):
        load(path)

"""What metatrain's wrapper "llpr" knows of the uncertainty of an energy, versions 1 to 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ase_pet.errors import CheckpointError
from ase_pet.potentials.last_layer import LastLayer

NEWEST = 4
#: The first regulariser of a covariance, and the last, each ten times the one before.
_FIRST, _LAST = 1e-20, 1e16


def last_layer(
    wrapper: Mapping[str, Any], target: str, unit: float, n_features: int, path: Path
) -> LastLayer | None:
    """Read the uncertainty of one energy; None if the wrapper was never calibrated.

    Args:
        wrapper: Content of the file.
        target: Name of the energy.
        unit: Of that energy, eV.
        n_features: Of the last layer.
        path: The file, for messages.

    Raises:
        CheckpointError: If the version is newer than those known, or the numbers do not fit the
            network.
    """
    version = wrapper.get("model_ckpt_version", 1)
    if type(version) is not int or not 1 <= version <= NEWEST:
        raise CheckpointError(
            f"{path}: model_ckpt_version of the wrapper: expected 1 to {NEWEST}, got {version!r}; "
            "upgrade ase_pet"
        )
    last, best = (wrapper.get(k) for k in ("model_state_dict", "best_model_state_dict"))
    state = wrapper.get("state_dict") if version < 3 else best or last
    if not isinstance(state, Mapping):
        return None
    found = {
        "cholesky": _cholesky(state, target),
        "members": _members(state, target, version),
    }
    present = {name: value for name, value in found.items() if value is not None}
    for name, value in present.items():
        if value.dim() != 2 or value.shape[1] != n_features:
            raise CheckpointError(
                f"{path}: {name} of {target}: expected {n_features} columns, one for each feature "
                f"of the last layer, got {list(value.shape)}"
            )
    if not present:
        return None
    if "members" in present:
        present["members"] = unit * present["members"]
    multiplier = _buffer(state, "multiplier", target)
    factor = 1.0 if multiplier is None else float(multiplier)
    try:
        return LastLayer(multiplier=unit * factor, **present)
    except ValueError as error:
        raise CheckpointError(f"{path}: uncertainty of {target}: {error}") from error


def _buffer(state: Mapping[str, Any], kind: str, target: str) -> Tensor | None:
    """A tensor of a target; names differ with the version and with the name of the target."""
    plain = target.removeprefix("mtt::")
    names = (f"{kind}_{plain}_uncertainty", f"{kind}_mtt::aux::{plain}_uncertainty")
    return _first(state, names)


def _first(state: Mapping[str, Any], names: Sequence[str]) -> Tensor | None:
    """The first of some tensors that is there."""
    found = (state[name] for name in names if isinstance(state.get(name), Tensor))
    return next(found, None)


def _cholesky(state: Mapping[str, Any], target: str) -> Tensor | None:
    """L of the covariance, which versions before 4 hold instead; None if it is zero."""
    found = _buffer(state, "cholesky", target)
    if found is None:
        covariance = _buffer(state, "covariance", target)
        found = None if covariance is None else _decomposed(covariance)
    return found if found is not None and bool(found.any()) else None


def _decomposed(covariance: Tensor) -> Tensor | None:
    """L of a covariance, with the smallest regulariser that makes it definite."""
    if not bool(covariance.any()):
        return None
    symmetric = (0.5 * (covariance + covariance.T)).to(torch.float64)
    eye, regulariser = torch.eye(len(symmetric), dtype=torch.float64), _FIRST
    while regulariser < _LAST:
        L, failed = torch.linalg.cholesky_ex(symmetric + regulariser * eye)
        if not failed:
            return torch.as_tensor(L, dtype=covariance.dtype)
        regulariser *= 10.0
    return None


def _members(state: Mapping[str, Any], target: str, version: int) -> Tensor | None:
    """Weights of the ensemble, one row a member."""
    if version >= 3:
        return _first(state, [f"llpr_ensemble_layers.{target}.weight"])
    plain = target.removeprefix("mtt::")
    names = (f"{plain}_ensemble_weights", f"mtt::aux::{plain}_ensemble_weights")
    found = _first(state, names)
    return None if found is None else found.T.contiguous()

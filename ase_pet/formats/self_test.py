"""The self-test in a checkpoint: one small structure and what the model said of it.

    structure      numbers [n], positions [n, 3] Å, cell [3, 3] Å, pbc [3]
    bare           energy eV, forces [n, 3] eV/Å, stress [3, 3] eV/Å³ (None without a volume)
    symmetrized    the same, and the symmetry, ensemble and weights that gave it

All tensors are float64.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from ase_pet.data import System
from ase_pet.errors import CheckpointError

_RESULTS = ("energy", "forces", "stress")
_SETTINGS = ("symmetry", "ensemble", "weights")


def structure_of(self_test: Mapping[str, Any]) -> System:
    """The structure of a self-test.

    Raises:
        ValueError: If it is no structure.
    """
    structure = self_test["structure"]
    return System(
        structure["positions"],
        structure["numbers"],
        structure["cell"][None],
        structure["pbc"][None],
        torch.zeros_like(structure["numbers"]),
    )


def check_self_test(self_test: Mapping[str, Any], species: Collection[int], where: str) -> None:
    """Check that a self-test is complete.

    Raises:
        CheckpointError: If a part is missing, of a wrong shape, not finite, or not of ``species``.
    """
    try:
        system = structure_of(self_test)
        unknown = set(system.numbers.tolist()) - set(species)
        if unknown:
            raise ValueError(f"atomic numbers {sorted(unknown)} are not among the species")
        for part in ("bare", "symmetrized"):
            energy, forces, stress = (self_test[part][name] for name in _RESULTS)
            _check_array(f"{part} energy", torch.as_tensor(energy, dtype=torch.float64), ())
            _check_array(f"{part} forces", forces, (system.n_atoms, 3))
            if stress is not None:
                _check_array(f"{part} stress", stress, (3, 3))
        missing = [name for name in _SETTINGS if name not in self_test["symmetrized"]]
        if missing:
            raise ValueError(f"symmetrized: missing {missing}")
    except KeyError as error:
        raise CheckpointError(f"{where}: self_test: missing {error}") from error
    except (TypeError, AttributeError, IndexError, ValueError) as error:
        raise CheckpointError(f"{where}: self_test: {error}") from error


def _check_array(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape or value.dtype != torch.float64:
        raise ValueError(
            f"{name}: expected float64 {list(shape)}, got {value.dtype} {list(value.shape)}"
        )
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name}: not finite")

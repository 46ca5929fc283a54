"""The self-test in a checkpoint: one small structure and what the model said of it.

    structure      numbers [n], positions [n, 3] Å, cell [3, 3] Å, pbc [3]
    bare           energy eV, forces [n, 3] eV/Å, stress [3, 3] eV/Å³ (None without a volume);
                   dipole [3] e·Å and polarizability [3, 3] e²Å²/eV of models that predict them
    symmetrized    the same, and the symmetry, ensemble and weights that gave it

All tensors are float64.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from ase_pet.data import Results, System
from ase_pet.ecse.settings import settings
from ase_pet.ecse.symmetrized import ENSEMBLES, SYMMETRIES
from ase_pet.errors import CheckpointError
from ase_pet.potentials.tensors import RANKS

_RESULTS = ("energy", "forces", "stress")


def make_self_test(
    system: System,
    bare: Results,
    symmetrized: Results,
    *,
    symmetry: str,
    ensemble: str,
    weights: str,
) -> dict[str, Any]:
    """Collect a self-test from evaluations of one structure, both in float64.

    Args:
        system: One structure.
        bare: What the bare model says of it.
        symmetrized: What the symmetrised model says of it.
        symmetry: Symmetry of the latter, "O(3)" or "SO(3)".
        ensemble: Its ensemble, "local", "shared" or "global".
        weights: Its preset of weights, "auto" for example.

    Raises:
        ValueError: If there is more or less than one structure.
    """
    if system.n_systems != 1:
        raise ValueError(f"system: expected one structure, got {system.n_systems}")
    settings = {"symmetry": symmetry, "ensemble": ensemble, "weights": weights}
    return {
        "structure": {
            "numbers": system.numbers.cpu(),
            "positions": system.positions.cpu(),
            "cell": system.cell[0].cpu(),
            "pbc": system.pbc[0].cpu(),
        },
        "bare": _plain(bare, system),
        "symmetrized": {**_plain(symmetrized, system), **settings},
    }


def deviations(
    self_test: Mapping[str, Any], bare: Results, symmetrized: Results
) -> dict[str, dict[str, float]]:
    """Largest differences between a self-test and new evaluations of its structure.

    Args:
        self_test: As it is in the checkpoint.
        bare: What the bare model says now, in float64.
        symmetrized: What the symmetrised model says now, in float64, with the recorded settings.

    Returns:
        For "bare" and "symmetrized": energy (eV), forces (eV/Å), with a volume stress (eV/Å³), and
        tensors that are recorded; NaN where now something is not finite.
    """
    system = structure_of(self_test)
    found: dict[str, dict[str, float]] = {}
    for part, results in (("bare", bare), ("symmetrized", symmetrized)):
        now, then = _plain(results, system), self_test[part]
        found[part] = {
            name: float((torch.as_tensor(now[name]) - torch.as_tensor(then[name])).abs().max())
            for name in now.keys() & then.keys()
            if now[name] is not None and then[name] is not None
        }
    return found


def _plain(results: Results, system: System) -> dict[str, Any]:
    volume = float(system.volumes[0])
    return {
        "energy": float(results.energy[0]),
        "forces": results.forces.cpu(),
        "stress": results.virial[0].cpu() / volume if volume > 0 else None,
        **{name: value[0].cpu() for name, value in results.tensors.items()},
    }


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


def with_old_weights(self_test: Any) -> Any:
    """A self-test of a file of format version 3 or before, when "smooth" weights were others."""
    found = self_test.get("symmetrized") if isinstance(self_test, Mapping) else None
    if not isinstance(found, Mapping) or found.get("weights") != "smooth":
        return self_test
    return {**self_test, "symmetrized": {**found, "weights": "smooth-3"}}


def check_self_test(
    self_test: Mapping[str, Any], species: Collection[int], tensors: Collection[str], where: str
) -> None:
    """Check that a self-test is complete and can be replayed.

    Args:
        self_test: What a checkpoint holds.
        species: Atomic numbers of its model.
        tensors: Names of the tensors that the model predicts.
        where: Path, for messages.

    Raises:
        CheckpointError: If a part is missing, of a wrong shape, not finite or not of ``species``,
            or symmetry, ensemble or weights are unknown.
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
            for name in tensors:
                _check_array(f"{part} {name}", self_test[part][name], (3,) * RANKS[name])
        for name, allowed in (("symmetry", SYMMETRIES), ("ensemble", ENSEMBLES)):
            if self_test["symmetrized"][name] not in allowed:
                raise ValueError(
                    f"{name}: expected one of {allowed}, got {self_test['symmetrized'][name]!r}"
                )
        settings(self_test["symmetrized"]["weights"])
    except KeyError as error:
        raise CheckpointError(f"{where}: self_test: missing {error}") from error
    except (TypeError, AttributeError, IndexError, ValueError) as error:
        raise CheckpointError(f"{where}: self_test: {error}") from error


def _check_array(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected float64 {list(shape)}, got {type(value).__name__}")
    if tuple(value.shape) != shape or value.dtype != torch.float64:
        raise ValueError(
            f"{name}: expected float64 {list(shape)}, got {value.dtype} {list(value.shape)}"
        )
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name}: not finite")

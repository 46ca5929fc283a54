"""Targets of models of metatrain: which energy is meant, what belongs to it, and units."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ase_pet.errors import CheckpointError
from ase_pet.potentials.pet.modern_hypers import DIRECT
from ase_pet.units import ENERGY_UNITS

_ANGSTROM = ("angstrom", "a")


def choose_energy(targets: Mapping[str, Mapping[str, Any]], wanted: str | None, path: Path) -> str:
    """The energy target: the one asked for, the only one, or that called "energy".

    Raises:
        CheckpointError: If there is none, or the choice is not clear; lists them.
    """
    energies = [name for name, about in targets.items() if about.get("quantity") == "energy"]
    if wanted is None and (len(energies) == 1 or "energy" in energies):
        wanted = "energy" if "energy" in energies else energies[0]
    if wanted in energies:
        return wanted
    if not energies:
        raise CheckpointError(
            f"{path}: the model predicts no energy, only {sorted(targets)}: it is no potential"
        )
    if wanted is None:
        raise CheckpointError(
            f"{path}: the model predicts several energies; choose one: target= one of {energies}"
        )
    known = "is no energy" if wanted in targets else "is not among the targets"
    raise CheckpointError(f"{path}: target: {wanted!r} {known}; choose one of {energies}")


def check_length(unit: object, path: Path) -> None:
    """Refuse other units than Å, for which an empty name stands.

    Raises:
        CheckpointError: If the unit is another one.
    """
    if str(unit or "angstrom").lower() not in _ANGSTROM:
        raise CheckpointError(
            f"{path}: length_unit: only models in Å can be imported, this one is in {unit!r}"
        )


def energy_unit(unit: object, path: Path) -> float:
    """Unit of energy in eV; an empty name stands for eV.

    Raises:
        CheckpointError: If the unit is not known.
    """
    units = {name.lower(): value for name, value in ENERGY_UNITS.items()}
    name = str(unit or "eV").lower()
    if name not in units:
        raise CheckpointError(f"{path}: unit: expected one of {list(ENERGY_UNITS)}, got {unit!r}")
    return units[name]


def direct_unit(kind: str, unit: object, energy: float, path: Path) -> float:
    """Unit of direct forces in eV/Å, or of a direct stress in eV/Å³; without one, the energy's.

    Raises:
        CheckpointError: If the unit is not known.
    """
    text = str(unit or "").lower().removesuffix("^3" if kind == "stress" else "")
    for length in _ANGSTROM:
        text = text.removesuffix(f"/{length}")
    return energy_unit(text, path) if text else energy


def direct_targets(targets: Mapping[str, Mapping[str, Any]], energy: str) -> dict[str, str]:
    """Targets of direct forces and stress that belong to an energy, by our names of them."""
    if not energy.startswith("energy"):
        return {}
    variant = energy.removeprefix("energy")
    found = {}
    for kind in DIRECT:
        for name in (kind.removesuffix("s") if kind == "forces" else kind, kind):
            if f"non_conservative_{name}{variant}" in targets:
                found[kind] = f"non_conservative_{name}{variant}"
    return found

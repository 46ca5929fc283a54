"""Options of the ASE calculator: what is checked before the engine sees them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real

import torch
from ase import Atoms

from ase_pet.committee import Committee
from ase_pet.data import System
from ase_pet.formats import Model

#: What a model may want to know of a structure beside its atoms, and where it is in ``atoms.info``,
#: the first that is there; metatomic's calculator reads the same.
STATE = {"charge": ("charge",), "spin": ("spin_multiplicity", "spin")}
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def properties_of(model: Model | Committee, forces: str) -> list[str]:
    """Names, as ASE has them, of what a model gives with conservative or direct forces."""
    names = ["energy", "free_energy", "energies", "forces"]
    if forces == "direct":
        return [*names, *(["stress"] if "stress" in model.direct else [])]
    return [*names, "stress", "stresses", *(["dipole"] if "dipole" in model.tensors else [])]


def state_of(atoms: Atoms, name: str, default: float) -> float:
    """Charge or spin of a structure: its own, or that of the options.

    Raises:
        ValueError: If ``atoms.info`` holds something that is no number.
    """
    for key in STATE[name]:
        value = atoms.info.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError(f"atoms.info[{key!r}]: expected a number, got {value!r}")
        return float(value)
    return float(default)


def with_state(
    system: System, structures: Sequence[Atoms], defaults: Mapping[str, float]
) -> System:
    """The same structures with their charges and spins; as they are if all are the defaults.

    Args:
        system: What the engine takes.
        structures: The same as ASE has them.
        defaults: Charge (e) or spin multiplicity, by name, of structures that have none of their
            own; what is not named is left out.

    Raises:
        ValueError: If ``atoms.info`` holds something that is no number.
    """
    for name, default in defaults.items():
        values = [state_of(atoms, name, default) for atoms in structures]
        if any(value != default for value in values):
            system = replace(system, **{name: torch.tensor(values, dtype=torch.float64)})
    return system


def parse_bytes(budget: int | str) -> int:
    """Number of bytes of ``2_000_000_000`` or ``"2GB"``.

    Raises:
        ValueError: If it is neither.
    """
    text = str(budget).strip().upper()
    match = re.fullmatch(r"([0-9]+\.?[0-9]*)\s*([KMGT]?B?)", text)
    if isinstance(budget, bool) or not match or match[2] not in _UNITS or not float(match[1]):
        raise ValueError(
            f"memory_budget: expected a positive number of bytes or a text like '500MB' or '2GB', "
            f"got {budget!r}"
        )
    return int(float(match[1]) * _UNITS[match[2]])

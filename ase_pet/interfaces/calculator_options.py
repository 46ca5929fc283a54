"""Options of the ASE calculator: what is checked before the engine sees them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from ase import Atoms

from ase_pet.engine import Engine
from ase_pet.formats import Model

#: What a model may want to know of a structure beside its atoms, in ``atoms.info``.
STATE = ("charge", "spin")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def make_engine(model: Model, options: Mapping[str, Any]) -> Engine:
    """What evaluates a model with the options of a calculator.

    Raises:
        ValueError: If an option has a value that it cannot have.
    """
    device, dtype, budget = (options[k] for k in ("device", "dtype", "memory_budget"))
    if not isinstance(options["skin"], Real):
        raise ValueError(f"skin: expected a length in Å, at least 0, got {options['skin']!r}")
    if not isinstance(options["splines"], bool):
        raise ValueError(f"splines: expected True or False, got {options['splines']!r}")
    dtype = model.dtype if dtype is None else str(dtype).removeprefix("torch.")
    given = {"device": str(device), "dtype": dtype, "memory_budget": parse_bytes(budget)}
    given["invariant_atoms"] = model.invariant_atoms
    known = {name: value for name, value in options.items() if name != "target"}
    with torch.inference_mode(mode=False):  # in which a caller may be
        return Engine(model.potential, **{**known, **given})


def properties_of(model: Model, forces: str) -> list[str]:
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
    value = atoms.info.get(name)
    if value is None:
        return float(default)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"atoms.info[{name!r}]: expected a number, got {value!r}")
    return float(value)


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

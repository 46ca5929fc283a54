"""Supercells that keep what a cell says of itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase import Atoms

from ase_pet.interfaces.calculator_options import state_of


def repeat(atoms: Atoms, times: tuple[int, int, int], state: Mapping[str, float]) -> Atoms:
    """Repeat a cell along its vectors, and its charge with it.

    Args:
        atoms: One cell; ``atoms.info["charge"]``, if it is there, is the charge of this cell.
        times: How often along each vector.
        state: Charge and spin multiplicity (``charge``, ``spin``) that a calculator takes for
            structures that do not say theirs.

    Returns:
        The supercell, neutral or with the charge of all cells.

    Raises:
        ValueError: If a number is not positive, or the charge or multiplicity of the supercell
            does not follow from what is known.
    """
    if min(times) < 1:
        raise ValueError(f"repeat: expected three positive numbers like 2 2 2, got {times}")
    n_cells = int(np.prod(times))
    found = atoms.repeat(times)
    if n_cells == 1:
        return found
    spin = state_of(atoms, "spin", state.get("spin", 1.0))
    charge = state_of(atoms, "charge", state.get("charge", 0.0))
    if spin != 1:
        raise ValueError(
            f"repeat: the spins of {n_cells} cells of multiplicity {spin:g} may add up in several "
            "ways; write the supercell to a file with its own 'spin'"
        )
    if found.info.get("charge") is not None:
        found.info["charge"] = n_cells * charge
    elif charge != 0:
        raise ValueError(
            f"repeat: {charge:g} may be the charge of one cell or of all {n_cells}; write 'charge' "
            "of one cell into the structure's file, as extended XYZ has it, without the option"
        )
    return found

"""What some workflows ask of a structure before they compute anything."""

from __future__ import annotations

from ase import Atoms

from ase_pet.interfaces.ase_structures import has_volume


def require_crystal(atoms: Atoms, who_needs: str) -> None:
    """Refuse what is no crystal.

    Args:
        atoms: The structure.
        who_needs: For the message, like "phonons need".

    Raises:
        ValueError: Unless the structure is periodic in three directions.
    """
    if not (atoms.pbc.all() and has_volume(atoms)):
        raise ValueError(
            f"atoms: {who_needs} a crystal, periodic in three directions, got "
            f"pbc={atoms.pbc.tolist()} and the cell {atoms.cell.tolist()}; set both in the "
            "structure or give another one"
        )

"""Crystals as phonopy has them, and back."""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.cells import guess_primitive_matrix

from ase_pet.interfaces.calculator_options import STATE, state_of
from ase_pet.workflows.crystal import require_crystal
from ase_pet.workflows.phonons.settings import PhononSettings

#: Charge and spin multiplicity of a cell of which every repeat is a copy.
_NEUTRAL = {"charge": 0.0, "spin": 1.0}


def displaced_phonopy(atoms: Atoms, settings: PhononSettings) -> Phonopy:
    """Phonopy's object of a crystal, with displacements.

    Raises:
        ValueError: If the structure is no crystal, atoms of one element have several masses, or
            its charge or spin says nothing of its supercell.
    """
    require_crystal(atoms, "phonons need")
    _check_masses(atoms)
    repeats = repeats_of(atoms, settings)
    _check_state(atoms, repeats)
    unit_cell = _phonopy_atoms(atoms)
    phonon = Phonopy(
        unit_cell,
        supercell_matrix=np.diag(repeats),
        primitive_matrix=guess_primitive_matrix(unit_cell, symprec=settings.symprec),
        symprec=settings.symprec,
        is_symmetry=settings.use_symmetry,
    )
    phonon.generate_displacements(
        distance=settings.displacement,
        is_plusminus="auto" if settings.two_sided is None else settings.two_sided,
        number_of_snapshots=settings.n_random,
        random_seed=settings.seed,
    )
    return phonon


def ase_supercells(phonon: Phonopy, atoms: Atoms) -> list[Atoms]:
    """The perfect supercell and all displaced ones, with charge and spin of the crystal."""
    displaced = phonon.supercells_with_displacements or []
    names = [name for places in STATE.values() for name in places]
    info = {name: atoms.info[name] for name in names if name in atoms.info}
    return [
        Atoms(c.symbols, cell=c.cell, scaled_positions=c.scaled_positions, pbc=True, info=info)
        for c in (phonon.supercell, *displaced)
    ]


def _check_masses(atoms: Atoms) -> None:
    """Refuse isotopes in places that phonopy, which looks at elements, takes for equivalent."""
    masses = atoms.get_masses()
    for symbol in set(atoms.symbols):
        if np.ptp(masses[atoms.symbols == symbol]) > 0:
            raise ValueError(
                f"atoms: {symbol} has several masses, but symmetry is that of the elements; give "
                "all of an element one mass, such as the mean"
            )


def _check_state(atoms: Atoms, repeats: tuple[int, int, int]) -> None:
    """Refuse a charge or spin of which no one knows how it is in a supercell."""
    if math.prod(repeats) == 1:
        return
    options = getattr(atoms.calc, "parameters", {})
    for name, neutral in _NEUTRAL.items():
        value = state_of(atoms, name, options.get(name, neutral))
        if value != neutral:
            raise ValueError(
                f"{name}: {value:g} of one cell does not say that of its {math.prod(repeats)} "
                f"repeats; give a structure that is the supercell, with the {name} of all of it, "
                "and supercell=(1, 1, 1)"
            )


def repeats_of(atoms: Atoms, settings: PhononSettings) -> tuple[int, int, int]:
    """Repeats of the unit cell in the supercell."""
    if settings.supercell is not None:
        return settings.supercell
    a, b, c = np.ceil(settings.min_length / atoms.cell.lengths() - 1e-9).astype(int).tolist()
    return max(a, 1), max(b, 1), max(c, 1)


def _phonopy_atoms(atoms: Atoms) -> PhonopyAtoms:
    """A left-handed cell, which phonopy refuses, is given by its negative: the same lattice."""
    if atoms.cell.handedness < 0:
        atoms = atoms.copy()
        atoms.set_cell(-atoms.cell.array)
    return PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
        cell=atoms.cell.array,
        scaled_positions=atoms.get_scaled_positions(wrap=False),
        masses=atoms.get_masses(),
    )

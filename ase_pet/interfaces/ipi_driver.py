"""i-PI: all beads of a path integral in one call, without sockets.

In i-PI's input (``pes_path`` is what ``python -m ase_pet.interfaces.ipi_driver`` prints):

    <ffdirect name="pet">
      <pes> custom </pes>
      <pes_path> /.../ase_pet/interfaces/ipi_driver.py </pes_path>
      <batch_size> 4 </batch_size>
      <parameters> {template: start.xyz, model: pet-ethanol, dtype: float64} </parameters>
    </ffdirect>

Over sockets, ASE's ``SocketClient`` does with ``PETCalculator`` as with any calculator.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ase_pet.interfaces.ase_calculator import PETCalculator

try:
    from ipi.pes._ase import ASEDriver
except ImportError as error:
    raise ImportError("i-PI is not installed; pip install 'ase_pet[ipi]'") from error

__DRIVER_NAME__ = "ase_pet"
__DRIVER_CLASS__ = "PETDriver"
#: What i-PI writes to its extras where the model predicts it.
_EXTRAS = ("dipole", "polarizability")


class PETDriver(ASEDriver):
    """Energies, forces and virials of one structure, or of a list of them at once.

    Dipoles (e·Å) and polarizabilities (e²Å²/eV) are among i-PI's extras if the model has them and
    the template is not periodic.

    Args:
        template: A file that ASE reads, with elements, order of atoms and periodicity.
        model: Path or name of a checkpoint.
        verbosity: What i-PI gives to all drivers.
        **options: Those of the calculator: ``dtype``, ``device``, ``symmetry``, ...

    Raises:
        CheckpointError: If the checkpoint cannot be read.
        UnknownSpeciesError: If the template has an element that the model does not know.
        ValueError: If an option is unknown or has a value that it cannot have.
    """

    def __init__(self, template: str, model: str, *, verbosity: Any = None, **options: Any) -> None:
        self.model, self.options = model, options
        super().__init__(template, verbosity=verbosity)

    def check_parameters(self) -> None:
        """Read the template and the model; i-PI calls it once."""
        super().check_parameters()
        self.ase_calculator = PETCalculator(self.model, **self.options)
        self.ase_calculator.set_atoms(self.template_ase)

    def compute(self, cell: Any, pos: Any) -> Any:
        """Evaluate one structure, or lists of equal length at once, in i-PI's units.

        Args:
            cell: [3, 3], bohr, lattice vectors in columns; or a list.
            pos: [n_atoms, 3], bohr; or a list.

        Returns:
            Energy (hartree), forces [n_atoms, 3] (hartree/bohr), virial [9] (hartree) and
            extras; of lists, a list.
        """
        if not isinstance(cell, list):
            return self.compute([cell], [pos])[0]
        structures = []
        for h, q in zip(cell, pos, strict=True):
            atoms = self.template_ase.copy()
            atoms.cell[:], atoms.positions[:] = self.convert_units(h, q)
            structures.append(atoms)
        wanted = (*self.capabilities, *_EXTRAS)
        return [
            self.post_process({name: found[name] for name in wanted if name in found}, atoms)
            for found, atoms in zip(
                self.ase_calculator.compute(structures), structures, strict=True
            )
        ]

    def compute_structure(self, cell: np.ndarray, pos: np.ndarray) -> Any:
        """Evaluate one structure; see :meth:`compute`."""
        return self.compute(cell, pos)


def main() -> None:
    """Say where i-PI finds this driver."""
    import sys

    sys.stdout.write(f"{__file__}\n")


if __name__ == "__main__":
    main()

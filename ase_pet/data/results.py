"""What an evaluation returns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ase_pet.data.system import expect


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """Energies and their derivatives for a batch of structures, all float64.

    Attributes:
        energies: [n_atoms], eV, energy of each atom; they add up to the structure's energy.
        forces: [n_atoms, 3], eV/Å.
        virials: [n_atoms, 3, 3], eV, the symmetrised Σ r ⊗ dE/dr over the edges of each atom;
            they add up to the structure's virial dE/dε. NaN where forces are direct.
        energy: [n_systems], eV.
        virial: [n_systems, 3, 3], eV; NaN where forces are direct and a stress is not.
        tensors: What else the model predicts, [n_systems, 3] or [n_systems, 3, 3] by name: dipole,
            e·Å; polarizability, e²Å²/eV.

    Raises:
        ValueError: If a shape or dtype is wrong.
    """

    energies: Tensor
    forces: Tensor
    virials: Tensor
    energy: Tensor
    virial: Tensor
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, s = self.energies.shape[0], self.energy.shape[0]
        expect("energies", self.energies, (n,), torch.float64)
        expect("forces", self.forces, (n, 3), torch.float64)
        expect("virials", self.virials, (n, 3, 3), torch.float64)
        expect("energy", self.energy, (s,), torch.float64)
        expect("virial", self.virial, (s, 3, 3), torch.float64)
        for name, value in self.tensors.items():
            expect(name, value, (s, *[3] * (value.dim() - 1)), torch.float64)

    def first_not_finite(self, system_index: Tensor, *, virial: bool) -> int | None:
        """Number of the first structure with a result that is not finite, if there is one.

        Args:
            system_index: [n_atoms], int64, the structure that each atom belongs to.
            virial: Whether virials are to be finite, too.
        """
        values = [self.energy, *self.tensors.values(), *([self.virial] if virial else [])]
        # Infinities and NaN stay such in a sum: one number, for which the host waits.
        if math.isfinite(sum((value.sum() for value in values), self.forces.sum())):
            return None
        finite = torch.isfinite(self.energy)
        finite[system_index[~torch.isfinite(self.forces).all(1)]] = False
        for value in values:
            finite &= torch.isfinite(value).view(len(finite), -1).all(1)
        return None if bool(finite.all()) else int(torch.nonzero(~finite)[0])

"""What an evaluation returns."""

from __future__ import annotations

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

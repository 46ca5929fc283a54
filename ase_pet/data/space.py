"""Where atoms are, for the few potentials whose energy is no function of edges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ase_pet.data.system import System, expect
from ase_pet.errors import GeometryError


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Positions and cells of structures that are periodic along all axes or none.

    They are never rotated: copies of a structure stand at the same sites.

    Attributes:
        positions: [n_sites, 3], Å, float64.
        cell: [n_systems, 3, 3], Å, float64, rows are lattice vectors; zero for finite structures.
        sites: [n_atoms], int64, the row of ``positions`` at which an atom of the graph is; -1 for
            one that stands for others and is nowhere. Copies of a structure follow each other,
            each with all sites in order.
        exact: Sums over all space depend on neither orientation nor origin, to rounding.
            Otherwise they are as fast as the model's authors have them.

    Raises:
        ValueError: If a shape or dtype is wrong.
    """

    positions: Tensor
    cell: Tensor
    sites: Tensor
    exact: bool = False

    def __post_init__(self) -> None:
        expect("positions", self.positions, (None, 3), torch.float64)
        expect("cell", self.cell, (None, 3, 3), torch.float64)
        expect("sites", self.sites, (None,), torch.int64)

    @staticmethod
    def of(system: System) -> Space:
        """The space of a batch.

        Raises:
            GeometryError: If a structure is periodic along one or two axes.
        """
        pbc = system.pbc.tolist()
        partly = [axes for axes in pbc if any(axes) and not all(axes)]
        if partly:
            raise GeometryError(
                "pbc: the model has long-range electrostatics, which are defined for structures "
                f"that are periodic along all three axes or none, got {partly[0]}; set pbc=True "
                "with enough vacuum in the cell, or pbc=False"
            )
        cell = system.cell * system.pbc.unsqueeze(-1)
        sites = torch.arange(system.n_atoms, device=cell.device)
        return Space(system.positions, cell, sites)

    def copied(self, atoms: Tensor, n_carriers: int) -> Space:
        """The space of copies of structures.

        Args:
            atoms: [n], the atoms of all copies.
            n_carriers: How many atoms follow that are nowhere.
        """
        nowhere = self.sites.new_full((n_carriers,), -1)
        return replace(self, sites=torch.cat([self.sites[atoms], nowhere]), exact=True)

    def leaf(self) -> Space:
        """The same space, to be differentiated with respect to positions and cells."""
        # Cloned, because tensors made in inference mode cannot become leaves.
        positions, cell = (
            x.detach().clone().requires_grad_(True) for x in (self.positions, self.cell)
        )
        return replace(self, positions=positions, cell=cell)

r"""Potentials of charges in a whole structure, beyond a radius that a network sees itself.

.. math:: V_i = \tfrac12 \sum_{j} q_j\, \frac{1 - f(r_{ij})}{r_{ij}}, \qquad
    f(r) = \tfrac12 (1 + \cos \pi r / r_c) \;\text{for}\; r < r_c, \text{ else } 0,

over all other atoms and their periodic images, in a background that makes a cell neutral. For
finite structures it is a plain sum. For periodic ones the potential of Gaussian charges is summed
in reciprocal space, and what it is within the radius taken away. On a mesh (P3M) this is fast, but
depends a little on where the mesh lies and, unless lattice vectors are along the axes, on the
orientation. The sum over all waves longer than :math:`0.9\,\sigma` (Ewald) does not.

The sums are those of torch-pme, an optional dependency.

Source:
    Loche et al., J. Chem. Phys. 162, 142501 (2025); https://github.com/lab-cosmo/torch-pme.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from ase_pet.data import Graph

#: Half the shortest wave of exact sums in widths of the Gaussians: exp(-24) of a wave is left out.
_EXACT = 0.45


@dataclass(frozen=True, slots=True, kw_only=True)
class Electrostatics:
    """Potentials of charges.

    Attributes:
        exclusion: Å, radius within which charges fade from each other's view.
        smearing: Å, width of the Gaussian charges.
        spacing: Å, largest distance between points of the mesh, times two.
        n_nodes: Points of the mesh along each axis over which a charge is spread, 1 to 5.

    Raises:
        ImportError: If torch-pme is not installed.
    """

    exclusion: float
    smearing: float
    spacing: float
    n_nodes: int

    def __post_init__(self) -> None:
        if find_spec("torchpme") is None:
            raise ImportError(
                "the model has long-range electrostatics, which need torch-pme; install it with "
                "pip install 'ase_pet[long-range]' or pip install torch-pme"
            )

    def __call__(self, charges: Tensor, graph: Graph) -> Tensor:
        """Potentials [n_atoms, n_channels], 1/Å times the charges; zero for atoms without a site.

        Args:
            charges: [n_atoms, n_channels], float64, of as many independent kinds as there are
                channels.
            graph: With a space.

        Raises:
            ValueError: If the graph has no space.
        """
        space = graph.space
        if space is None:
            raise ValueError(
                "graph: expected positions and cells, which long-range electrostatics need; build "
                "it with Graph.build(system, edges, whole=True)"
            )
        found = torch.zeros_like(charges)
        for k in range(graph.n_systems):
            atoms = ((graph.system_index == k) & (space.sites >= 0)).nonzero().flatten()
            if not len(atoms):
                continue
            sites = space.sites[atoms]
            n_copies = int((sites == sites[0]).sum())
            n = len(atoms) // n_copies
            # Copies share their sites: their charges are channels more.
            q = charges[atoms].view(n_copies, n, -1).transpose(0, 1).reshape(n, -1)
            v = self._solve(q, graph, k, int(atoms[0]), sites[:n])
            v = v.view(n, n_copies, -1).transpose(0, 1).reshape(len(atoms), -1)
            found = found.index_copy(0, atoms, v)
        return found

    def _solve(self, charges: Tensor, graph: Graph, k: int, first: int, sites: Tensor) -> Tensor:
        """Potentials [n, n_channels] in structure k, whose atoms begin at ``first``."""
        space, n = graph.space, len(sites)
        assert space is not None
        positions, cell = space.positions[sites], space.cell[k]
        periodic = bool((cell != 0).any())
        if periodic:
            own = ((graph.centers >= first) & (graph.centers < first + n)).nonzero().flatten()
            pairs = torch.stack([graph.centers[own], graph.others[own]], 1) - first
            vectors = graph.vectors[own]
        else:
            pairs = torch.combinations(torch.arange(n, device=sites.device), 2)
            vectors = positions[pairs[:, 1]] - positions[pairs[:, 0]]
        lengths = torch.linalg.vector_norm(vectors, dim=1).to(charges.dtype)
        calculator = self._calculator(periodic, space.exact).to(charges.device)

        def solve(q: Tensor) -> Tensor:
            v: Tensor = calculator(q, cell, positions, pairs, lengths)
            return v

        if charges.shape[1] <= n:
            return solve(charges)
        return solve(torch.eye(n, dtype=charges.dtype, device=charges.device)) @ charges

    def _calculator(self, periodic: bool, exact: bool) -> Any:
        from torchpme import Calculator, CoulombPotential, EwaldCalculator, P3MCalculator

        if not periodic:
            return Calculator(CoulombPotential(exclusion_radius=self.exclusion))
        potential = CoulombPotential(smearing=self.smearing, exclusion_radius=self.exclusion)
        if exact:
            waves = _EXACT * self.smearing
            return EwaldCalculator(potential, lr_wavelength=waves, full_neighbor_list=True)
        return P3MCalculator(
            potential,
            mesh_spacing=self.spacing,
            interpolation_nodes=self.n_nodes,
            full_neighbor_list=True,
        )

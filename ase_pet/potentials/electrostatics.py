r"""Potentials of charges in a whole structure, beyond a radius that a network sees itself.

.. math:: V_i = \tfrac12 \sum_{j} q_j\, v(r_{ij})\, (1 - f(r_{ij})), \qquad
    f(r) = \tfrac12 (1 + \cos \pi r / r_c) \;\text{for}\; r < r_c, \text{ else } 0,

over all other atoms and their periodic images. In a finite structure :math:`v(r) = 1/r`. In a
periodic one :math:`v(r) = \mathrm{erf}(r / \sqrt2\sigma) / r`, in a background that makes the cell
neutral; it is summed in reciprocal space, and what is within the radius is taken away,

.. math:: \sum_j q_j v(r_{ij}) \to \frac{4\pi}{V} \sum_{k \ne 0}
    \frac{e^{-\sigma^2 k^2 / 2}}{k^2} \sum_j q_j \cos k (r_i - r_j)
    - \sqrt{\frac{2}{\pi}} \frac{q_i}{\sigma} - \frac{2\pi\sigma^2}{V} \sum_j q_j .

On a mesh (P3M) the sum is fast, but depends a little on where the mesh lies and, unless lattice
vectors are along the axes, on the orientation. Over all waves (Ewald) it depends on neither.

The mesh is that of torch-pme, an optional dependency.

Source:
    Ewald, Ann. Phys. 369, 253 (1921); Loche et al., J. Chem. Phys. 162, 142501 (2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.errors import GeometryError

#: Longest wave vector of exact sums, 1/σ: exp(-24.5) of a wave is left out.
_LONGEST = 7.0
#: Most waves of a structure, and most values (waves × atoms) that are there at a time.
_MOST_WAVES, _BLOCK = 10_000_000, 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Electrostatics:
    """Potentials of charges.

    Attributes:
        exclusion: Å, radius within which charges fade from each other's view.
        smearing: Å, width of the Gaussian charges.
        spacing: Å, the mesh is at least twice as fine.
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
            charges: [n_atoms, n_channels], float64; channels do not see each other.
            graph: With a space.

        Raises:
            ValueError: If the graph has no space.
            GeometryError: If a cell is too large for an exact sum.
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
            if q.shape[1] > n:  # then those of unit charges are less work
                unit = torch.eye(n, dtype=q.dtype, device=q.device)
                v = self._solve(unit, graph, k, int(atoms[0]), sites[:n]) @ q
            else:
                v = self._solve(q, graph, k, int(atoms[0]), sites[:n])
            v = v.view(n, n_copies, -1).transpose(0, 1).reshape(len(atoms), -1)
            found = found.index_copy(0, atoms, v)
        return found

    def _solve(self, charges: Tensor, graph: Graph, k: int, first: int, sites: Tensor) -> Tensor:
        """Potentials [n, n_channels] in structure k, whose atoms begin at ``first``."""
        space, n = graph.space, len(sites)
        assert space is not None
        positions, cell = space.positions[sites], space.cell[k]
        if not bool((cell != 0).any()):
            return self._finite(charges, positions)
        own = ((graph.centers >= first) & (graph.centers < first + n)).nonzero().flatten()
        pairs = torch.stack([graph.centers[own], graph.others[own]], 1) - first
        lengths = torch.linalg.vector_norm(graph.vectors[own], dim=1)
        solve = self._ewald if space.exact else self._mesh
        return solve(charges, positions, cell, pairs, lengths)

    def _faded(self, lengths: Tensor) -> Tensor:
        """The f of distances [n], Å."""
        x = (lengths / self.exclusion).clamp_max(1.0)
        return 0.5 * (1.0 + torch.cos(math.pi * x))

    def _finite(self, charges: Tensor, positions: Tensor) -> Tensor:
        """The plain sum over other atoms."""
        n = len(positions)
        i, j = torch.triu_indices(n, n, 1, device=positions.device)
        lengths = torch.linalg.vector_norm(positions[j] - positions[i], dim=1)
        half = charges.new_zeros(n, n).index_put((i, j), (1.0 - self._faded(lengths)) / lengths)
        return 0.5 * (half + half.T) @ charges

    def _mesh(
        self, charges: Tensor, positions: Tensor, cell: Tensor, pairs: Tensor, lengths: Tensor
    ) -> Tensor:
        """The periodic sum as the authors of models evaluate it."""
        from torchpme import CoulombPotential, P3MCalculator

        calculator = P3MCalculator(
            CoulombPotential(smearing=self.smearing, exclusion_radius=self.exclusion),
            mesh_spacing=self.spacing,
            interpolation_nodes=self.n_nodes,
            full_neighbor_list=True,
        ).to(charges.device)
        found: Tensor = calculator(charges, cell, positions, pairs, lengths)
        return found

    def _ewald(
        self, charges: Tensor, positions: Tensor, cell: Tensor, pairs: Tensor, lengths: Tensor
    ) -> Tensor:
        """The periodic sum over all waves."""
        sigma = self.smearing
        volume: Tensor = torch.linalg.det(cell).abs()
        near = -self._faded(lengths) * torch.erf(lengths / (math.sqrt(2.0) * sigma)) / lengths
        found = -math.sqrt(2.0 / math.pi) / sigma * charges
        found = found - 2.0 * math.pi * sigma**2 / volume * charges.sum(0)
        found = found.index_add(0, pairs[:, 0], near[:, None] * charges[pairs[:, 1]])
        far = _in_blocks(charges, positions, self._waves(cell), sigma)
        return 0.5 * (found + 8.0 * math.pi / volume * far)

    def _waves(self, cell: Tensor) -> Tensor:
        """Wave vectors [n_waves, 3], 1/Å, one of each pair of opposite ones."""
        longest = _LONGEST / self.smearing
        most = (longest * cell.detach().norm(dim=1) / (2.0 * math.pi)).long().tolist()
        if (most[0] + 1) * (2 * most[1] + 1) * (2 * most[2] + 1) > _MOST_WAVES:
            raise GeometryError(
                f"cell: {float(torch.linalg.det(cell).abs()):.3g} Å³ are too much for an exact sum "
                "of long-range electrostatics; leave less vacuum, or set pbc=False for a molecule"
            )
        axes = [torch.arange(-m, m + 1, device=cell.device) for m in most]
        n = torch.cartesian_prod(axes[0][most[0] :], axes[1], axes[2])
        x, y, z = n.unbind(1)
        ahead = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
        waves = 2.0 * math.pi * n[ahead].to(cell.dtype) @ torch.linalg.inv(cell).T
        kept: Tensor = waves[waves.detach().norm(dim=1) < longest]
        return kept


def _in_blocks(charges: Tensor, positions: Tensor, waves: Tensor, sigma: float) -> Tensor:
    """The sum of :func:`_of_waves`, which keeps no more than a block of it in memory."""
    blocks = torch.split(waves, max(1, _BLOCK // len(positions)))
    if len(blocks) == 1:
        return _of_waves(charges, positions, waves, sigma)
    from torch.utils.checkpoint import checkpoint  # its first use imports a compiler

    total = torch.zeros_like(charges)
    for block in blocks:
        total = total + checkpoint(_of_waves, charges, positions, block, sigma, use_reentrant=False)
    return total


def _of_waves(charges: Tensor, positions: Tensor, waves: Tensor, sigma: float) -> Tensor:
    """Sum over waves [n_waves, 3] of exp(-σ²k²/2)/k² Σ_j q_j cos k(r_i - r_j), [n, n_channels]."""
    k2 = waves.square().sum(1)
    weights = torch.exp(-0.5 * sigma**2 * k2) / k2
    phases = positions @ waves.T
    cosines, sines = torch.cos(phases), torch.sin(phases)
    return (cosines * weights) @ (cosines.T @ charges) + (sines * weights) @ (sines.T @ charges)

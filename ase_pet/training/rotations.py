"""Random orientations: what a backbone without symmetry learns symmetry from."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ase_pet.data import Graph
from ase_pet.potentials.base import Potential


def random_rotations(n: int, generator: torch.Generator, *, reflections: bool) -> Tensor:
    r"""Draw orthogonal matrices from the uniform (Haar) distribution.

    A unit quaternion :math:`(w, v)` from four normal numbers gives
    :math:`R = (w^2 - v^2) 1 + 2 v v^T + 2 w [v]_\times`.

    Args:
        n: How many.
        generator: Source of randomness, on the CPU.
        reflections: Whether each is improper with probability one half.

    Returns:
        Matrices [n, 3, 3], float64.

    Source:
        Shoemake, Graphics Gems III, 124 (1992).
    """
    quaternions = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=1).unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrices = torch.stack([torch.stack(row, -1) for row in rows], 1)
    if reflections:
        signs = 1 - 2 * torch.randint(0, 2, (n, 1, 1), generator=generator)
        matrices = matrices * signs
    return matrices


class Rotated:
    """A potential that sees each atom's environment in an orientation of its own.

    The rotation acts on the edge vectors inside the function that is differentiated, so
    gradients come back in the original frame.

    Args:
        potential: What to evaluate.
        rotations: [n_atoms, 3, 3], one orthogonal matrix for each atom.
    """

    def __init__(self, potential: Potential, rotations: Tensor) -> None:
        self.potential = potential
        self.rotations = rotations
        self.cutoff = potential.cutoff
        self.n_layers = potential.n_layers

    def __call__(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV."""
        rotations = self.rotations[graph.centers].to(graph.vectors.dtype)
        vectors = torch.einsum("exy,ey->ex", rotations, graph.vectors)
        return self.potential(graph.with_vectors(vectors))


def rotate_randomly(
    potential: Potential,
    graph: Graph,
    kind: Literal["structure", "atom", "none"],
    generator: torch.Generator,
    *,
    reflections: bool,
) -> Potential:
    """Wrap a potential in new random orientations for the structures or atoms of a graph."""
    if kind == "none":
        return potential
    n = graph.n_atoms if kind == "atom" else graph.n_systems
    rotations = random_rotations(n, generator, reflections=reflections).to(graph.vectors.device)
    return Rotated(potential, rotations if kind == "atom" else rotations[graph.system_index])

"""Random orientations: what a backbone without symmetry learns symmetry from."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ase_pet.data import Graph
from ase_pet.potentials.base import Potential
from ase_pet.potentials.tensors import predict, tensors_of, turn

#: Å; how much farther a neighbour must be to be chosen e times less often.
_REACH = 0.3
#: Squares of sines below this are in line.
_IN_LINE = 0.02


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

        self.tensors = tensors_of(potential)

    def predict(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms], eV, and tensors of the atoms, turned back."""
        return _predict_turned(self.potential, graph, self.rotations.to(graph.vectors.dtype))

    def __call__(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV."""
        return self.predict(graph)[0]


class Framed:
    r"""A potential that sees each atom's environment in a coordinate system made by neighbours.

    .. math:: R = D\,[\hat u_e;\ \hat n;\ \hat u_e\times\hat n],
        \quad \hat n = \hat u_e\times\hat u_{e'}/|\hat u_e\times\hat u_{e'}|

    with two edges e, e' of the atom and signs D. These are the coordinate systems in which ECSE
    evaluates a backbone, and in them coordinates are invariants: angles are learned at once,
    while under uniformly random rotations a network first learns to ignore all but distances.
    The rotation moves with the neighbours, and gradients include that.

    Args:
        potential: What to evaluate.
        first: [n_atoms], edge e of each atom; -1 for an atom without neighbours.
        second: [n_atoms], edge e'; -1 where all neighbours are in line with e.
        fallback: [n_atoms, 3, 3], rotations that stand in for a missing edge.
        signs: [n_atoms, 3, 1], each 1 or -1.
    """

    def __init__(
        self, potential: Potential, first: Tensor, second: Tensor, fallback: Tensor, signs: Tensor
    ) -> None:
        self.potential = potential
        self.first, self.second = first, second
        self.fallback, self.signs = fallback, signs
        self.cutoff = potential.cutoff
        self.n_layers = potential.n_layers
        self.tensors = tensors_of(potential)

    def frames(self, vectors: Tensor) -> Tensor:
        """Coordinate systems [n_atoms, 3, 3] for edge vectors [n_edges, 3], Å."""
        if not len(vectors):
            return self.fallback
        a, b = vectors[self.first.clamp(min=0)], vectors[self.second.clamp(min=0)]
        u = normalize(torch.where(self.first[:, None] >= 0, a, self.fallback[:, 0]), dim=1)
        b = torch.where(self.second[:, None] >= 0, b, self.fallback[:, 1])
        n = normalize(torch.linalg.cross(u, b), dim=1)
        return self.signs * torch.stack([u, n, torch.linalg.cross(u, n)], 1)

    def predict(self, graph: Graph) -> tuple[Tensor, dict[str, Tensor]]:
        """Energies [n_atoms], eV, and tensors of the atoms, turned back."""
        return _predict_turned(self.potential, graph, self.frames(graph.vectors))

    def __call__(self, graph: Graph) -> Tensor:
        """Return energies [n_atoms], eV."""
        return self.predict(graph)[0]


def _predict_turned(
    potential: Potential, graph: Graph, rotations: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Evaluate each atom's environment in its orientation [n_atoms, 3, 3], and turn back."""
    vectors = torch.einsum("exy,ey->ex", rotations[graph.centers], graph.vectors)
    energies, tensors = predict(potential, graph.with_vectors(vectors))
    return energies, turn(tensors, rotations.transpose(1, 2))


def draw_frames(
    potential: Potential, graph: Graph, generator: torch.Generator, *, reflections: bool
) -> Framed:
    r"""Draw a coordinate system for each atom from its near neighbours.

    The first edge has probability :math:`\propto e^{-r/\tau}`, τ = 0.3 Å, the second
    :math:`\propto s\,e^{-r/\tau}` with :math:`s = |\hat u_e\times\hat u_{e'}|^2`.

    Args:
        potential: What to evaluate in these coordinate systems.
        graph: Structures.
        generator: Source of randomness, on the CPU.
        reflections: Whether half of the coordinate systems are left-handed.
    """
    vectors, centers = graph.vectors.detach(), graph.centers
    n_atoms, device = graph.n_atoms, graph.vectors.device
    r = vectors.norm(dim=1)

    def pick(log_weights: Tensor) -> Tensor:
        # The largest of log weight + Gumbel noise is a draw with these weights.
        noise = torch.rand(len(r), generator=generator, dtype=torch.float64).to(device)
        score = log_weights - (-noise.log()).log()
        best = score.new_full((n_atoms,), -torch.inf).scatter_reduce(0, centers, score, "amax")
        chosen = torch.nonzero((score == best[centers]) & (score > -torch.inf))[:, 0]
        return torch.full_like(graph.numbers, -1).index_put((centers[chosen],), chosen)

    first = pick(-r / _REACH)
    u = normalize(vectors, dim=1)
    s = torch.linalg.cross(u, u[first[centers].clamp(min=0)]).square().sum(1)
    second = pick(torch.where(s > _IN_LINE, s, 0.0).log() - r / _REACH)
    fallback = random_rotations(n_atoms, generator, reflections=False).to(device)
    signs = 1.0 - 2.0 * torch.randint(0, 2, (n_atoms, 3, 1), generator=generator).to(device)
    if not reflections:
        signs[:, 2] = signs[:, 0] * signs[:, 1]
    return Framed(potential, first, second, fallback, signs)


def orient_randomly(
    potential: Potential,
    graph: Graph,
    kind: Literal["structure", "atom", "none"],
    generator: torch.Generator,
    *,
    reflections: bool,
    frames: float = 0.0,
) -> Potential:
    """Wrap a potential in new random orientations for the structures or atoms of a graph.

    Args:
        potential: What to evaluate.
        graph: Structures.
        kind: Whether a structure or each atom has an orientation of its own, or none.
        generator: Source of randomness, on the CPU.
        reflections: Whether half of the orientations are improper.
        frames: Probability that the orientations of all atoms are coordinate systems of their
            neighbours, see :class:`Framed`.
    """
    if frames and float(torch.rand(1, generator=generator)) < frames:
        return draw_frames(potential, graph, generator, reflections=reflections)
    if kind == "none":
        return potential
    n = graph.n_atoms if kind == "atom" else graph.n_systems
    rotations = random_rotations(n, generator, reflections=reflections).to(graph.vectors.device)
    return Rotated(potential, rotations if kind == "atom" else rotations[graph.system_index])
